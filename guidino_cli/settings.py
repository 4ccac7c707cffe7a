"""Reading settings from YAML, overriding them with `a.b=c`, validating them by dataclass, and writing YAML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from guidino_cli.errors import ConfigError, closest_names, unknown_name
from guidino_cli.yaml_files import parse_yaml, read_yaml

C = TypeVar("C")


def read_settings(path: Path, overrides: Iterable[str] = (), *, example: str) -> dict[str, Any]:
    """Read the settings of a YAML file and apply `a.b=c` overrides, without validation; errors as of `load_preset`."""
    settings = read_yaml(path)
    settings = {} if settings is None else settings
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: expected settings such as {example}, found {type(settings).__name__}")
    apply_overrides(settings, overrides)
    return settings


def apply_overrides(settings: dict[str, Any], overrides: Iterable[str]) -> None:
    """Apply `a.b=c` overrides to a nested mapping, names of components first.

    Another component has other options, so setting a name discards the options of the previous one.
    """
    for override in sorted(overrides, key=lambda item: not item.partition("=")[0].endswith(".name")):
        _apply(settings, override)


def find_preset(preset: str, folder: Path, *, kind: str) -> Path:
    """File of a preset that is given by its name in a folder or by its path; `ConfigError` for an unknown name."""
    if Path(preset).suffix in {".yaml", ".yml"}:
        return Path(preset)
    names = list_presets(folder)
    if preset not in names and Path(preset).exists():
        raise ConfigError(
            f"{preset}: expected a {kind} as a .yaml file, or the name of one (`guidino presets` lists all)"
        )
    if preset not in names:
        raise ConfigError(unknown_name(kind, preset, names, lister="guidino presets"))
    return folder / f"{preset}.yaml"


def list_presets(folder: Path) -> list[str]:
    """Names of the presets in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def validate_settings(kind: type[C], settings: Mapping[str, Any], *, label: str) -> C:
    """Convert a nested mapping to its dataclass; `ConfigError` with the keys that are wrong."""
    try:
        built = TypeAdapter(kind).validate_python(dict(settings))
    except ValidationError as error:
        raise ConfigError(f"{label}: " + "; ".join(_line(detail, kind) for detail in error.errors())) from error
    if place := _find_converted_boolean(settings, built):
        raise ConfigError(f"{label}: {place}: input should be a number, found true or false")
    return built


def to_yaml(config: Any) -> str:
    """A configuration of any kind as YAML."""
    return yaml.safe_dump(_plain(asdict(config)), sort_keys=False, allow_unicode=True)


def _apply(settings: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: expected key=value, such as train.epochs=3")
    *path, last = key.split(".")
    for name in path:
        settings = _inner(settings, name, override)
    parsed = parse_yaml(value, label=f"--set {override}")
    if isinstance(parsed, dict) and any(item is None and ":" in str(name) for name, item in parsed.items()):
        # {dice:1} is a key "dice:1" without a value.
        spaced = re.sub(r":(?! )", ": ", value)
        raise ConfigError(f"--set {override}: put a space after each colon, as in '{key}={spaced}'")
    if isinstance(settings, list):
        _inner(settings, last, override)
        settings[int(last)] = parsed
        return
    if last == "name":
        replace_part(settings, parsed)
    if parsed is not None:
        replace_weights(settings, path, last)
    settings[last] = parsed


def replace_part(section: dict[str, Any], name: Any) -> bool:
    """Discard the options of a part if `name`, which it is about to get, is another one; whether there were some."""
    return section.get("name") != name and section.pop("options", None) is not None


def replace_weights(options: dict[str, Any], path: Sequence[str], key: str) -> str:
    """Discard the size of a backbone if its weights are about to be set, and the reverse: both select the weights.

    Args:
        options: The section.
        path: Its place; nothing is discarded in others than the options of a backbone.
        key: What is about to be set.

    Returns:
        What was discarded, or "".
    """
    if list(path[-2:]) not in (["backbone", "options"], ["student", "options"]) or key not in {"size", "weights"}:
        return ""
    other = "size" if key == "weights" else "weights"
    return other if options.pop(other, None) is not None else ""


def _find_converted_boolean(given: Any, built: Any) -> str:
    """Place of the first true or false that validation took for the number 1 or 0; "" if there is none."""
    if isinstance(given, Mapping):
        read = getattr if is_dataclass(built) else dict.get
        inner = {str(key): (value, read(built, key)) for key, value in given.items()}
    elif isinstance(given, list | tuple):
        inner = {str(index): pair for index, pair in enumerate(zip(given, built, strict=True))}
    else:
        is_converted = isinstance(given, bool) and isinstance(built, int | float) and not isinstance(built, bool)
        return "value" if is_converted else ""
    for key, (value, result) in inner.items():
        if place := _find_converted_boolean(value, result):
            return key if place == "value" else f"{key}.{place}"
    return ""


def _inner(settings: Any, name: str, override: str) -> Any:
    """The section of that name, which is created if missing, or the item of a list (`stages.0`)."""
    if isinstance(settings, list):
        if not name.isdigit() or int(name) >= len(settings):
            raise ConfigError(f"--set {override}: {name} is none of the {len(settings)} items, which count from 0")
        return settings[int(name)]
    if not isinstance(settings.get(name), dict | list):
        settings[name] = {}
    return settings[name]


def _plain(value: Any) -> Any:
    """The value with tuples as lists: YAML has no tuples."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _line(detail: Any, kind: type) -> str:
    """One pydantic error as `train.lr: what is wrong`."""
    is_unknown = detail["type"] in {"unexpected_keyword_argument", "extra_forbidden"}
    parts = [str(part) for part in detail["loc"]]
    # Capitalised parts are class names, except the last one, which may be a misspelt setting.
    last = parts[-1:] if is_unknown else []
    path = [part for part in parts[: len(parts) - len(last)] if not part[:1].isupper()] + last
    key = ".".join(path)
    if is_unknown:
        return f"{key}: " + _unknown_setting(path, _settings_at(path[:-1], kind), list_settings(kind))
    if detail["type"] == "missing":
        return f"{key}: must be given"
    if detail["type"] in {"dataclass_type", "dataclass_exact_type"}:
        return f"{key}: expected settings such as {{}} for its defaults, found {detail['input']!r:.100}"
    return f"{key}: {detail['msg'].lower()}, found {detail['input']!r:.100}"


def _unknown_setting(path: list[str], here: list[str], everywhere: list[str]) -> str:
    """Message for an unknown setting, which suggests the full path if another section has the name.

    Args:
        path: Path of the setting that does not exist.
        here: Settings of its section.
        everywhere: Dotted paths of all settings.
    """
    name = path[-1]
    names = {known.rpartition(".")[2] for known in everywhere}
    meant = [name] if name in names else closest_names(name, names, cutoff=0.75)
    if not meant or (name not in names and closest_names(name, here, cutoff=0.5 if path[:-1] else 0.75)):
        return unknown_name("setting", name, here, lister="guidino presets NAME --resolved")
    matches = [known for known in everywhere if known.rpartition(".")[2] == meant[0]]
    return f"unknown setting '{name}'; did you mean {' or '.join(map(repr, matches))}?"


def list_settings(section: Any, prefix: str = "") -> list[str]:
    """Dotted paths of all settings of a section and its subsections; of a list, those of its first item."""
    found = []
    for name, hint in get_type_hints(section).items():
        path = f"{prefix}{name}"
        found.append(path)
        inner = _section_type(hint)
        if inner is not None:
            found += list_settings(inner, f"{path}.0." if get_origin(hint) is list else f"{path}.")
    return found


def _section_type(hint: Any) -> Any:
    """The dataclass in a type such as `Section`, `Section | None` or `list[Section]`, None if there is none."""
    return next((kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)), None)


def _settings_at(path: list[str], kind: type) -> list[str]:
    """Names of the settings in the section of a configuration at a dotted path."""
    section: Any = kind
    for name in path:
        if name.isdigit():
            continue
        section = _section_type(get_type_hints(section).get(name))
        if section is None:
            return []
    return [item.name for item in fields(section)]
