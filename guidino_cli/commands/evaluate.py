"""`guidino evaluate`: score predicted masks against true masks, report and gate the metrics."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from guidino_cli.commands.evaluate_options import load_truths, parse_options, require_report_folder
from guidino_cli.commands.evaluate_report import print_evaluation, write_report
from guidino_cli.errors import ConfigError, DataError, GateError, PartialError, unknown_name
from guidino_cli.evaluation.baseline import check_baseline, load_baseline
from guidino_cli.evaluation.cases import Pairing, TruthSet
from guidino_cli.evaluation.coverage import check_coverage, settle_coverage
from guidino_cli.evaluation.evaluator import EvaluationConfig, Progress, evaluate
from guidino_cli.evaluation.gates import (
    Gate,
    GateResult,
    GateStatistic,
    check_gates,
    parse_gate,
    require_share,
    require_targets,
)
from guidino_cli.evaluation.matching import attach_images, match_predictions
from guidino_cli.evaluation.report.files import dump_json, to_json
from guidino_cli.evaluation.report.provenance import find_provenance
from guidino_cli.evaluation.summary import EvaluationResult
from guidino_cli.evaluation.truths import read_pairs
from guidino_cli.evaluation.types import CaseResult
from guidino_cli.options.evaluation import EvaluateOptions
from guidino_cli.progress import log_info, log_warning, pluralize, track

_MAX_LISTED = 10


def run(predictions: Path, truth: Path, options: EvaluateOptions) -> None:
    """Score `predictions` against `truth`, print a table and write the report folder.

    Raises:
        DataError: There is nothing to compare, or mask values are ambiguous.
        ConfigError: An option is invalid.
        GateError: Everything is written, but a gate failed.
        PartialError: Everything is written, but predictions were missing or unusable.
    """
    gates = _parse_gates(options)
    config = parse_options(options, [gate.metric for gate in gates], backend=options.backend)
    require_report_folder(options, [predictions, truth])
    require_share(f"--max-drop {options.max_drop:g}", options.max_drop, percentages_above=1)
    baseline = None if options.baseline is None else load_baseline(options.baseline, config.metrics)
    scored = score_masks(predictions, truth, options, config, gates=gates, progress=_progress, warn=log_warning)
    result, pairing, truths = scored
    gate_results = check_gates(gates, result, options.gate_on)
    if baseline is not None:
        gate_results += check_baseline(result, baseline, options.max_drop)
    if options.strict:
        gate_results += check_coverage(result, pairing)
    provenance = find_provenance(options.pairs or predictions, truths.origin)
    report = to_json(result, pairing, provenance, command=sys.argv[1:], gates=gate_results)
    if options.out is not None:
        write_report(options.out, result, pairing, provenance, gate_results, report)
    if options.as_json:
        print(json.dumps(json.loads(dump_json(report)), indent=1))
    else:
        print_evaluation(result, pairing, truths, gate_results, options.out)
    _finish(result, gate_results)


class ScoredMasks(NamedTuple):
    """Scores, and what was compared with what."""

    result: EvaluationResult
    pairing: Pairing
    truths: TruthSet


def score_masks(
    predictions: Path,
    truth: Path,
    options: EvaluateOptions,
    config: EvaluationConfig,
    *,
    gates: Sequence[Gate] = (),
    progress: Progress = lambda cases, total: cases,
    warn: Callable[[str], None] = lambda warning: None,
) -> ScoredMasks:
    """Score `predictions` against `truth`; prints and writes nothing.

    Args:
        predictions: Folder of masks, or one mask.
        truth: Folder of true masks, one mask, or a prepared folder.
        options: As given.
        config: The same, parsed.
        gates: Their targets must exist.
        progress: Passes cases on and shows how many of the total are done.
        warn: Called with what was found before the masks are read.

    Raises:
        ConfigError: A gate names no target.
        DataError: There is nothing to compare, or mask values are ambiguous.
    """
    truths = load_truths(truth, options)
    pairing = _pair(predictions, truths, options)
    for warning in [*pairing.warnings, *pairing.coverage]:
        warn(warning)
    result = evaluate(
        pairing, truths, config, progress, by=options.by, check=lambda scoring: require_targets(gates, scoring)
    )
    return ScoredMasks(result, pairing, truths)


def _pair(predictions: Path, truths: TruthSet, options: EvaluateOptions) -> Pairing:
    pairing = read_pairs(options.pairs) if options.pairs is not None else match_predictions(predictions, truths)
    (pairing,) = settle_coverage([pairing], only_predicted=options.only_predicted)
    return pairing if options.images is None else attach_images(pairing, options.images)


def _parse_gates(options: EvaluateOptions) -> list[Gate]:
    if options.gate_on not in get_args(GateStatistic):
        raise ConfigError(unknown_name("value of --gate-on", options.gate_on, get_args(GateStatistic)))
    given = {"dice": options.min_dice, "iou": options.min_iou, "hd95": options.max_hd95}
    return [parse_gate(metric, text) for metric, texts in given.items() for text in texts or ()]


def _progress(cases: Iterable[CaseResult], total: int) -> Iterator[CaseResult]:
    return track(cases, total=total, description="scoring")


def _finish(result: EvaluationResult, gate_results: Sequence[GateResult]) -> None:
    """Report failures and choose the exit code: a failed gate, nothing to score, then failed cases."""
    problems = result.problems()
    for case in problems[:_MAX_LISTED]:
        log_info(f"{case.pair.truth.case}: {case.note}")
    if len(problems) > _MAX_LISTED:
        log_info(f"... and {len(problems) - _MAX_LISTED} more; see per_case.csv")
    failed = [gate for gate in gate_results if not gate.passed]
    if failed:
        raise GateError("; ".join(gate.sentence for gate in failed))
    if len(result.absent) == len(result.config.targets):
        raise DataError("no mask of either side has a foreground pixel: there was nothing to score")
    if problems:
        raise PartialError(describe_problems(result))


def describe_problems(result: EvaluationResult) -> str:
    """Number of cases without a usable prediction and how they are scored, in words; "" if there are none."""
    problems = result.problems()
    if not problems:
        return ""
    rule = {
        "worst": "they count as the worst result",
        "exclude": "this policy leaves missing ones out of means",
    }
    share = f"{len(problems)} of {pluralize(len(result.cases), 'case')}"
    return f"without a usable prediction: {share}; {rule[result.config.policy.missing]}"
