"""Score all cases of a folder and sum them up, without losing one."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from guidino_cli.data.masks.rule import default_class_names
from guidino_cli.data.volumes import is_volume
from guidino_cli.errors import ConfigError, DataError, unknown_name
from guidino_cli.evaluation.cases import Pairing, TruthSet
from guidino_cli.evaluation.columns import column_values
from guidino_cli.evaluation.masks import MaskReader, ReadOptions, UnexpectedValueError, index_reader, make_reader
from guidino_cli.evaluation.summary import EvaluationResult, aggregate
from guidino_cli.evaluation.types import CaseResult, Policy, ScoringConfig, Target
from guidino_cli.evaluation.workers import choose_worker_count, score_cases
from guidino_cli.metrics import INSTANCE_METRICS, METRICS

DEFAULT_METRICS = ("iou", "dice", "hd95")


@dataclass(frozen=True)
class EvaluationConfig:
    """What the user asked for, as far as it is not in the files.

    Attributes:
        metrics: Names from `METRICS`.
        policy: What counts when there is nothing to measure.
        spacing: Pixel size in mm along the array axes (one number for all), or None.
        tolerance: Of the NSD, in the unit of the distances.
        lesion_iou: Overlap from which two connected objects may be partners.
        regions: (name, labels or class names joined by +) scored instead of the classes; empty scores the classes.
        medpy: Take the surface figures from medpy.
        resample: Fit predictions of another grid to the truth by the nearest pixel.
        ignore_headers: Take volumes voxel by voxel, whatever their headers say.
        workers: Processes, or None to choose by the size of the folder.
        seed: Of the bootstrap.
        truth: How the values of the truth are meant.
        predictions: How the values of the predictions are meant.
        classes: Class names given by the user, index = class; None for those of the data.
        group: What the bootstrap draws together, see `columns.column`; None draws cases.
        by: What the summary is repeated for, see `columns.column`.
    """

    metrics: tuple[str, ...] = DEFAULT_METRICS
    policy: Policy = field(default_factory=Policy)
    spacing: tuple[float, ...] | None = None
    tolerance: float = 2.0
    lesion_iou: float = 0.1
    regions: tuple[tuple[str, str], ...] = ()
    medpy: bool = False
    resample: bool = False
    ignore_headers: bool = False
    workers: int | None = None
    seed: int = 0
    truth: ReadOptions = field(default_factory=ReadOptions)
    predictions: ReadOptions = field(default_factory=ReadOptions)
    classes: tuple[str, ...] | None = None
    group: str | None = None
    by: str | None = None


Progress = Callable[[Iterable[CaseResult], int], Iterable[CaseResult]]


def validate_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """The names, without repetition.

    Raises:
        ConfigError: One of them does not exist, or none is given.
    """
    for name in names:
        if name not in METRICS:
            raise ConfigError(unknown_name("metric", name, METRICS))
    if not names:
        raise ConfigError(f"no metric named; known are {', '.join(METRICS)}")
    return tuple(dict.fromkeys(names))


def evaluate(
    pairing: Pairing, truths: TruthSet, request: EvaluationConfig, progress: Progress = lambda cases, total: cases
) -> EvaluationResult:
    """Score every pair.

    Args:
        pairing: Which prediction belongs to which truth.
        truths: Names of the classes, where known.
        request: What is measured and how.
        progress: Wraps the stream of cases, to show a bar.

    Raises:
        DataError: The values of one side's masks cannot be read one way only, or no truth can be read.
    """
    members = [pair.truth for pair in pairing.pairs]
    groups = None if request.group is None else column_values(members, request.group, option="--group")
    strata = None if request.by is None else column_values(members, request.by, option="--by", blank="(none)")
    job = make_scoring_config(pairing, truths, request)
    try:
        cases = _scored(pairing, job, request, progress)
    except UnexpectedValueError:
        job = make_scoring_config(pairing, truths, request, look_at_all=True)
        cases = _scored(pairing, job, request, progress)
    return aggregate(job, cases, seed=request.seed, groups=groups, strata=strata)


def _scored(pairing: Pairing, job: ScoringConfig, request: EvaluationConfig, progress: Progress) -> list[CaseResult]:
    volumes = is_volume(pairing.pairs[0].truth.path)
    workers = choose_worker_count(request.workers, len(pairing.pairs), volumes=volumes)
    return list(progress(score_cases(pairing.pairs, job, workers=workers), len(pairing.pairs)))


def make_scoring_config(
    pairing: Pairing, truths: TruthSet, request: EvaluationConfig, *, look_at_all: bool = False
) -> ScoringConfig:
    """Decide how both sides are read and which classes there are."""
    if set(request.metrics) & INSTANCE_METRICS:
        request = _for_instances(request, truths)
        truths = replace(truths, classes=None)
    truth = _truth_reader(pairing, truths, request.truth, look_at_all=look_at_all)
    names = request.classes or truths.classes or default_class_names(truth.rule.class_count)
    targets = tuple(Target(name, (label,)) for label, name in enumerate(names) if label)
    if request.regions:
        targets = tuple(Target(name, _labels(name, parts, names)) for name, parts in request.regions)
    predictions = _prediction_reader(pairing, len(names), request.predictions, look_at_all=look_at_all)
    return ScoringConfig(
        targets=targets,
        metrics=request.metrics,
        policy=request.policy,
        truth=truth,
        predictions=predictions,
        spacing=request.spacing,
        tolerance=request.tolerance,
        lesion_iou=request.lesion_iou,
        medpy=request.medpy,
        resample=request.resample,
        ignore_headers=request.ignore_headers,
    )


def _for_instances(request: EvaluationConfig, truths: TruthSet) -> EvaluationConfig:
    if truths.classes is not None:
        raise ConfigError(
            "are and voi need instance maps, but prepared data holds classes; give the folder of instances"
        )
    truth, predictions = (replace(side, instances=True) for side in (request.truth, request.predictions))
    return replace(request, truth=truth, predictions=predictions)


def _labels(region: str, parts: str, names: Sequence[str]) -> tuple[int, ...]:
    """Class indices of `1+2` or `rim+cup`."""
    labels = []
    for part in (part.strip() for part in parts.split("+")):
        index = int(part) if part.isdigit() else {name: label for label, name in enumerate(names)}.get(part)
        if index is None or not 0 < index < len(names):
            raise ConfigError(f"--regions {region}: " + unknown_name("class", part, names[1:]))
        labels.append(index)
    return tuple(labels)


def _truth_reader(pairing: Pairing, truths: TruthSet, options: ReadOptions, *, look_at_all: bool) -> MaskReader:
    if truths.classes is not None:
        return index_reader(len(truths.classes), ignore=options.ignore)
    paths = [pair.truth.path for pair in pairing.pairs]
    return _explained(paths, options, "the truth", look_at_all=look_at_all)


def _prediction_reader(pairing: Pairing, class_count: int, options: ReadOptions, *, look_at_all: bool) -> MaskReader:
    paths = [pair.prediction for pair in pairing.pairs if pair.prediction is not None]
    options = replace(options, class_count=None if options.codes else class_count)
    return _explained(paths, options, "the predictions", look_at_all=look_at_all)


def _explained(paths: list[Path], options: ReadOptions, side: str, *, look_at_all: bool) -> MaskReader:
    try:
        return make_reader(paths, options, look_at_all=look_at_all)
    except DataError as error:
        text = str(error)
        if side == "the predictions":
            # These options speak of the truth; predictions have their own.
            text = text.replace("--classes", "--pred-classes").replace("--threshold", "--pred-threshold")
        raise DataError(f"{side}: {text}") from error
