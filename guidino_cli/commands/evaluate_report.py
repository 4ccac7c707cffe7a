"""Output of an evaluation: tables on the terminal and files of the report folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from guidino_cli.commands.text_tables import print_table, print_wrapped
from guidino_cli.evaluation.cases import Pairing, TruthSet
from guidino_cli.evaluation.gates import GateResult
from guidino_cli.evaluation.report.files import dump_json, instances_csv, lesions_csv, per_case_csv, summary_csv
from guidino_cli.evaluation.report.html import to_html
from guidino_cli.evaluation.report.provenance import Provenance
from guidino_cli.evaluation.report.text import (
    HEADINGS,
    SIZE_HEADINGS,
    caption,
    format_metric,
    size_rows,
    stratum_title,
    table_rows,
    to_junit,
    to_markdown,
    worst_cases,
)
from guidino_cli.evaluation.summary import EvaluationResult, compared_instances, pool_all_lesions, pooled_overlap
from guidino_cli.files import write_text
from guidino_cli.metrics import METRICS

_WORST_CASES = 5


def write_report(
    out: Path,
    result: EvaluationResult,
    pairing: Pairing,
    provenance: Provenance,
    gate_results: Sequence[GateResult],
    report: Mapping[str, Any],
) -> None:
    """Write the report; report.json comes last, so that its presence means the folder is complete."""
    write_text(out / "per_case.csv", per_case_csv(result))
    write_text(out / "summary.csv", summary_csv(result))
    if pool_all_lesions(result):
        write_text(out / "lesions.csv", lesions_csv(result))
    if compared_instances(result):
        write_text(out / "instances.csv", instances_csv(result))
    write_text(out / "report.md", to_markdown(result, pairing, provenance, gate_results))
    write_text(out / "junit.xml", to_junit(result, pairing, gate_results))
    write_text(out / "report.html", to_html(result, pairing, provenance, gate_results))
    write_text(out / "report.json", dump_json(report))


def print_evaluation(
    result: EvaluationResult, pairing: Pairing, truths: TruthSet, gate_results: Sequence[GateResult], out: Path | None
) -> None:
    """Print the summary; it fits 80 columns, in plain ASCII if the locale requires it."""
    total = len(result.cases)
    matched = total - sum(case.pair.prediction is None for case in result.cases)
    print_wrapped(f"truth: {truths.origin}; {result.config.truth.rule.sentence}")
    print_wrapped(f"predictions: {result.config.predictions.rule.sentence}")
    others = f", of other splits {len(pairing.other_splits)}" if pairing.other_splits else ""
    print_wrapped(f"matched {matched} of {total} ({pairing.rule}); extra predictions {len(pairing.extra)}{others}")
    for line in pairing.coverage:
        print_wrapped(f"WARNING: {line}")
    several = len(result.config.targets) > 1
    print_table(HEADINGS, table_rows(result), several=several)
    for stratum, rows in result.strata.items():
        print_wrapped(f"{stratum_title(result, stratum)}:")
        print_table(HEADINGS, table_rows(result, rows), several=several)
    if blocks := size_rows(result):
        print_table(SIZE_HEADINGS, blocks, several=several)
    for name, counts in result.pooled.items() if result.has_pixel_metrics else ():
        pooled = pooled_overlap(counts)
        values = [f"{METRICS[metric].label} {format_metric(value, metric)}" for metric, value in pooled.items()]
        print_wrapped(f"pooled over all pixels, {name}: {', '.join(values)}")
    for line in caption(result):
        print_wrapped(line)
    print_wrapped("worst cases:")
    for line in worst_cases(result, _WORST_CASES):
        print_wrapped(f"  {line}")
    for gate in gate_results:
        print_wrapped(gate.sentence)
    if out is not None:
        lesions = ", lesions.csv" if pool_all_lesions(result) else ""
        lesions += ", instances.csv" if compared_instances(result) else ""
        print_wrapped(
            f"wrote {out}: report.html, report.md, report.json, per_case.csv, summary.csv{lesions}, junit.xml"
        )
