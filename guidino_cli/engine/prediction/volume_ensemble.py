"""Loading one run on volumes, or an ensemble of them, for prediction."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from guidino_cli.config import RunConfig
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing
from guidino_cli.engine.devices import use_fast_kernels
from guidino_cli.engine.prediction.ensemble import describe_run, make_provenance, require_same_classes
from guidino_cli.engine.prediction.instance_threshold import load_labelling
from guidino_cli.engine.prediction.instances import InstancePredictor
from guidino_cli.engine.prediction.speedups import prepare_for_prediction
from guidino_cli.engine.prediction.volumes import VolumeMember, VolumePredictor
from guidino_cli.engine.runs.facts import is_volume_run
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.runs.loading import load_run
from guidino_cli.engine.runs.precision import note_missing_precision, prediction_precision
from guidino_cli.errors import ConfigError


@dataclass(frozen=True)
class LoadedVolumeEnsemble:
    """A predictor of volumes with the facts about its runs.

    Attributes:
        predictor: Averages the runs.
        classes: Class names, the background first.
        channels: Names of the channels.
        runs: Path, backbone and SHA-256 of the weights of each run, and the precision where the device lacks that of
            validation.
    """

    predictor: VolumePredictor
    classes: list[str]
    channels: tuple[str, ...]
    runs: list[dict[str, Any]]

    @property
    def provenance(self) -> list[dict[str, Any]]:
        """Weights and settings that determine the masks, by run; masks with equal provenance are interchangeable."""
        records = make_provenance(self.runs, [member.window for member in self.predictor.members])
        if isinstance(self.predictor, InstancePredictor):
            records[0]["labelling"] = self.predictor.labelling.record()
        return records

    @property
    def has_guide(self) -> bool:
        """Whether any run has a guide."""
        return any(member.model.guide is not None for member in self.predictor.members)


def require_matching_runs(paths: Sequence[Path]) -> tuple[str, ...]:
    """Check before any weights are read that runs can be averaged; returns the names of their channels.

    Raises:
        ConfigError: The runs' classes or channels differ, one is named twice, or was trained on images.
    """
    require_same_classes(paths)
    channels: list[tuple[str, ...]] = []
    grids: list[int] = []
    for path in paths:
        if not is_volume_run(path):
            raise ConfigError(
                f"{path}: was trained on images, {paths[0]} on volumes; predict with each of them by itself"
            )
        channels.append(tuple(RunFolder(path).facts()["volumes"]["channels"]))
        grids.append(RunFolder(path).facts()["volumes"].get("onto", 0))
        if grids[-1] != grids[0]:
            names = " and ".join(channels[0][grid] for grid in (grids[-1], grids[0]))
            raise ConfigError(f"{path}: works on the grid of another channel than {paths[0]} ({names}); predict apart")
        if channels[-1] != channels[0]:
            raise ConfigError(
                f"{path}: was trained on the channels {', '.join(channels[-1])}, but {paths[0]} on "
                f"{', '.join(channels[0])}; an ensemble needs runs with the same channels in the same order"
            )
    return channels[0]


def load_volume_ensemble(
    paths: Sequence[Path], *, overrides: tuple[str, ...] = (), offline: bool = False, device: torch.device
) -> LoadedVolumeEnsemble:
    """Load runs on volumes with `prepare_for_prediction`; each keeps the grid it was trained in.

    Raises:
        ConfigError: See `require_matching_runs`; or runs that cut volumes along different axes.
        UserError: See `load_run`.
    """
    channels = require_matching_runs(paths)
    require_single_instance_run(paths)
    members: list[VolumeMember] = []
    runs: list[dict[str, Any]] = []
    for path in paths:
        model, config, facts = load_run(path, overrides=overrides, offline=offline)
        prepared = prepare_for_prediction(model).to(device)
        precision = prediction_precision(config, facts, device)
        use_fast_kernels(device, precision)
        members.append(VolumeMember.from_config(prepared, config, preprocessing_of(facts, config), precision=precision))
        notes = note_missing_precision(path, config, facts, device)
        runs.append(describe_run(path, facts, notes, others=runs))
    if config.model.target == "affinities":
        predictor: VolumePredictor = InstancePredictor(members[0], load_labelling(paths[0], config.predict))
    else:
        predictor = VolumePredictor(members)
    return LoadedVolumeEnsemble(predictor, facts["classes"], channels, runs)


def require_single_instance_run(paths: Sequence[Path]) -> None:
    """`ConfigError` for several runs of which one makes instances: each has a threshold of its own."""
    for path in paths if len(paths) > 1 else ():
        if RunFolder(path).config().model.target == "affinities":
            raise ConfigError(f"{path}: makes instances, and runs that do cannot be averaged; predict with it alone")


def preprocessing_of(facts: dict[str, Any], config: RunConfig) -> VolumePreprocessing:
    """Preprocessing of a run on volumes, from its run.json."""
    return VolumePreprocessing.from_facts(facts["volumes"], config.data)
