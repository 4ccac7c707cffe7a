"""`guidino compare`: compare two or more sets of predictions case by case."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from guidino_cli.commands.evaluate_options import load_truths, parse_options, require_report_folder
from guidino_cli.commands.text_tables import print_table, print_wrapped
from guidino_cli.errors import ConfigError, GateError, PartialError
from guidino_cli.evaluation.cases import Pairing, TruthSet
from guidino_cli.evaluation.columns import column_values
from guidino_cli.evaluation.comparison import NamedResults, PairedComparison, compare_all
from guidino_cli.evaluation.coverage import check_coverage, settle_coverage
from guidino_cli.evaluation.evaluator import evaluate
from guidino_cli.evaluation.matching import match_predictions
from guidino_cli.evaluation.report.comparison import (
    HEADINGS,
    comparison_tables,
    describe_sets,
    explain_table,
    per_case_csv,
    to_json,
    to_markdown,
)
from guidino_cli.evaluation.report.text import metric_label
from guidino_cli.evaluation.truths import align_pairings, read_pairs
from guidino_cli.evaluation.types import CaseResult
from guidino_cli.files import write_atomically, write_text
from guidino_cli.metrics import METRICS
from guidino_cli.options.evaluation import CompareOptions
from guidino_cli.plots.report import PairedDifferences, plot_paired_differences
from guidino_cli.progress import log_warning, pluralize, track


def run(predictions: Sequence[Path], truth: Path, options: CompareOptions) -> None:
    """Score every set of predictions with the same rules, then compare the sets pair by pair.

    Raises:
        ConfigError: There are fewer than two sets, or an option is invalid.
        DataError: There is nothing to compare.
        PartialError: Everything is written, but predictions were missing or unusable.
    """
    labels = _choose_names(predictions, options.names)
    config = parse_options(options)
    require_report_folder(options, [*predictions, truth])
    truths = load_truths(truth, options)
    pairings = dict(zip(labels, _match_sets(predictions, truths, options), strict=True))
    members = [pair.truth for pair in pairings[labels[0]].pairs]
    groups = None if options.group is None else column_values(members, options.group, option="--group")
    for name, pairing in pairings.items():
        for warning in [*pairing.warnings, *pairing.coverage]:
            log_warning(f"{name}: {warning}")
    results = [(name, evaluate(pairing, truths, config, _progress(name))) for name, pairing in pairings.items()]
    comparisons = compare_all(results, groups=groups, seed=options.seed)
    warnings = [f"{name}: {line}" for name, pairing in pairings.items() for line in pairing.coverage]
    _print_comparison(results, comparisons, warnings)
    if options.out is not None:
        _write_report(options.out, results, comparisons, truths.origin, warnings)
        print_wrapped(f"wrote {options.out}: differences.png, comparison.md, comparison.json, per_case.csv")
    if options.strict:
        _require_coverage(pairings, results)
    failed = {name: len(result.problems()) for name, result in results if result.problems()}
    if failed:
        counts = ", ".join(f"{name} {number}" for name, number in failed.items())
        raise PartialError(f"cases without a usable prediction: {counts}; they count by policy {options.policy}")


def _match_sets(predictions: Sequence[Path], truths: TruthSet, options: CompareOptions) -> list[Pairing]:
    tables = options.pairs or ()
    if not tables:
        pairings = [match_predictions(path, truths) for path in predictions]
    elif len(tables) != len(predictions):
        sets = pluralize(len(predictions), "set")
        raise ConfigError(f"--pairs: {pluralize(len(tables), 'table')} for {sets} of predictions; give one for each")
    else:
        pairings = align_pairings([read_pairs(table) for table in tables], tables)
    return settle_coverage(pairings, only_predicted=options.only_predicted)


def _require_coverage(pairings: Mapping[str, Pairing], results: NamedResults) -> None:
    """`GateError` if a prediction has no truth, a case no usable prediction, or a name looks wrong; for --strict."""
    failed = [
        f"{name}: {gate.sentence}"
        for name, result in results
        for gate in check_coverage(result, pairings[name])
        if not gate.passed
    ]
    if failed:
        raise GateError("; ".join(failed))


def _progress(name: str) -> Callable[[Iterable[CaseResult], int], Iterator[CaseResult]]:
    return lambda cases, total: track(cases, total=total, description=f"scoring {name}")


def _choose_names(predictions: Sequence[Path], names: str | None) -> list[str]:
    if len(predictions) < 2:
        raise ConfigError("compare needs two or more folders of predictions: guidino compare A B --truth T")
    if names is not None:
        given = [name.strip() for name in names.split(",")]
        if len(set(given)) != len(predictions) or not all(given):
            raise ConfigError(f"--names {names}: expected {len(predictions)} different names, comma-separated")
        return given
    short = [path.name for path in predictions]
    full = [str(path) for path in predictions]
    if len(set(full)) < len(full):
        raise ConfigError("the same folder is given twice; give them different --names if that is meant")
    return short if len(set(short)) == len(short) else full


def _print_comparison(results: NamedResults, comparisons: Sequence[PairedComparison], warnings: Sequence[str]) -> None:
    for line in warnings:
        print_wrapped(f"WARNING: {line}")
    for line in describe_sets(results):
        print_wrapped(line)
    for title, blocks in comparison_tables(comparisons, results[0][1].unit).items():
        print()
        print_wrapped(title)
        print_table(HEADINGS, blocks, several=len(blocks) > 1, collapse_padding=True)
    for line in explain_table(results[0][1]):
        print_wrapped(line)


def _write_report(
    out: Path,
    results: NamedResults,
    comparisons: Sequence[PairedComparison],
    origin: str,
    warnings: Sequence[str],
) -> None:
    """Write the report; comparison.json comes last, so that its presence means the folder is complete."""
    write_text(out / "per_case.csv", per_case_csv(results))
    write_text(out / "comparison.md", to_markdown(results, comparisons, warnings))
    main, headline = comparisons[0].metric, comparisons[0].target
    panels = [
        PairedDifferences(
            first=item.first,
            second=item.second,
            label=metric_label(main, results[0][1].unit),
            values=item.known,
            higher_is_better=METRICS[main].higher_is_better,
            mean=item.mean,
            ci=(item.ci_low, item.ci_high),
        )
        for item in comparisons
        if item.metric == main and item.target == headline
    ]
    figure = plot_paired_differences(panels)
    write_atomically(out / "differences.png", lambda path: figure.savefig(path, dpi=150))
    content = to_json(results, comparisons, origin=origin, command=sys.argv[1:], warnings=warnings)
    write_text(out / "comparison.json", content)
