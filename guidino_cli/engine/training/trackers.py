"""Experiment trackers: the metrics of every epoch for TensorBoard, Weights & Biases or MLflow, in the run folder."""

import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.tracking import GeneralTracker

from guidino_cli.config import RunConfig, dump_config
from guidino_cli.errors import ConfigError, DependencyError, first_line
from guidino_cli.files import write_text
from guidino_cli.progress import log_warning

TRACKERS_FOLDER = "trackers"
_PROJECT = "guidino"
_WANDB_ID, _MLFLOW_ID = "wandb-run.txt", "mlflow-run.txt"
_TRACKER_FILES = (_PROJECT, "wandb", "mlflow", "mlflow.db", _WANDB_ID, _MLFLOW_ID)


def require_tracker_packages(names: Sequence[str]) -> None:
    """`DependencyError` if a tracker's package is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise DependencyError(f"train.trackers: {name} is not installed; pip install 'guidino[{name}]'")


class Trackers:
    """The trackers of a run, through accelerate; used by the main process only.

    Args:
        accelerator: Accelerator of the run; created with `log_with` from the settings.
        run: The run's folder.
        config: Settings of the run.
    """

    def __init__(self, accelerator: Accelerator, run: Path, config: RunConfig) -> None:
        self._accelerator, self._run, self._config = accelerator, run, config
        self._folder = run / TRACKERS_FOLDER
        self._failed: set[str] = set()

    def start(self, *, is_new: bool) -> None:
        """Start logging a new run, or continue a resumed one.

        Raises:
            ConfigError: A tracker cannot be started.
        """
        names = self._config.train.trackers
        if not names or not self._accelerator.is_main_process:
            return
        if is_new:
            self._remove_old_files()
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._accelerator.init_trackers(_PROJECT, init_kwargs=self._arguments(names))
            self._save_mlflow_id(names)
            for tracker in self._accelerator.trackers if is_new else ():
                self._log_settings(tracker)
        except Exception as error:
            reason = first_line(error)
            raise ConfigError(f"train.trackers: {', '.join(names)} cannot be started ({reason})") from error

    def log(self, row: Mapping[str, Any]) -> None:
        """Log a row of the history; a tracker that fails is not used again, and training continues."""
        for tracker in self._accelerator.trackers:
            if tracker.name in self._failed:
                continue
            try:
                tracker.log(tracker_metrics(row, terms=self._config.train.loss), step=row["epoch"])
            except Exception as error:
                self._failed.add(tracker.name)
                log_warning(f"{tracker.name} failed and is not used any more ({error}); training continues")

    def finish(self) -> None:
        """Close all trackers."""
        for tracker in self._accelerator.trackers:
            try:
                tracker.finish()
            except Exception as error:
                log_warning(f"{tracker.name} could not be closed ({error}); the run itself is complete")
        self._accelerator.trackers = []

    def _remove_old_files(self) -> None:
        """Remove the files of an overwritten run, which would be mixed with the new ones."""
        for name in _TRACKER_FILES:
            path = self._folder / name
            if path.is_dir():
                shutil.rmtree(path)
            path.unlink(missing_ok=True)

    def _arguments(self, names: Sequence[str]) -> dict[str, dict[str, Any]]:
        name = self._run.resolve().name
        arguments: dict[str, dict[str, Any]] = {}
        if "wandb" in names:
            # Offline unless the user chooses otherwise.
            mode = os.environ.get("WANDB_MODE", "offline")
            os.environ.setdefault("WANDB_SILENT", "true")
            identity = self._read_id(_WANDB_ID) or uuid.uuid4().hex[:8]
            write_text(self._folder / _WANDB_ID, identity + "\n")
            arguments["wandb"] = {
                "dir": str(self._folder), "name": name, "id": identity, "resume": "allow", "mode": mode,
            }  # fmt: skip
        if "mlflow" in names:
            folder = self._folder.resolve()
            os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
            arguments["mlflow"] = {
                "logging_dir": (folder / "mlflow").as_uri(), "run_name": name, "run_id": self._read_id(_MLFLOW_ID),
            }  # fmt: skip
        return arguments

    def _save_mlflow_id(self, names: Sequence[str]) -> None:
        for tracker in self._accelerator.trackers:
            if tracker.name == "mlflow" and "mlflow" in names:
                write_text(self._folder / _MLFLOW_ID, tracker.tracker.info.run_id + "\n")

    def _read_id(self, name: str) -> str | None:
        path = self._folder / name
        return path.read_text(encoding="utf-8").strip() if path.is_file() else None

    def _log_settings(self, tracker: GeneralTracker) -> None:
        if tracker.name == "tensorboard":
            # Its own method writes them as a second run.
            tracker.log({"settings": "    " + dump_config(self._config).replace("\n", "\n    ")}, step=0)
        else:
            tracker.store_init_configuration(_flat(asdict(self._config)))


def tracker_metrics(row: Mapping[str, Any], *, terms: Mapping[str, float]) -> dict[str, Any]:
    """Metrics of a row with loss terms named "loss/...": a chart named "dice" would be mistaken for a score."""
    return {f"loss/{name}" if name in terms else name: value for name, value in row.items() if name != "epoch"}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
