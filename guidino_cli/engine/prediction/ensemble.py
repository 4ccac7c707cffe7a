"""Loading one run, or an ensemble of runs, for prediction."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from guidino_cli.config import RunConfig
from guidino_cli.engine.devices import use_fast_kernels
from guidino_cli.engine.openvino.folder import EngineFolder, is_engine_folder
from guidino_cli.engine.prediction.predictor import Member, Predictor
from guidino_cli.engine.prediction.shapes import ShapeWatch
from guidino_cli.engine.prediction.sliding import PatchWindow, Window
from guidino_cli.engine.prediction.speedups import prepare_for_prediction
from guidino_cli.engine.runs.facts import is_volume_run
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.runs.loading import load_run
from guidino_cli.engine.runs.precision import note_missing_precision, prediction_precision
from guidino_cli.errors import ConfigError
from guidino_cli.progress import log_warning


@dataclass(frozen=True)
class LoadedEnsemble:
    """A predictor with the facts about its runs.

    Attributes:
        predictor: Averages the runs.
        classes: Class names, the background first.
        runs: Path, backbone and SHA-256 of the weights of each run, the engine where it is not torch, and the precision
            where the device lacks that of validation.
        batch_size: `predict.batch_size` of the first run.
        memory_gb: `predict.memory_gb` of the first run.
        shapes: Counts images of another shape than those of the first run that stretches them.
    """

    predictor: Predictor
    classes: list[str]
    runs: list[dict[str, Any]]
    batch_size: int
    memory_gb: float
    shapes: ShapeWatch

    @property
    def provenance(self) -> list[dict[str, Any]]:
        """Weights and settings that determine the masks, by run; masks with equal provenance are interchangeable."""
        return make_provenance(self.runs, [member.window for member in self.predictor.members])

    @property
    def has_guide(self) -> bool:
        """Whether any run has a guide."""
        return any(member.model.has_guide for member in self.predictor.members)

    def needs_strips(self, size_hw: tuple[int, int]) -> bool:
        """Whether predicting an image as a whole would take more than `memory_gb`."""
        # Pixels, network input, sums over windows, and probabilities, some of them twice.
        return size_hw[0] * size_hw[1] * (12 * len(self.classes) + 30) > self.memory_gb * 1e9


def make_provenance(runs: Sequence[dict[str, Any]], windows: Sequence[Window | PatchWindow]) -> list[dict[str, Any]]:
    """Weights and settings that determine the masks, of each run."""
    return [
        {
            "weights": run["weights"],
            "overlap": window.overlap,
            "mirror": window.mirror_record,
            "mirror_backbone": window.mirror_backbone,
            # Older records have no precision; theirs is full.
            **({} if window.precision == "no" else {"precision": window.precision}),
        }
        for run, window in zip(runs, windows, strict=True)
    ]


def load_ensemble(
    paths: Sequence[Path], *, overrides: tuple[str, ...] = (), offline: bool = False, device: torch.device
) -> LoadedEnsemble:
    """Load runs with `prepare_for_prediction`, or compiled for OpenVINO; each keeps the grid it was trained in.

    Raises:
        ConfigError: The runs' classes differ, a run is named twice, or was trained on volumes.
        UserError: See `load_run`.
    """
    members: list[Member] = []
    runs: list[dict[str, Any]] = []
    require_same_classes(paths)
    for path in paths:
        if is_volume_run(path):
            raise ConfigError(f"{path}: was trained on volumes, the others on images; predict with each by itself")
    for path in paths:
        load = _load_compiled if is_engine_folder(path) else _load_member
        member, config, facts, notes = load(path, overrides, offline, device)
        members.append(member)
        runs.append(describe_run(path, facts, notes, others=runs))
        if len(members) == 1:
            first, shapes = config.predict, ShapeWatch(None)
        if shapes.known is None:
            shapes = ShapeWatch.of_run(facts, resize=config.data.resize)
    return LoadedEnsemble(Predictor(members), facts["classes"], runs, first.batch_size, first.memory_gb, shapes)


def describe_run(
    path: Path, facts: dict[str, Any], notes: dict[str, Any], *, others: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The record of a run; warns if another run of the ensemble has the same weights, as an export or a copy has."""
    weights = weights_hash(path)
    twin = next((other["run"] for other in others if other["weights"] == weights), None)
    if twin is not None:
        log_warning(f"{path}: has the same weights as {twin}, so one network counts twice, and agreement is too high")
    return {"run": str(path), "weights": weights, "backbone": facts["backbone"], **notes}


_Loaded = tuple[Member, RunConfig, dict[str, Any], dict[str, Any]]


def _load_member(path: Path, overrides: tuple[str, ...], offline: bool, device: torch.device) -> _Loaded:
    model, config, facts = load_run(path, overrides=overrides, offline=offline)
    precision = prediction_precision(config, facts, device)
    use_fast_kernels(device, precision)
    window = Window.from_config(config, precision=precision)
    member = Member(prepare_for_prediction(model).to(device), config.data, window)
    return member, config, facts, note_missing_precision(path, config, facts, device)


def _load_compiled(path: Path, overrides: tuple[str, ...], _: bool, __: torch.device) -> _Loaded:
    # Imported only for such folders.
    from guidino_cli.engine.openvino.loading import load_network

    loaded = load_network(path, overrides=overrides)
    member = Member(loaded.network, loaded.config.data, Window.from_config(loaded.config), loaded.title)
    return member, loaded.config, loaded.facts, {"engine": loaded.record}


def require_same_classes(paths: Sequence[Path]) -> None:
    """Checked before any weights are read."""
    for path in paths:
        RunFolder(path).config()
    first = RunFolder(paths[0]).facts()["classes"]
    for i, path in enumerate(paths[1:], start=1):
        if path.resolve() in {other.resolve() for other in paths[:i]}:
            raise ConfigError(f"{path}: named twice; a run counts once in an ensemble")
        classes = RunFolder(path).facts()["classes"]
        if classes != first:
            raise ConfigError(
                f"{path}: was trained for {', '.join(classes)}, but {paths[0]} for {', '.join(first)}; "
                "an ensemble needs runs with the same classes in the same order"
            )


def ensemble_arguments(ensemble: Sequence[Path] | None, overrides: Sequence[str] | None) -> list[str]:
    """Command-line arguments that name the other runs and the settings of an ensemble, to be quoted in advice."""
    runs = [word for path in ensemble or () for word in ("--ensemble", str(path))]
    return runs + [word for item in overrides or () for word in ("--set", item)]


def weights_hash(path: Path) -> str:
    """SHA-256 of a run's best weights and, where it has one, its adapter; of a compiled network, see `EngineFacts`."""
    if is_engine_folder(path):
        return EngineFolder(path).facts()["weights"]
    folder = RunFolder(path)
    folder.require_weights()
    digest = hashlib.sha256(folder.weights.read_bytes())
    for file in sorted(folder.best.adapter.glob("*.safetensors")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
