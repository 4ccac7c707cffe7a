"""Validation and parsing of the options that `evaluate` and `compare` share."""

import math
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import cast, get_args

from guidino_cli.data.masks.rule import Classes, parse_classes
from guidino_cli.errors import ConfigError, DependencyError, unknown_name
from guidino_cli.evaluation.cases import TruthSet
from guidino_cli.evaluation.evaluator import EvaluationConfig, validate_metrics
from guidino_cli.evaluation.gates import require_share
from guidino_cli.evaluation.masks import ReadOptions
from guidino_cli.evaluation.truths import find_truths
from guidino_cli.evaluation.types import Hd95Definition, Policy, get_policy
from guidino_cli.options.evaluation import ScoringOptions
from guidino_cli.outputs import require_output_folder


def parse_options(options: ScoringOptions, gated: Sequence[str] = (), *, backend: str = "auto") -> EvaluationConfig:
    """Validate options and parse those that are text.

    Args:
        options: As typed.
        gated: Metrics that gates need, requested or not.
        backend: "auto" or "medpy".

    Raises:
        ConfigError: An option is invalid.
        DependencyError: medpy is requested and not installed.
    """
    if options.resample not in (None, "nearest"):
        raise ConfigError(f"--resample {options.resample}: expected nearest (labels must not be blended)")
    _require_numbers(options)
    policy = get_policy(options.policy)
    if options.hd95 is not None:
        if options.hd95 not in get_args(Hd95Definition):
            raise ConfigError(unknown_name("definition of HD95", options.hd95, get_args(Hd95Definition)))
        policy = replace(policy, hd95=cast(Hd95Definition, options.hd95))
    named = [name.strip() for name in options.metrics.split(",") if name.strip()]
    truth, predictions, classes = _parse_mask_values(options)
    return EvaluationConfig(
        metrics=validate_metrics([*named, *gated]),
        policy=policy,
        spacing=_parse_spacing(options.spacing),
        regions=_parse_regions(options.regions),
        medpy=_uses_medpy(backend, options, policy),
        truth=truth,
        predictions=predictions,
        classes=None if classes is None else classes.names,
        options=options,
    )


def require_report_folder(options: ScoringOptions, inputs: Sequence[Path]) -> None:
    """Require that -o, if given, can hold a report; it may lie in an input folder, see `require_output_folder`."""
    if options.out is not None:
        folders = [path for path in inputs if path.is_dir()]
        require_output_folder(options.out, folders, overwrite=options.overwrite, may_be_nested=True)


def load_truths(place: Path, options: ScoringOptions) -> TruthSet:
    """Find the true masks.

    Raises:
        ConfigError: Options give the values of prepared data another meaning.
        DataError: No masks there.
    """
    truths = find_truths(place, split=options.split)
    conflicting = {
        "--classes": options.classes is not None,
        "--binary": options.binary,
        "--threshold": options.threshold is not None,
    }
    given = [option for option, is_given in conflicting.items() if is_given]
    if truths.classes is not None and given:
        raise ConfigError(f"{place}: is prepared data, its classes are settled; leave out {' and '.join(given)}")
    return truths


def _uses_medpy(backend: str, options: ScoringOptions, policy: Policy) -> bool:
    if backend not in {"auto", "medpy"}:
        raise ConfigError(unknown_name("backend", backend, ("auto", "medpy")))
    if backend == "auto":
        return False
    if policy.hd95 != "pooled":
        raise ConfigError(f"--backend medpy computes the pooled HD95 only, not '{policy.hd95}'")
    if options.ignore_label is not None:
        raise ConfigError("--backend medpy knows no ignored pixels; leave out --ignore-label")
    if find_spec("medpy") is None:
        raise DependencyError("--backend medpy needs medpy: pip install 'guidino[medpy]'")
    return True


def _require_numbers(options: ScoringOptions) -> None:
    if not 0 <= options.tolerance < math.inf:
        raise ConfigError(f"--tolerance {options.tolerance:g}: expected a distance, 0 or more")
    require_share(f"--lesion-iou {options.lesion_iou:g}", options.lesion_iou)
    if options.lesion_iou == 0:
        raise ConfigError("--lesion-iou 0: expected a share above 0, at most 1")
    for name, value in (("threshold", options.threshold), ("pred-threshold", options.pred_threshold)):
        if value is not None and not math.isfinite(value):
            raise ConfigError(f"--{name} {value:g}: expected a finite number")
    if options.seed < 0:
        raise ConfigError(f"--seed {options.seed}: expected a whole number, 0 or more")


def _parse_mask_values(options: ScoringOptions) -> tuple[ReadOptions, ReadOptions, Classes | None]:
    classes = None if options.classes is None else parse_classes(options.classes)
    pred_classes = None if options.pred_classes is None else parse_classes(options.pred_classes)
    if pred_classes is not None and pred_classes.codes is None:
        raise ConfigError(f"--pred-classes {options.pred_classes}: expected values such as '0=background,255=polyp'")
    if pred_classes is not None and classes is not None and pred_classes.names != classes.names:
        raise ConfigError("--pred-classes: expected the names of --classes in the same order")
    truth = ReadOptions(
        class_count=None if classes is None else len(classes.names),
        codes=None if classes is None or classes.codes is None else tuple(classes.codes.items()),
        binary=options.binary,
        threshold=options.threshold,
        ignore=options.ignore_label,
        segment=options.segment,
    )
    predictions = ReadOptions(
        codes=None if pred_classes is None or pred_classes.codes is None else tuple(pred_classes.codes.items()),
        binary=options.binary,
        threshold=options.pred_threshold,
        segment=options.segment,
    )
    return truth, predictions, classes


def _parse_regions(text: str | None) -> tuple[tuple[str, str], ...]:
    if text is None:
        return ()
    regions = [tuple(part.strip() for part in item.split("=")) for item in text.split(",")]
    if not all(len(region) == 2 and all(region) for region in regions):
        raise ConfigError(f"--regions {text}: expected names and classes such as disc=1+2,cup=2")
    names = [region[0] for region in regions]
    if len(set(names)) < len(names):
        raise ConfigError(f"--regions {text}: a name is given twice")
    return tuple((region[0], region[1]) for region in regions)


def _parse_spacing(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise ConfigError(f"--spacing {text}: expected one positive number in mm, or one per axis such as 0.5,0.7")
    return numbers
