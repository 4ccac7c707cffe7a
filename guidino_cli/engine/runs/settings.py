"""Settings of a trained run, read and checked without importing torch."""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from guidino_cli.config import ModelSettings, RunConfig, load_config, override
from guidino_cli.data.manifest import MANIFEST_NAME
from guidino_cli.errors import ConfigError, DataError


def read_run_config(path: Path) -> RunConfig:
    """The configuration of a run folder; `DataError` if it is none."""
    if not (path / "config.yaml").is_file():
        if runs := _runs_in(path):
            raise DataError(_describe_run_set(path, runs))
        if (run := _run_around(path)) is not None:
            raise DataError(f"{path}: a part of a run; did you mean {run}?")
        raise DataError(f"{path}: {_describe_folder(path)}; give the folder that `guidino train -o` wrote")
    return load_config(path / "config.yaml")


def resolve_run_config(path: Path, overrides: Iterable[str] = ()) -> RunConfig:
    """The configuration of a run folder with settings such as `predict.mirror=false`.

    Raises:
        ConfigError: Unknown setting, or one that changes the trained model or its training.
        DataError: No run folder.
    """
    trained = read_run_config(path)
    config = override(trained, overrides)
    _require_prediction_settings(path, overrides)
    require_same_model(path, trained.model, config.model)
    return config


def _run_around(path: Path) -> Path | None:
    """The run folder that a file or folder such as RUN/best or RUN/best/model.safetensors is a part of."""
    if not path.exists():
        return None
    return next((folder for folder in path.parents[:3] if (folder / "config.yaml").is_file()), None)


def _runs_in(path: Path) -> list[Path]:
    """Run folders directly in a folder, such as those of `train --seeds`; seed10 comes after seed9."""
    found = [item.parent for item in path.glob("*/config.yaml")]
    return sorted(found, key=lambda run: (len(run.name), run.name))


def _describe_run_set(path: Path, runs: Sequence[Path]) -> str:
    """Message for a set of runs where one run is expected: its runs, and the command that averages them."""
    names = f"{', '.join(run.name for run in runs[:4])}{', ...' if len(runs) > 4 else ''}"
    others = [word for run in runs[1:] for word in ("--ensemble", str(run))]
    together = shlex.join(["guidino", "predict", str(runs[0]), "IMAGES", "-o", "MASKS", *others])
    average = f", or average them all: {together}" if others else ""
    return f"{path}: a set of runs, not one of them ({names}); give one, such as {runs[0]}{average}"


def _describe_folder(path: Path) -> str:
    """Description of a folder that is not a run, to point out likely mix-ups."""
    if not path.exists():
        return "no such folder"
    if (path / MANIFEST_NAME).is_file():
        return "prepared data, not a run"
    return "no config.yaml, so not a run"


def _require_prediction_settings(path: Path, overrides: Iterable[str]) -> None:
    """`ConfigError` for settings of training, which have no effect any more."""
    for item in overrides:
        section, key = item.partition(".")[0], item.partition("=")[0]
        if section not in {"predict", "model"}:
            raise ConfigError(
                f"--set {key}: {path} is trained already; only predict.* can be set here, {key} when training"
            )


def require_same_model(path: Path, old: ModelSettings, new: ModelSettings) -> None:
    """`ConfigError` if two model configurations differ in more than the source of the backbone's weights."""
    before, after = _flat(asdict(old)), _flat(asdict(new))
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    # A folder or file instead of the short name; their hash tells whether the weights are the same.
    allowed = {
        "backbone.options.weights",
        *(["backbone.options.size"] if "backbone.options.weights" in changed else []),
    }
    for name in changed:
        if name not in allowed:
            raise ConfigError(
                f"{path}: model.{name} is what the run was trained with; only model.backbone.options.weights may change"
            )


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
