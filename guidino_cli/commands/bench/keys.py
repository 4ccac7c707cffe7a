"""Sections, mappings, texts and names of a YAML file; each error has the path of its key."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guidino_cli.errors import ConfigError, unknown_name
from guidino_cli.files import describe_unsafe_name

HINT = "see docs/bench.md"


def read_section(value: Any, source: str, place: str, known: Sequence[str]) -> dict[str, Any]:
    """A mapping that has known keys only."""
    where = f"{source}: {place}" if place else source
    if not isinstance(value, dict):
        found = "nothing" if value is None else type(value).__name__
        raise ConfigError(f"{where}: expected {', '.join(known[:4])}, ..., found {found}; {HINT}")
    for key in value:
        if key not in known:
            full = f"{place}.{key}" if place else str(key)
            raise ConfigError(f"{source}: {full}: {unknown_name('key', str(key), known)}")
    return value


def read_mapping(value: Any, path: Path, place: str, example: str) -> dict[str, Any]:
    """A mapping whose keys are text."""
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {place}: expected {example}, found {type(value).__name__}")
    if wrong := next((key for key in value if not isinstance(key, str)), None):
        raise ConfigError(f"{path}: {place}: the key {wrong!r} is no text; put it in quotes")
    return value


def read_text(value: Any, path: Path, place: str) -> str:
    """Text, and nothing that YAML reads as a number or truth value."""
    if not isinstance(value, str):
        raise ConfigError(f"{path}: {place}: expected text, found {value!r:.80}")
    return value


def require_names(names: Mapping[str, Any], path: Path, place: str) -> None:
    """`ConfigError` for names that cannot be folders, or that some file systems do not tell apart."""
    seen: dict[str, str] = {}
    for name in names:
        if reason := describe_unsafe_name(name):
            raise ConfigError(f"{path}: {place}: the name {name!r:.60} {reason}; it becomes a folder")
        first = seen.setdefault(name.casefold(), name)
        if first != name:
            raise ConfigError(f"{path}: {place}: {first} and {name} would be one folder on some systems; rename one")
