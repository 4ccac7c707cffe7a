"""Presets that inherit: `base: own-unet` in a file, the merged settings, and the preset that each value comes from."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from guidino_cli.errors import ConfigError
from guidino_cli.settings import apply_overrides, find_preset, read_settings, replace_part, replace_weights

BASE = "base"
# What a preset says about itself: one that differs is not the row of a paper that its base is.
_OWN = ("description", "paper")


@dataclass(frozen=True)
class MergedPreset:
    """Settings of a preset over those of its bases.

    Attributes:
        names: The preset as it was named, its base, the base of that, and so on.
        settings: The merged settings, not validated.
        origins: Dotted path of each value -> the one of `names` that gives it. What is not in it has its default.
    """

    names: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name for messages: the preset with its bases, any of which may hold what is wrong."""
        bases = f" (base {', '.join(self.names[1:])})" if len(self.names) > 1 else ""
        return f"{self.names[0]}{bases}"


def read_preset(preset: str, folder: Path, *, kind: str, example: str, overrides: Iterable[str] = ()) -> MergedPreset:
    """Read a preset, and the bases that it and they name.

    A base is the name of a packaged preset, or the path of a YAML file, relative to the file that names it.
    Sections are merged; numbers, texts, lists and null replace what the base says. As with `--set`, another `name` of
    a part discards the options of the previous one. `description` and `paper` are not inherited.

    Args:
        preset: Name or path of a YAML file.
        folder: Folder of the packaged presets.
        kind: What it is, for messages.
        example: Of settings, for messages.
        overrides: `a.b=c`, put over the merged settings; `origins` leaves them out.

    Raises:
        ConfigError: Unknown preset or base, unreadable file, bases that lead back to a file before them, or an override
            of the base.
    """
    overrides = list(overrides)
    _refuse_base(overrides)
    layers = list(_chain(preset, folder, kind=kind, example=example))
    merged = MergedPreset(tuple(name for name, _ in layers))
    for name, settings in reversed(layers):
        _merge(settings, merged.settings, merged.origins, name)
    apply_overrides(merged.settings, overrides)
    return merged


def _chain(preset: str, folder: Path, *, kind: str, example: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and own settings of the preset, then of its base, and so on."""
    name, path, seen = preset, find_preset(preset, folder, kind=kind), list[Path]()
    while True:
        seen.append(path.resolve())
        settings = read_settings(path, example=example)
        _refuse_misspelt(settings, path)
        base = settings.pop(BASE, None)
        yield name, {key: value for key, value in settings.items() if len(seen) == 1 or key not in _OWN}
        if base is None:
            return
        where = f"{path}: {BASE}"
        if not isinstance(base, str) or not base.strip():
            raise ConfigError(f"{where}: expected the name of a preset or the path of a YAML file, found {base!r:.100}")
        try:
            found = find_preset(base, folder, kind=kind)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        # Names of packaged presets lead to files with absolute paths.
        path = path.parent / found.expanduser()
        if not path.is_file():
            raise ConfigError(
                f"{where}: {base}: no such file ({path}); a base is a path relative to the file that names it, or a "
                "name of `guidino presets`"
            )
        if path.resolve() in seen:
            circle = [*seen[seen.index(path.resolve()) :], path]
            raise ConfigError(
                f"{where}: {base} leads back to itself ({' -> '.join(item.name for item in circle)}); "
                f"remove one `{BASE}`"
            )
        name = base


def _refuse_base(overrides: Iterable[str]) -> None:
    """`ConfigError` for a base among `--set`: settings of a base are below those of the preset, overrides above."""
    for item in overrides:
        if item.partition("=")[0] == BASE:
            value = item.partition("=")[2] or "NAME"
            raise ConfigError(
                f"--set {item}: a base is named in a preset file (`base: {value}`); or give --preset {value}"
            )


def _refuse_misspelt(settings: Mapping[str, Any], path: Path) -> None:
    for key in settings:
        if key != BASE and str(key).lower() not in _OWN and get_close_matches(str(key).lower(), [BASE], cutoff=0.75):
            raise ConfigError(f"{path}: unknown setting '{key}'; did you mean '{BASE}'?")


def _merge(update: Mapping[str, Any], into: dict[str, Any], origins: dict[str, str], name: str, path: str = "") -> None:
    """Put the settings of a preset over those of its base, and note where they come from."""
    if "name" in update and replace_part(into, update["name"]):
        _forget(f"{path}options", origins)
    for key in ("size", "weights"):
        if update.get(key) is not None and (other := replace_weights(into, path.split(".")[:-1], key)):
            _forget(f"{path}{other}", origins)
    for key, value in update.items():
        place = f"{path}{key}"
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(value, into[key], origins, name, f"{place}.")
            continue
        _forget(place, origins)
        into[key] = value
        origins |= dict.fromkeys(_leaves(value, place), name)


def _forget(place: str, origins: dict[str, str]) -> None:
    for path in [path for path in origins if path == place or path.startswith(f"{place}.")]:
        del origins[path]


def _leaves(value: Any, place: str) -> Iterator[str]:
    """Paths of the values of a section; an empty one is a value itself."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}")
    else:
        yield place
