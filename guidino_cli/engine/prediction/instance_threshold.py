"""The threshold of a run that makes instances: chosen on the validation cases, and kept with its curve in the run."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from guidino_cli.config import PredictSettings
from guidino_cli.data.cases import read_stored_truth
from guidino_cli.data.instances.labelling import require_method
from guidino_cli.data.volumes.stored import open_array
from guidino_cli.engine.prediction.ensemble import weights_hash
from guidino_cli.engine.prediction.instances import Labelling, label_stored, predict_affinities
from guidino_cli.engine.prediction.volumes import VolumeMember
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import write_text
from guidino_cli.json_files import read_json_object, require_type
from guidino_cli.metrics.overlap import adapted_rand_error, variation_of_information
from guidino_cli.tables import to_csv
from guidino_cli.types import Case

FILE_NAME, CURVE_NAME = "instances.json", "instances.csv"
THRESHOLDS = (*(round(0.05 * step, 2) for step in range(1, 20)), 0.98)


@dataclass(frozen=True)
class CurvePoint:
    """Mean scores over the validation cases at one threshold; see `docs/metrics.md`.

    Attributes:
        threshold: Affinity above which regions are merged.
        are: Adapted Rand error.
        voi_split: Bits by which true instances are split.
        voi_merge: Bits by which they are merged.
    """

    threshold: float
    are: float
    voi_split: float
    voi_merge: float


@dataclass(frozen=True)
class ThresholdCurve:
    """Scores by threshold.

    Attributes:
        points: By rising threshold.
        cases: Validation cases with instances, over which they are means.
    """

    points: tuple[CurvePoint, ...]
    cases: int

    @property
    def best(self) -> CurvePoint:
        """The point of the smallest error; of equal ones the one in their middle, which is the safest."""
        lowest = min(point.are for point in self.points)
        equal = [point for point in self.points if point.are <= lowest + 1e-9]
        return equal[(len(equal) - 1) // 2]


Progress = Callable[[Sequence[Case]], Iterable[Case]]


def measure_thresholds(
    member: VolumeMember, cases: Sequence[Case], settings: PredictSettings, *, progress: Progress = lambda cases: cases
) -> ThresholdCurve:
    """Score instances at every threshold on the stored grid of the validation cases.

    Args:
        member: A run with `model.target: affinities`.
        cases: Labelled validation cases.
        settings: Method and smallest size of instances.
        progress: Wraps the cases, to show a bar.

    Raises:
        DataError: No case has an instance.
        DependencyError: The package of the method is not installed.
    """
    require_method(settings.instances)
    scores = []
    for case in progress(cases):
        if case.volume is None or not case.foreground:
            continue
        truth, _ = read_stored_truth(case)
        affinities = predict_affinities(member, open_array(case.volume.image), case.volume.statistics)
        found = label_stored(
            affinities,
            THRESHOLDS,
            case.volume.spacing_mm,
            member.preprocessing,
            method=settings.instances,
            min_size=settings.min_size,
        )
        scores.append([_score(labels, truth) for labels in found])
    if not scores:
        raise DataError("no validation case has an instance, so no threshold can be chosen")
    means = np.mean(scores, axis=0)
    points = (CurvePoint(threshold, *map(float, row)) for threshold, row in zip(THRESHOLDS, means, strict=True))
    return ThresholdCurve(tuple(points), len(scores))


def _score(labels: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    merged, split = variation_of_information(labels, truth)
    return adapted_rand_error(labels, truth), split, merged


class _PointEntry(TypedDict):
    threshold: float
    are: float
    voi_split: float
    voi_merge: float


class _ThresholdFile(TypedDict):
    """Entries of `instances.json` that are read again."""

    method: str
    min_size: int
    weights: str
    overlap: float
    threshold: Annotated[float, Field(gt=0, lt=1)]


def save_threshold(run: Path, curve: ThresholdCurve, settings: PredictSettings, *, precision: str) -> None:
    """Write `instances.json` and its curve as `instances.csv` into a run folder.

    Args:
        run: Its folder.
        curve: Scores by threshold.
        settings: They were measured with.
        precision: They were measured in. Only recorded: a device without it predicts in another.
    """
    content = {
        "format": 1,
        **_provenance(run, settings),
        "precision": precision,
        "threshold": curve.best.threshold,
        "cases": curve.cases,
        "curve": [asdict(point) for point in curve.points],
    }
    rows = ([f"{value:.6g}" for value in asdict(point).values()] for point in curve.points)
    write_text(run / CURVE_NAME, to_csv(["threshold", "are", "voi_split", "voi_merge"], rows))
    write_text(run / FILE_NAME, json.dumps(content, indent=2) + "\n")


def load_labelling(run: Path, settings: PredictSettings) -> Labelling:
    """Settings by which a run makes instances: by `predict.threshold` or the threshold chosen on validation cases.

    Raises:
        ConfigError: None was chosen, or for other weights or settings.
        DataError: The file is damaged.
        DependencyError: The package of the method is not installed.
    """
    require_method(settings.instances)
    if settings.threshold is not None:
        return Labelling(settings.instances, settings.threshold, settings.min_size)
    path, again = run / FILE_NAME, _choose_again(run)
    if not path.is_file():
        raise ConfigError(f"{run}: no threshold was chosen on its validation cases, as at the end of training; {again}")
    content = require_type(read_json_object(path, hint=again), _ThresholdFile, source=path, hint=again)
    for name, wanted in _provenance(run, settings).items():
        if content[name] != wanted:  # type: ignore[literal-required]
            found = "other weights" if name == "weights" else f"{name} {content[name]}, now it is {wanted}"  # type: ignore[literal-required]
            setting = f" --set predict.{_SETTINGS[name]}={wanted}" if name in _SETTINGS else ""
            raise ConfigError(f"{path}: the threshold was chosen for {found}; {_choose_again(run, setting)}")
    return Labelling(settings.instances, content["threshold"], settings.min_size)


_SETTINGS = {"method": "instances", "min_size": "min_size", "overlap": "overlap"}
"""What a threshold is chosen for -> setting of `predict` that says so."""


def _choose_again(run: Path, setting: str = "") -> str:
    return f"choose one (guidino tune-post {run}{setting}) or give --set predict.threshold=0.5"


def _provenance(run: Path, settings: PredictSettings) -> dict[str, Any]:
    """Everything that a chosen threshold depends on."""
    return {
        "method": settings.instances,
        "min_size": settings.min_size,
        "weights": weights_hash(run),
        "overlap": settings.overlap,
    }
