"""Reading JSON files: every fault, of bytes, syntax or types, becomes one error that names the file."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from guidino_cli.errors import DataError, UserError, file_errors

R = TypeVar("R")

_LARGEST_INTEGER = 2**63 - 1
# Half a million cases; devices such as /dev/zero never end.
_LARGEST_FILE = 200_000_000


def read_json(path: Path, *, hint: str, error: type[UserError] = DataError, max_bytes: int = _LARGEST_FILE) -> Any:
    """Content of a JSON file.

    Args:
        path: UTF-8 text, with or without a byte order mark.
        hint: Advice at the end of a message.
        error: Class of an error about the file.
        max_bytes: Size of the largest file that is read.

    Raises:
        UserError: Of class `error`: missing, not UTF-8, not JSON, nested too deep, a key given twice in an object,
            NaN, a number beyond double precision or 64 bits, or text that is no Unicode.
    """
    with file_errors(path, "damaged", error=error, hint=hint):
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
        if not content:
            raise ValueError("it is empty, 0 bytes")
        if len(content) > max_bytes:
            raise ValueError(f"larger than {max_bytes // 1_000_000} MB")
        return parse_json(content)


def read_json_object(
    path: Path, *, hint: str, error: type[UserError] = DataError, max_bytes: int = _LARGEST_FILE
) -> dict[str, Any]:
    """Content of a JSON file that holds an object; errors as of `read_json`."""
    content = read_json(path, hint=hint, error=error, max_bytes=max_bytes)
    if not isinstance(content, dict):
        raise error(f"{path}: damaged (a JSON {type(content).__name__}, expected an object); {hint}")
    return content


def parse_json(content: bytes) -> Any:
    """Parse JSON that other programs may have written or cut.

    Raises:
        ValueError: See `read_json`.
        RecursionError: Nested too deep.
    """
    text = content.decode("utf-8-sig")
    value = json.loads(
        text,
        object_pairs_hook=_unique_keys,
        parse_float=_parse_float,
        parse_int=_parse_int,
        parse_constant=_refuse_constant,
    )
    if "\\u0000" in text:
        raise ValueError("text with a zero byte, which no name or path may hold")
    if "\\u" in text:
        # Half of a surrogate pair cannot be printed, written or part of a path.
        json.dumps(value, ensure_ascii=False).encode()
    return value


def require_type(
    value: Any, kind: type[R], *, source: Path, hint: str, error: type[UserError] = DataError, what: str = ""
) -> R:
    """The value itself if its types are those of a `TypedDict`, or as a dataclass; nothing is converted.

    Args:
        value: Content of a JSON file, or a part of it.
        kind: What is expected; keys that it does not have are left as they are, or out of a dataclass.
        source: The file.
        hint: Advice at the end of a message.
        error: Class of an error.
        what: Place of the value in the file, such as "blueprint".

    Raises:
        UserError: Of class `error`, with the first entry that is missing or of another type.
    """
    from pydantic import TypeAdapter, ValidationError

    adapter = TypeAdapter(kind)
    try:
        if hasattr(kind, "__dataclass_fields__"):
            # Strict validation takes objects as a dataclass only from JSON.
            return adapter.validate_json(json.dumps(value), strict=True)
        return adapter.validate_python(value, strict=True)
    except ValidationError as cause:
        first = cause.errors()[0]
        place = ".".join(filter(None, [what, *map(str, first["loc"])])) or "content"
        found = "" if first["type"] == "missing" else f", found {first['input']!r:.60}"
        raise error(f"{source}: damaged ({place}: {first['msg'].lower()}{found}); {hint}") from cause


def read_record(path: Path, kind: type[R], *, hint: str, error: type[UserError] = DataError) -> R:
    """A JSON object as a dataclass; errors as of `read_json` and `require_type`."""
    return require_type(read_json_object(path, hint=hint, error=error), kind, source=path, hint=hint, error=error)


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> Mapping[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"holds {twice!r:.60} twice")
    return content


def _parse_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"holds {text:.30}, expected numbers of double precision")
    return value


def _parse_int(text: str) -> int:
    # Python refuses more than 4,300 digits with advice that nobody can follow here.
    value = int(text) if len(text) < 30 else None
    if value is None or abs(value) > _LARGEST_INTEGER:
        raise ValueError(f"holds {text:.30}, expected integers of 64 bits")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(f"holds {name}, expected numbers")
