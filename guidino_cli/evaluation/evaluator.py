"""Score all cases of a folder and summarize the scores."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from guidino_cli.data.masks.rule import MaskRule, class_names, pack_colour, parse_classes
from guidino_cli.data.readers import find_reader
from guidino_cli.errors import ConfigError, DataError, unknown_name
from guidino_cli.evaluation.cases import Pairing, TruthSet
from guidino_cli.evaluation.columns import column_values, describe_source
from guidino_cli.evaluation.mask_survey import (
    Survey,
    decide_reader,
    find_common_labels,
    label_reader,
    make_reader,
    require_exact_ignored,
    survey_masks,
)
from guidino_cli.evaluation.masks import MaskReader, ReadOptions, UnexpectedValueError, index_reader
from guidino_cli.evaluation.segment_names import require_same_segments
from guidino_cli.evaluation.summary import EvaluationResult, aggregate
from guidino_cli.evaluation.types import CaseResult, Policy, ScoringConfig, Target
from guidino_cli.evaluation.workers import choose_worker_count, score_cases
from guidino_cli.metrics import INSTANCE_METRICS, METRICS
from guidino_cli.options.evaluation import ScoringOptions


@dataclass(frozen=True)
class EvaluationConfig:
    """Parsed options of an evaluation, before any mask was read.

    Attributes:
        metrics: Names from `METRICS`.
        policy: What counts when there is nothing to measure.
        spacing: Pixel size in mm along the array axes (one number for all), or None.
        regions: (name, labels or class names joined by +) scored instead of the classes; empty scores the classes.
        medpy: Take the surface metrics from medpy.
        truth: How values of the true masks are interpreted.
        predictions: How values of the predicted masks are interpreted.
        classes: Class names given by the user, index = class; None for those of the data.
        options: The options as typed; read for those that need no parsing.
    """

    metrics: tuple[str, ...] = ("iou", "dice", "hd95")
    policy: Policy = field(default_factory=Policy)
    spacing: tuple[float, ...] | None = None
    regions: tuple[tuple[str, str], ...] = ()
    medpy: bool = False
    truth: ReadOptions = field(default_factory=ReadOptions)
    predictions: ReadOptions = field(default_factory=ReadOptions)
    classes: tuple[str, ...] | None = None
    options: ScoringOptions = field(default_factory=ScoringOptions)


Progress = Callable[[Iterable[CaseResult], int], Iterable[CaseResult]]


def validate_metrics(names: Sequence[str]) -> tuple[str, ...]:
    """Check metric names and drop repeated ones.

    Raises:
        ConfigError: A name is unknown, or there is none.
    """
    for name in names:
        if name not in METRICS:
            raise ConfigError(unknown_name("metric", name, METRICS))
    if not names:
        raise ConfigError(f"no metric named; known are {', '.join(METRICS)}")
    return tuple(dict.fromkeys(names))


def evaluate(
    pairing: Pairing,
    truths: TruthSet,
    config: EvaluationConfig,
    progress: Progress = lambda cases, total: cases,
    *,
    by: str | None = None,
    check: Callable[[ScoringConfig], object] = lambda scoring: None,
) -> EvaluationResult:
    """Score every pair and summarize the scores.

    Args:
        pairing: Which prediction belongs to which truth.
        truths: Names of the classes, where known.
        config: What is measured and how.
        progress: Wraps the stream of cases, to show a bar.
        by: Source of the strata for which the summary is repeated, see `columns.column_values`.
        check: Is given the configuration before anything is scored; it may refuse it with an error.

    Raises:
        DataError: The values of one side's masks are ambiguous, images and volumes are mixed, or no truth can be read.
    """
    members = [pair.truth for pair in pairing.pairs]
    if config.spacing is None and len({find_reader(truth.path).is_volume for truth in members}) > 1:
        raise DataError("the truth has images, measured in px, and volumes, in mm; give --spacing or score them apart")
    group = config.options.group
    groups = None if group is None else column_values(members, group, option="--group")
    strata = None if by is None else column_values(members, by, option="--by", blank="(none)")
    scoring = make_scoring_config(pairing, truths, config)
    check(scoring)
    try:
        cases = _score(pairing, scoring, progress)
    except UnexpectedValueError:
        scoring = make_scoring_config(pairing, truths, config, read_all=True)
        cases = _score(pairing, scoring, progress)
    result = aggregate(scoring, cases, groups=groups, strata=strata)
    return result if by is None else replace(result, strata_by=describe_source(members, by))


def _score(pairing: Pairing, scoring: ScoringConfig, progress: Progress) -> list[CaseResult]:
    pairs, has_volumes = pairing.pairs, find_reader(pairing.pairs[0].truth.path).is_volume
    workers = choose_worker_count(scoring.options.workers, len(pairs), volumes=has_volumes)
    return list(progress(score_cases(pairs, scoring, workers=workers), len(pairs)))


def make_scoring_config(
    pairing: Pairing, truths: TruthSet, config: EvaluationConfig, *, read_all: bool = False
) -> ScoringConfig:
    """Decide how the masks of both sides are read and which targets are scored."""
    if truths.has_instances or set(config.metrics) & INSTANCE_METRICS:
        config = _read_instances(config, truths)
        truths = replace(truths, classes=None)
    truth, names, predictions = _make_readers(pairing, truths, config, read_all=read_all)
    targets = tuple(Target(name, (label,)) for label, name in enumerate(names) if label)
    if config.regions:
        known = _region_parts(truth.rule, names)
        targets = tuple(Target(name, _parse_region(name, parts, known)) for name, parts in config.regions)
    return ScoringConfig(
        targets, config.metrics, config.policy, truth, predictions, config.spacing, config.medpy, config.options
    )


def _make_readers(
    pairing: Pairing, truths: TruthSet, config: EvaluationConfig, *, read_all: bool
) -> tuple[MaskReader, Sequence[str], MaskReader]:
    """Reader of the truth, names of the classes, reader of the predictions."""
    truth_paths = [pair.truth.path for pair in pairing.pairs]
    predicted_paths = [pair.prediction for pair in pairing.pairs if pair.prediction is not None]
    sides = (config.truth, config.predictions)
    names = config.classes or truths.classes
    with _naming_side("the truth"):
        require_exact_ignored(truth_paths, config.truth)
    if names is None and not any(side.is_explicit or side.instances for side in sides):
        if config.truth.segment is None:
            require_same_segments([*truth_paths, *predicted_paths])
        with _naming_side("the truth"):
            true_values = survey_masks(truth_paths, config.truth, read_all=read_all)
        with _naming_side("the predictions"):
            predicted_values = survey_masks(predicted_paths, config.predictions, read_all=read_all)
        labels = find_common_labels(true_values, predicted_values)
        with _naming_side("the truth"):
            if labels:
                truth = label_reader(true_values, labels, config.truth)
            else:
                truth = decide_reader(true_values, config.truth)
        with _naming_side("the predictions", truth.rule, class_names(truth.rule)):
            if labels:
                predictions = label_reader(predicted_values, labels, config.predictions)
            else:
                options = replace(config.predictions, class_count=truth.rule.class_count)
                predictions = decide_reader(predicted_values, options)
                predictions = _noting_two_foregrounds(predictions, true_values, predicted_values)
        return truth, class_names(truth.rule), _naming_prediction_options(predictions)
    with _naming_side("the truth"):
        if truths.classes is not None:
            requested = config.truth.ignore
            truth = index_reader(len(truths.classes), ignore=truths.ignore_label if requested is None else requested)
        else:
            truth = make_reader(truth_paths, config.truth, read_all=read_all)
    names = names or class_names(truth.rule)
    if config.options.pred_classes is not None and parse_classes(config.options.pred_classes).names != tuple(names):
        raise ConfigError(f"--pred-classes: expected the names of the truth in the same order, {','.join(names)}")
    options = replace(config.predictions, class_count=None if config.predictions.codes else len(names))
    with _naming_side("the predictions", truth.rule, names):
        predictions = make_reader(predicted_paths, options, read_all=read_all)
    return truth, names, _naming_prediction_options(predictions)


def _noting_two_foregrounds(reader: MaskReader, truth: Survey, predictions: Survey) -> MaskReader:
    """Say that two different values are taken for the same foreground, because they might be two labels."""
    true, predicted = truth.foreground, predictions.foreground
    if len(true) != 1 or len(predicted) != 1 or true == predicted:
        return reader
    why = f"{reader.rule.why}; {min(predicted)} here and {min(true)} in the truth are taken for the same foreground"
    return replace(reader, rule=replace(reader.rule, why=why))


def _naming_prediction_options(reader: MaskReader) -> MaskReader:
    return replace(reader, rule=replace(reader.rule, why=_name_prediction_options(reader.rule.why)))


def _read_instances(config: EvaluationConfig, truths: TruthSet) -> EvaluationConfig:
    if truths.classes is not None:
        raise ConfigError(
            "are and voi need instance maps, but prepared data holds classes; give the folder of instances, or "
            "prepare it with --instances"
        )
    truth, predictions = (replace(side, instances=True) for side in (config.truth, config.predictions))
    return replace(config, truth=truth, predictions=predictions)


def _region_parts(rule: MaskRule, names: Sequence[str]) -> dict[str, int]:
    """Class index by class name and by number: the value of a label, or the index of a named class."""
    numbers = [value for value, _ in rule.codes] if rule.kind == "labels" else range(len(names))
    return {str(number): index for index, number in enumerate(numbers) if index} | {
        name: index for index, name in enumerate(names) if index
    }


def _parse_region(region: str, parts: str, known: Mapping[str, int]) -> tuple[int, ...]:
    """Class indices of `1+2` or `rim+cup`."""
    labels = []
    for part in (part.strip() for part in parts.split("+")):
        part = str(int(part)) if part.isdigit() and part not in known else part
        if part not in known:
            raise ConfigError(f"--regions {region}: " + unknown_name("class", part, known))
        labels.append(known[part])
    return tuple(labels)


@contextmanager
def _naming_side(side: str, truth: MaskRule | None = None, names: Sequence[str] = ()) -> Iterator[None]:
    """Name the side in errors of its masks; `truth` and `names` tell the classes that predictions must have."""
    try:
        yield
    except DataError as error:
        text, option = str(error), error.option
        if side == "the predictions":
            text = _name_prediction_options(text)
            text = text if truth is None else _name_known_classes(text, truth, names)
            option = option.replace("--threshold", "--pred-threshold")
        named = DataError(f"{side}: {text}")
        named.option = option
        raise named from error


def _name_known_classes(text: str, truth: MaskRule, names: Sequence[str]) -> str:
    """Replace a proposed table of values, with names class_1 and so on, by one with the classes of the truth.

    Values that the truth has, too, are the same classes there. Only where it has none of them, as with grey values 127
    and 255 for indices 1 and 2, are as many values taken in their order.
    """
    found = re.search(r"--pred-classes '([^']*=[^']*)'(?: names them)?", text)
    if found is None:
        return text
    values = [entry.partition("=")[0] for entry in found[1].split(",")]
    known = _names_by_value(truth, names)
    if any(known.get(value, names[0]) != names[0] for value in values):
        table = ",".join(f"{value}={name}" for value, name in known.items())
        if strange := [value for value in values if value not in known]:
            noun = f"{strange[0]} is no label" if len(strange) == 1 else f"{', '.join(strange)} are no labels"
            added = ",".join(f"{value}=CLASS" for value in strange)
            proposal = f"{noun} of the truth: add {added} to --pred-classes '{table}' where you know the class"
            return text.replace(found[0], proposal)
    elif len(values) == len(names):
        table = ",".join(f"{value}={name}" for value, name in zip(values, names, strict=True))
    else:
        return text
    return text.replace(found[1], table)


def _names_by_value(rule: MaskRule, names: Sequence[str]) -> dict[str, str]:
    """Class names by stored value, as `--classes` spells it; none for masks of which every value is foreground."""
    if rule.kind == "index":
        return {str(index): name for index, name in enumerate(names)}
    return {
        str(code) if isinstance(code, int) else f"#{pack_colour(code):06x}": names[index] for code, index in rule.codes
    }


def _name_prediction_options(text: str) -> str:
    """Replace the options for the values of the truth, which a message names, by those for predictions."""
    return text.replace(" --classes", " --pred-classes").replace(" --threshold", " --pred-threshold")
