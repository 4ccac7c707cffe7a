"""Every setting with its values, default and meaning, from the dataclasses of settings and their docstrings."""

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml


@dataclass(frozen=True)
class SettingInfo:
    """One setting.

    Attributes:
        path: Dotted path, such as `train.lr`; of a list of sections, that of its first: `stages.0.lr`.
        values: Possible values in words, such as "number above 0".
        default: Default as YAML; "" if it must be given, or belongs to the settings below it.
        meaning: Its entry in the docstring of its section.
        choices: The values as they are typed, if they can be counted; else ().
    """

    path: str
    values: str
    default: str
    meaning: str
    choices: tuple[str, ...] = field(default=(), compare=False)


def list_setting_infos(section: Any, prefix: str = "") -> Iterator[SettingInfo]:
    """The settings of a dataclass and of the sections below it, in the order of their declaration."""
    hints, meanings = get_type_hints(section, include_extras=True), read_attributes(section)
    for item in fields(section):
        hint = hints[item.name]
        inner, is_list = _section_of(hint), get_origin(_without_none(hint)[0]) is list
        default = _default_of(item)
        # Defaults of a section are those of its settings, except where one of these has none of its own.
        is_spread = inner is not None and default is not None and (is_list or not _has_required(inner))
        text = "" if is_spread else _to_yaml(default)
        yield SettingInfo(prefix + item.name, _describe(hint), text, meanings.get(item.name, ""), _choices(hint))
        if inner is not None:
            yield from list_setting_infos(inner, f"{prefix}{item.name}.{'0.' if is_list else ''}")


def read_attributes(section: Any) -> dict[str, str]:
    """Entries of the part "Attributes:" of a docstring, each on one line."""
    _, _, entries = inspect.cleandoc(section.__doc__ or "").partition("Attributes:\n")
    found = re.findall(r"^ {4}(\w+): (.*(?:\n {8,}.*)*)", entries.partition("\n\n")[0], re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def _has_required(section: Any) -> bool:
    return any(_default_of(item) is MISSING for item in fields(section))


def _default_of(item: "Field[Any]") -> Any:
    """Default of a field, `MISSING` if it must be given."""
    if item.default_factory is not MISSING:
        return item.default_factory()
    return item.default


def _to_yaml(value: Any) -> str:
    if value is MISSING:
        return ""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    value = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000).removesuffix("...\n").strip()


def _section_of(hint: Any) -> Any:
    """The dataclass in `Section`, `Section | None` or `list[Section]`, None if there is none."""
    plain, _ = _without_none(hint)
    kinds = (plain, *get_args(plain)) if get_origin(plain) is list else (plain,)
    return next((kind for kind in kinds if is_dataclass(kind)), None)


def _without_none(hint: Any) -> tuple[Any, bool]:
    """A type without `| None`, and whether it had that."""
    if get_origin(hint) not in (Union, UnionType):
        return hint, False
    others = [kind for kind in get_args(hint) if kind is not NoneType]
    is_optional = len(others) < len(get_args(hint))
    return (others[0] if len(others) == 1 else Union[tuple(others)]), is_optional  # noqa: UP007


_NAMES: Mapping[Any, str] = {bool: "true or false", int: "whole number", float: "number", str: "text", Any: "any value"}


def _describe(hint: Any) -> str:
    """A type in words: "whole number above 0", "poly, cosine or constant", "list of text, or null"."""
    plain, is_optional = _without_none(hint)
    text = _describe_plain(plain)
    return f"{text}, or null" if is_optional else text


def _describe_plain(hint: Any) -> str:
    kind, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return "section"
    if kind is Annotated:
        return f"{_describe(arguments[0])}{_describe_bounds(hint)}"
    if kind is Literal:
        words = [value if isinstance(value, str) else _to_yaml(value) for value in arguments]
        return " or ".join(filter(None, (", ".join(words[:-1]), words[-1])))
    if kind is list:
        return "list of sections" if is_dataclass(arguments[0]) else f"list of: {_describe(arguments[0])}"
    if kind is tuple:
        return f"list of {len(arguments)}: {', '.join(map(_describe, arguments))}"
    if kind is dict:
        return f"mapping of names to: {_describe(arguments[1])}"
    if kind in (Union, UnionType):
        return " or ".join(map(_describe, arguments))
    return _NAMES.get(hint, str(hint))


def _choices(hint: Any) -> tuple[str, ...]:
    """The values of a choice or a switch as they are typed; () of other types."""
    plain, is_optional = _without_none(hint)
    values: tuple[Any, ...] = (True, False) if plain is bool else ()
    if get_origin(plain) is Literal:
        values = get_args(plain)
    texts = [value if isinstance(value, str) else _to_yaml(value) for value in values]
    return (*texts, *(["null"] if texts and is_optional else []))


def _describe_bounds(hint: Any) -> str:
    """Bounds of an annotated number: " above 0", " from 0 to 1"."""
    bounds: dict[str, Any] = {}
    for item in get_args(hint)[1:]:
        for part in (item, *getattr(item, "metadata", ())):
            bounds |= {name: getattr(part, name) for name in ("gt", "ge", "lt", "le") if hasattr(part, name)}
    low = f"above {bounds['gt']}" if "gt" in bounds else f"from {bounds['ge']}" if "ge" in bounds else ""
    high = f"below {bounds['lt']}" if "lt" in bounds else f"up to {bounds['le']}" if "le" in bounds else ""
    if low and high:
        return f" {low} to {high}" if high.startswith("below") else f" {low} {high}"
    return f" {low} on" if low.startswith("from") else f" {low or high}" if low or high else ""
