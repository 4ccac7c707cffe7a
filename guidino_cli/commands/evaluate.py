"""`guidino evaluate`: predictions and truth in, figures out, with their denominators and rules."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import cast, get_args

from guidino_cli.commands.evaluate_output import show, write
from guidino_cli.data.classes import Classes, parse_classes
from guidino_cli.errors import ConfigError, DataError, DependencyError, GateError, PartialError, unknown
from guidino_cli.evaluation.folder import Request, check_metrics, evaluate
from guidino_cli.evaluation.gates import Gate, Verdict, check, check_baseline, load_report, parse_gate
from guidino_cli.evaluation.pairing import find_truths, match, read_pairs, with_images
from guidino_cli.evaluation.policy import Hd95, Policy, get_policy
from guidino_cli.evaluation.reading import ReadOptions
from guidino_cli.evaluation.report_files import dump_json, to_json
from guidino_cli.evaluation.result import Evaluation
from guidino_cli.evaluation.scoring import CaseResult
from guidino_cli.progress import say, track

_LISTED = 10


@dataclass(frozen=True)
class Options:
    """The words after `guidino evaluate PREDS TRUTH`; see `guidino evaluate --help`."""

    out: Path | None = None
    split: str = "test"
    metrics: str = "iou,dice,hd95"
    hd95: str | None = None
    policy: str = "guidino"
    spacing: str | None = None
    tolerance: float = 2.0
    lesion_iou: float = 0.1
    classes: str | None = None
    pred_classes: str | None = None
    binary: bool = False
    threshold: float | None = None
    pred_threshold: float | None = None
    ignore_label: int | None = None
    regions: str | None = None
    backend: str = "auto"
    resample: str | None = None
    ignore_headers: bool = False
    pairs: Path | None = None
    group: str | None = None
    by: str | None = None
    images: Path | None = None
    seed: int = 0
    workers: int | None = None
    min_dice: Sequence[str] = ()
    min_iou: Sequence[str] = ()
    max_hd95: Sequence[str] = ()
    gate_on: str = "mean"
    baseline: Path | None = None
    max_drop: float = 0.01
    overwrite: bool = False
    as_json: bool = False


def run(predictions: Path, truth: Path, options: Options) -> None:
    """Score `predictions` against `truth`, print a table and write the report folder.

    Raises:
        DataError: Nothing to compare, or masks that cannot be read one way only.
        ConfigError: An option that cannot be used.
        GateError: Everything is written, but a gate does not hold.
        PartialError: Everything is written, but predictions were missing or could not be used.
    """
    gates = _gates(options)
    request = _request(options, gates)
    if options.out is not None:
        _check_folder(options.out, overwrite=options.overwrite)
    if options.baseline is not None:
        load_report(options.baseline)
    truths = find_truths(truth, split=options.split)
    if truths.classes is not None and any(_meanings(options).values()):
        given = [name for name, used in _meanings(options).items() if used]
        raise ConfigError(f"{truth}: is prepared data, its classes are settled; leave out {' and '.join(given)}")
    pairing = read_pairs(options.pairs) if options.pairs is not None else match(predictions, truths)
    if options.images is not None:
        pairing = with_images(pairing, options.images)
    for warning in pairing.warnings:
        say(f"warning: {warning}")
    result = evaluate(pairing, truths, request, _progress)
    verdicts = check(gates, result, options.gate_on)
    if options.baseline is not None:
        verdicts += check_baseline(result, options.baseline, options.max_drop)
    report = to_json(result, pairing, origin=truths.origin, command=sys.argv[1:], verdicts=verdicts)
    if options.out is not None:
        write(options.out, result, pairing, verdicts, report)
    if options.as_json:
        print(json.dumps(json.loads(dump_json(report)), indent=1))
    else:
        show(result, pairing, truths, verdicts, options.out)
    _finish(result, verdicts)


def _meanings(options: Options) -> dict[str, bool]:
    """Options that say what the values of the truth mean, and whether each was given."""
    return {
        "--classes": options.classes is not None,
        "--binary": options.binary,
        "--threshold": options.threshold is not None,
    }


def _request(options: Options, gates: Sequence[Gate]) -> Request:
    if options.resample not in (None, "nearest"):
        raise ConfigError(f"--resample {options.resample}: expected nearest (labels must not be blended)")
    if options.tolerance < 0:
        raise ConfigError(f"--tolerance {options.tolerance:g}: expected a distance, 0 or more")
    if not 0 < options.lesion_iou <= 1:
        raise ConfigError(f"--lesion-iou {options.lesion_iou:g}: expected a share above 0, at most 1")
    policy = get_policy(options.policy)
    if options.hd95 is not None:
        if options.hd95 not in get_args(Hd95):
            raise ConfigError(unknown("definition of HD95", options.hd95, get_args(Hd95)))
        policy = replace(policy, hd95=cast(Hd95, options.hd95))
    named = [name.strip() for name in options.metrics.split(",") if name.strip()]
    truth, predictions, classes = _reading(options)
    return Request(
        metrics=check_metrics([*named, *(gate.metric for gate in gates)]),
        policy=policy,
        spacing=_numbers(options.spacing),
        tolerance=options.tolerance,
        lesion_iou=options.lesion_iou,
        regions=_regions(options.regions),
        medpy=_wants_medpy(options, policy),
        resample=options.resample is not None,
        ignore_headers=options.ignore_headers,
        workers=options.workers,
        seed=options.seed,
        truth=truth,
        predictions=predictions,
        classes=None if classes is None else classes.names,
        group=options.group,
        by=options.by,
    )


def _wants_medpy(options: Options, policy: Policy) -> bool:
    if options.backend not in {"auto", "medpy"}:
        raise ConfigError(unknown("backend", options.backend, ("auto", "medpy")))
    if options.backend == "auto":
        return False
    if policy.hd95 != "pooled":
        raise ConfigError(f"--backend medpy computes the pooled HD95 only, not '{policy.hd95}'")
    if options.ignore_label is not None:
        raise ConfigError("--backend medpy knows no ignored pixels; leave out --ignore-label")
    if find_spec("medpy") is None:
        raise DependencyError("--backend medpy needs medpy: pip install 'guidino[medpy]'")
    return True


def _reading(options: Options) -> tuple[ReadOptions, ReadOptions, Classes | None]:
    classes = None if options.classes is None else parse_classes(options.classes)
    theirs = None if options.pred_classes is None else parse_classes(options.pred_classes)
    if theirs is not None and theirs.codes is None:
        raise ConfigError(f"--pred-classes {options.pred_classes}: expected values such as '0=background,255=polyp'")
    if theirs is not None and (classes is None or theirs.names != classes.names):
        raise ConfigError("--pred-classes: expected the names of --classes in the same order")
    truth = ReadOptions(
        class_count=None if classes is None else len(classes.names),
        codes=None if classes is None or classes.codes is None else tuple(classes.codes.items()),
        binary=options.binary,
        threshold=options.threshold,
        ignore=options.ignore_label,
    )
    predictions = ReadOptions(
        codes=None if theirs is None or theirs.codes is None else tuple(theirs.codes.items()),
        binary=options.binary,
        threshold=options.pred_threshold,
    )
    return truth, predictions, classes


def _regions(text: str | None) -> tuple[tuple[str, str], ...]:
    if text is None:
        return ()
    regions = [tuple(part.strip() for part in item.split("=")) for item in text.split(",")]
    if not all(len(region) == 2 and all(region) for region in regions):
        raise ConfigError(f"--regions {text}: expected names and classes such as disc=1+2,cup=2")
    names = [region[0] for region in regions]
    if len(set(names)) < len(names):
        raise ConfigError(f"--regions {text}: a name is given twice")
    return tuple((region[0], region[1]) for region in regions)


def _gates(options: Options) -> list[Gate]:
    given = {"dice": options.min_dice, "iou": options.min_iou, "hd95": options.max_hd95}
    return [parse_gate(metric, text) for metric, texts in given.items() for text in texts]


def _numbers(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise ConfigError(f"--spacing {text}: expected one positive number in mm, or one per axis such as 0.5,0.7")
    return numbers


def _check_folder(out: Path, *, overwrite: bool) -> None:
    if out.is_file():
        raise ConfigError(f"{out}: is a file; -o needs a folder")
    if out.is_dir() and any(out.iterdir()) and not overwrite:
        raise ConfigError(f"{out}: is not empty; add --overwrite or choose another -o")


def _progress(cases: Iterable[CaseResult], total: int) -> Iterator[CaseResult]:
    return track(cases, total=total, description="scoring")


def _finish(result: Evaluation, verdicts: Sequence[Verdict]) -> None:
    """Say what went wrong and choose the exit code: nothing to score, a gate, then failed cases."""
    problems = result.problems()
    for case in problems[:_LISTED]:
        say(f"{case.pair.truth.case}: {case.note}")
    if len(problems) > _LISTED:
        say(f"... and {len(problems) - _LISTED} more; see per_case.csv")
    failed = [verdict for verdict in verdicts if not verdict.passed]
    if failed:
        raise GateError("; ".join(verdict.sentence for verdict in failed))
    if len(result.absent) == len(result.job.targets):
        raise DataError("no mask of either side has a foreground pixel: there was nothing to score")
    if problems:
        rule = {
            "worst": "they count as the worst result",
            "exclude": "this policy leaves missing ones out of means",
        }
        share = f"{len(problems)} of {len(result.cases)} cases"
        raise PartialError(f"{share} have no usable prediction; {rule[result.job.policy.missing]}")
