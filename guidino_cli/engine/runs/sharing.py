"""Runs as model folders to pass on: what goes into one, without the paths of a machine, and models of the hub."""

import json
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from guidino_cli.config import dump_config, parse_config
from guidino_cli.engine.runs.facts import FACTS_FILE
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import DataError
from guidino_cli.files import write_text
from guidino_cli.json_files import read_json_object
from guidino_cli.models.pretrained.catalogue import identify_weights

LIBRARY = "guidino"
_TUNED = ("post.json", "risk.json")
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|\\\\")


def write_model_folder(run: Path, folder: Path) -> None:
    """Write what `predict` needs of a run, its weights byte for byte, and `config.json` as the hub expects it.

    Absolute paths are cut to their last part; the command and the place of the training data are left out.

    Args:
        run: Run folder, or a folder that this function wrote.
        folder: An empty folder.

    Raises:
        DataError: No run folder, or a damaged one.
        WeightsError: No trained weights.
    """
    source = RunFolder(run)
    source.require_weights()
    write_settings(run, folder)
    shutil.copyfile(source.weights, folder / source.weights.name)
    if source.best.adapter.is_dir():
        shutil.copytree(source.best.adapter, folder / source.best.adapter.name)
    if source.best.notice.is_file():
        shutil.copyfile(source.best.notice, folder / source.best.notice.name)


def write_settings(run: Path, folder: Path, *, tuned: bool = True) -> None:
    """The part of `write_model_folder` beside the weights: settings, facts, `config.json`.

    Args:
        run: See `write_model_folder`.
        folder: Likewise.
        tuned: Also what `tune-post` and `tune-risk` found, which holds for the same masks only.
    """
    config, facts = RunFolder(run).config(), RunFolder(run).facts()
    shared = parse_config(without_folders(_with_hub_weights(asdict(config))))
    write_text(folder / "config.yaml", dump_config(replace(shared, data=replace(shared.data, root=None))))
    kept = without_folders({name: value for name, value in facts.items() if name != "command"})
    kept["data"] = {**kept["data"], "cases": PurePosixPath(kept["data"]["cases"]).name}
    _write_json(folder / FACTS_FILE, kept)
    for name in _TUNED if tuned else ():
        if (run / name).is_file():
            content = read_json_object(run / name, hint="make it again, or delete it")
            _write_json(folder / name, without_folders(content))
    _write_json(
        folder / "config.json",
        {
            "library_name": LIBRARY,
            "model_type": LIBRARY,
            "architectures": [config.model.segmenter.name],
            "id2label": {str(index): name for index, name in enumerate(facts["classes"])},
            "label2id": {name: index for index, name in enumerate(facts["classes"])},
            "image_size": config.data.image_size,
            "dims": config.data.dims,
            "guidino_version": facts.get("guidino"),
        },
    )


def _with_hub_weights(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings that name known weights by their place on the hub instead of a folder of this machine."""
    options = (settings["model"]["backbone"] or {}).get("options", {})
    source = str(options.get("weights", ""))
    known = identify_weights(source) if _is_absolute(source) or Path(source).is_dir() else None
    if known is not None:
        options["weights"] = known.repository
    return settings


def is_model_folder(folder: Path) -> bool:
    """Whether `write_model_folder` wrote a folder."""
    try:
        content = read_json_object(folder / "config.json", hint="")
    except DataError:
        return False
    return content.get("library_name") == LIBRARY and (folder / FACTS_FILE).is_file()


def without_folders(value: Any) -> Any:
    """A nested value in which every string that is an absolute path is cut to its last part."""
    if isinstance(value, dict):
        return {name: without_folders(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    if not isinstance(value, str):
        return value
    if not _is_absolute(value):
        return value
    return PureWindowsPath(value).name if _WINDOWS_PATH.match(value) else PurePosixPath(value).name


def _is_absolute(text: str) -> bool:
    return text.startswith(("/", "~")) or _WINDOWS_PATH.match(text) is not None


def _write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
