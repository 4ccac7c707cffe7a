"""Completions of presets, settings and run folders by the Tab key; `guidino --install-completion` turns it on.

Nothing heavy is imported, and no error leaves a function: a shell would print it into the command line.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from glob import escape, glob
from pathlib import Path
from typing import Any

import typer

# A folder of a data set may hold a hundred thousand files.
_MAX_ENTRIES = 2000
# The section that a command is about: its settings come first.
_FIRST = dict.fromkeys(("predict", "tune-post", "tune-risk", "visualize-guide"), "predict.")


def complete_preset(incomplete: str) -> list[str]:
    """Names of presets of training, and YAML files."""
    from guidino_cli.config import preset_names

    return [*_starting(preset_names(), incomplete), *_yaml_files(incomplete)]


def complete_pretraining_preset(incomplete: str) -> list[str]:
    """Names of presets of pretraining, and YAML files."""
    from guidino_cli.pretrain_config import pretrain_preset_names

    return [*_starting(pretrain_preset_names(), incomplete), *_yaml_files(incomplete)]


def complete_any_preset(incomplete: str) -> list[str]:
    """Names of all presets, and YAML files."""
    from guidino_cli.config import preset_names
    from guidino_cli.pretrain_config import pretrain_preset_names

    return [*_starting([*preset_names(), *pretrain_preset_names()], incomplete), *_yaml_files(incomplete)]


def complete_setting(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Settings of the command as `train.epochs=`, with their meaning; of a single one also what it can be.

    Two entries keep bash from adding a space after the equals sign.
    """
    from guidino_cli.config import RunConfig
    from guidino_cli.pretrain_config import PretrainConfig
    from guidino_cli.settings_reference import list_setting_infos

    command = str(ctx.info_name)
    every = list_setting_infos(PretrainConfig if command == "pretrain" else RunConfig)
    # A section is no value, unless it may be null.
    infos = [info for info in every if info.values not in {"section", "list of sections"}]
    first = _FIRST.get(command, "train.")
    infos.sort(key=lambda info: not info.path.startswith(first))
    key, separator, value = incomplete.partition("=")
    if separator:
        found = [info for info in infos if info.path == key]
        return [(f"{key}={item}", info.meaning) for info in found for item in _values(info) if item.startswith(value)]
    found = [info for info in infos if info.path.startswith(key)]
    names = [(f"{info.path}=", info.meaning) for info in found]
    if len(found) == 1:
        names += [(f"{found[0].path}={item}", found[0].meaning) for item in _values(found[0])]
    return names


def complete_run(incomplete: str) -> list[str]:
    """Run folders, and the folders on the way to them; nothing if there are none, so that the shell offers files."""
    with suppress(OSError):
        return list(_wanted(incomplete, _is_run))
    return []


def complete_reported(incomplete: str) -> list[str]:
    """Folders that `report` takes (runs, evaluations, guides), and those that contain them."""
    with suppress(OSError):
        return list(_wanted(incomplete, _is_reported))
    return []


def _wanted(incomplete: str, is_wanted: Callable[[str], bool]) -> Iterator[str]:
    folders = _folders(incomplete, is_wanted)
    # A folder with nothing to choose beside it is opened at once: bash would put a space after it.
    while len(folders) == 1 and not is_wanted(folders[0]):
        folders = _folders(f"{folders[0]}{os.sep}", is_wanted)
    for folder in folders:
        yield folder if is_wanted(folder) else f"{folder}{os.sep}"


def _folders(start: str, is_wanted: Callable[[str], bool]) -> list[str]:
    """Wanted folders, and those with folders in them, whose paths begin so; hidden ones only if the dot was typed."""
    return [path for path in _all_folders(start) if is_wanted(path) or _all_folders(f"{path}{os.sep}")]


def _all_folders(start: str) -> list[str]:
    found = sorted(glob(f"{escape(os.path.expanduser(start))}*"))[:_MAX_ENTRIES]
    return [path for path in found if os.path.isdir(path)]


def _is_run(folder: str) -> bool:
    return (Path(folder) / "config.yaml").is_file() and (Path(folder) / "run.json").is_file()


def _is_reported(folder: str) -> bool:
    return _is_run(folder) or any((Path(folder) / name).is_file() for name in ("report.json", "guides.json"))


def _yaml_files(incomplete: str) -> list[str]:
    with suppress(OSError):
        start = escape(os.path.expanduser(incomplete))
        return sorted({*glob(f"{start}*.yaml"), *glob(f"{start}*.yml")})[:_MAX_ENTRIES]
    return []


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _values(info: Any) -> list[str]:
    """Possible values of a setting, or its default if they cannot be listed."""
    return list(info.choices) or ([info.default] if info.default else [])
