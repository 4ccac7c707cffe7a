"""Reading YAML: every fault of bytes, syntax or values becomes a `ConfigError` that names its source."""

import itertools
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from guidino_cli.errors import ConfigError, UserError, file_errors

# PyYAML reads some 100 kB a second; the longest preset has 3 kB.
_MAX_BYTES = 200_000
# Aliases count as often as they are used: ten lines can stand for a billion values.
_MAX_VALUES, _MAX_DEPTH = 100_000, 50
_HINT = "correct it, or start from `guidino presets NAME`"


class _Loader(yaml.SafeLoader):
    """YAML loader that reads `1e-4` as a number, and `no`, dates and `1:30` as text, where PyYAML follows YAML 1.1."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping; `ConstructorError` if a key is given twice, of which PyYAML would drop the first."""
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        twice = next((key for key in keys if keys.count(key) > 1), None) if len(set(keys)) < len(keys) else None
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"'{twice:.60}' is given twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


_BOOL, _DATE, _INT = (f"tag:yaml.org,2002:{name}" for name in ("bool", "timestamp", "int"))
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in {_BOOL, _DATE, _INT}]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# As YAML 1.2 reads them: 010 is not octal 8, and 1:30 not 90 in base 60.
_Loader.add_implicit_resolver(
    _INT, re.compile(r"^[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def read_yaml(path: Path, *, hint: str = _HINT, error: type[UserError] = ConfigError) -> Any:
    """Content of a YAML file.

    Args:
        path: UTF-8 text, with or without a byte order mark.
        hint: Advice at the end of a message.
        error: Class of an error.

    Raises:
        UserError: Of class `error`: missing, not UTF-8, not YAML, too large, nested too deep, a key given
            twice, or a value that is no text, finite number, true, false or null.
    """
    with file_errors(path, "not valid YAML", error=error, hint=hint):
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES // 1000} kB")
        return _parse(content.decode("utf-8-sig"))


def parse_yaml(text: str, *, label: str) -> Any:
    """Parse YAML; errors as of `read_yaml`, with the label in the place of the file."""
    with file_errors(label, "not valid YAML", error=ConfigError, hint=_HINT):
        return _parse(text)


def _parse(text: str) -> Any:
    try:
        value = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f"line {error.problem_mark.line + 1}: "
        raise ValueError(f"{line}{error.problem}") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    return _copy_plain(value, itertools.count(1))


def _copy_plain(value: Any, counter: Iterator[int], depth: int = 0) -> Any:
    """The value without shared parts; `ValueError` for what no setting can be.

    Aliases share a part, which a setting of one would change in the other, and may contain themselves.
    """
    if depth > _MAX_DEPTH:
        raise ValueError(f"nested more than {_MAX_DEPTH} levels deep")
    if next(counter) > _MAX_VALUES:
        raise ValueError(f"more than {_MAX_VALUES:,} values")
    if isinstance(value, dict):
        keys = [_copy_plain(key, counter, depth + 1) for key in value]
        return dict(zip(keys, (_copy_plain(item, counter, depth + 1) for item in value.values()), strict=True))
    if isinstance(value, list):
        return [_copy_plain(item, counter, depth + 1) for item in value]
    _require_plain_scalar(value)
    return value


def _require_plain_scalar(item: Any) -> None:
    if isinstance(item, str):
        item.encode()
        if "\0" in item:
            raise ValueError("text with the character \\0")
    elif isinstance(item, float):
        if not math.isfinite(item):
            raise ValueError(f"the number {item}, expected finite ones")
    elif isinstance(item, int):
        if abs(item) >= 2**63:
            raise ValueError("an integer of more than 64 bits")
    elif item is not None:
        raise ValueError(f"a value of type {type(item).__name__}, expected text, numbers, true, false or null")
