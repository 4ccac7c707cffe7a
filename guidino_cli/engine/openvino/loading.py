"""Load a network for OpenVINO with the settings and facts of its run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from guidino_cli.config import RunConfig
from guidino_cli.engine.cpu_features import has_amx, has_vnni, may_overflow_int8
from guidino_cli.engine.openvino.folder import EngineFacts, EngineFolder, is_engine_folder
from guidino_cli.engine.openvino.network import OpenVinoNetwork
from guidino_cli.engine.openvino.packages import package_versions
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.runs.settings import resolve_run_config
from guidino_cli.errors import ConfigError
from guidino_cli.progress import log_warning


@dataclass(frozen=True)
class OpenVinoRun:
    """A run whose network is compiled.

    Attributes:
        network: Ready to predict.
        config: Settings of the run.
        facts: `run.json` of the run.
        engine: What `engine.json` says.
    """

    network: OpenVinoNetwork
    config: RunConfig
    facts: dict[str, Any]
    engine: EngineFacts

    @property
    def title(self) -> str:
        """Engine and precision for people."""
        return f"OpenVINO, {'full precision' if self.engine['precision'] == 'f32' else 'int8'}"

    @property
    def record(self) -> dict[str, Any]:
        """Engine, precision, version and the CPU's instructions, for the record of a prediction; None if not known."""
        version = package_versions("openvino")["openvino"]
        precision = self.engine["precision"]
        return {"name": "openvino", "precision": precision, "version": version, "vnni": has_vnni(), "amx": has_amx()}


def load_network(path: Path, *, overrides: Sequence[str] = ()) -> OpenVinoRun:
    """Check and compile the network of a folder of `guidino export --openvino`.

    Args:
        path: The folder.
        overrides: Settings such as `predict.mirror=false`.

    Raises:
        ConfigError: Settings that only the run itself can follow.
        DataError: Settings or facts of the run are missing or damaged.
        DependencyError: OpenVINO is missing.
        WeightsError: A file of the network is missing or changed.
    """
    config = resolve_run_config(path, overrides)
    folder = EngineFolder(path)
    engine = folder.facts()
    exported = resolve_run_config(path)
    require_one_piece(path, config, engine["run"])
    if config.predict.precision not in {"auto", "no", exported.predict.precision}:
        raise ConfigError(
            f"{path}: predict.precision={config.predict.precision} is for torch; the precision of a network for "
            f"OpenVINO is chosen when it is exported; leave it out, or give run {engine['run']}"
        )
    if config.model != exported.model:
        raise ConfigError(f"{path}: holds its backbone's weights; leave out --set model.*, or give run {engine['run']}")
    facts = RunFolder(path).facts()
    folder.verify()
    rounds_only = engine["precision"] == "int8" and may_overflow_int8()
    network = OpenVinoNetwork(folder.network, has_guide=engine["has_guide"], rounds_only=rounds_only)
    if rounds_only:
        vnni = "has no VNNI instructions" if has_vnni() is False else "may lack VNNI instructions (guidino cannot tell)"
        log_warning(f"this CPU {vnni}, so int8 works but is no faster than full precision")
    return OpenVinoRun(network, config, facts, engine)


def require_one_piece(path: Path, config: RunConfig, run: str) -> None:
    """`ConfigError` if the backbone is to run by itself, which only the run of this name can do."""
    if config.predict.mirror_backbone == "once" and config.mirror:
        raise ConfigError(
            f"{path}: predict.mirror_backbone=once runs the backbone by itself, but an OpenVINO network is one piece; "
            f"--set predict.mirror_backbone=each, or give run {run}"
        )


def pick_engine_device(paths: Sequence[Path], name: str | None) -> torch.device | None:
    """The CPU if one of these folders holds a network for OpenVINO, else None.

    Args:
        paths: Folders of runs, which are averaged.
        name: Value of --device.

    Raises:
        ConfigError: Another device was named.
    """
    found = next((path for path in paths if is_engine_folder(path)), None)
    if found is None:
        return None
    if name not in {None, "cpu"}:
        raise ConfigError(f"--device {name}: {found} holds a network for OpenVINO, which runs on the CPU; leave it out")
    return torch.device("cpu")
