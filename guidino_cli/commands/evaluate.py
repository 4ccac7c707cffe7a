"""`guidino evaluate`: predictions and truth in, figures out, with their denominators and rules."""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

from guidino_cli.data.images import write_text
from guidino_cli.engine.evaluation import Evaluation, Request, check_metrics, evaluate
from guidino_cli.engine.pairing import Pairing, TruthSet, find_truths, match, read_pairs
from guidino_cli.engine.policy import Hd95, get_policy
from guidino_cli.engine.report_files import DEFINITIONS, dump_json, per_case_csv, status_counts, summary_csv, to_json
from guidino_cli.engine.scoring import CaseResult
from guidino_cli.engine.tables import HEADINGS, table_rows
from guidino_cli.errors import ConfigError, DataError, PartialError, unknown

_LISTED = 10


def run(
    predictions: Path,
    truth: Path,
    *,
    out: Path | None = None,
    split: str = "test",
    metrics: str = "iou,dice,hd95",
    hd95: str | None = None,
    policy: str = "guidino",
    spacing: str | None = None,
    tolerance: float = 2.0,
    resample: str | None = None,
    pairs: Path | None = None,
    overwrite: bool = False,
    as_json: bool = False,
) -> None:
    """Score `predictions` against `truth`, print a table and write the report folder.

    Raises:
        DataError: Nothing to compare, or masks that cannot be read one way only.
        ConfigError: An option that cannot be used.
        PartialError: Everything is written, but predictions were missing or could not be used.
    """
    if resample not in (None, "nearest"):
        raise ConfigError(f"--resample {resample}: expected nearest (labels must not be blended)")
    request = _request(metrics=metrics, hd95=hd95, policy=policy, spacing=spacing, tolerance=tolerance)
    request = replace(request, resample=resample is not None)
    if out is not None:
        _check_folder(out, overwrite=overwrite)
    truths = find_truths(truth, split=split)
    pairing = read_pairs(pairs) if pairs is not None else match(predictions, truths)
    for warning in pairing.warnings:
        _say(f"warning: {warning}")
    result = evaluate(pairing, truths, request, _with_progress)
    report = to_json(result, pairing, origin=truths.origin, command=sys.argv[1:])
    if out is not None:
        _write(out, result, report)
    if as_json:
        print(json.dumps(report, indent=1, allow_nan=False))
    else:
        _show(result, pairing, truths, out)
    _finish(result)


def _request(*, metrics: str, hd95: str | None, policy: str, spacing: str | None, tolerance: float) -> Request:
    chosen = get_policy(policy)
    if hd95 is not None:
        if hd95 not in get_args(Hd95):
            raise ConfigError(unknown("definition of HD95", hd95, get_args(Hd95)))
        chosen = replace(chosen, hd95=cast(Hd95, hd95))
    names = check_metrics([name.strip() for name in metrics.split(",") if name.strip()])
    return Request(metrics=names, policy=chosen, spacing=_numbers(spacing), tolerance=tolerance)


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


def _write(out: Path, result: Evaluation, report: dict[str, Any]) -> None:
    write_text(out / "per_case.csv", per_case_csv(result))
    write_text(out / "summary.csv", summary_csv(result))
    write_text(out / "report.json", dump_json(report))


def _with_progress(cases: Iterable[CaseResult], total: int) -> Iterator[CaseResult]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if not console.is_terminal:
        yield from cases
        return
    yield from track(cases, description="scoring", total=total, console=console, transient=True)


def _show(result: Evaluation, pairing: Pairing, truths: TruthSet, out: Path | None) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(soft_wrap=False)
    counts = status_counts(result)
    print(f"truth: {truths.origin}; {result.job.truth.rule.sentence}")
    print(f"predictions: {result.job.predictions.rule.sentence}")
    print(
        f"matched {counts['cases'] - counts['missing']} of {counts['cases']} ({pairing.rule}); "
        f"missing {counts['missing']}, failed {counts['failed']}, extra {len(pairing.extra)}"
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    for target, rows in table_rows(result):
        if len(result.job.targets) > 1:
            table.add_section()
            table.add_row(Text(target, style="bold", overflow="ellipsis"))
        for row in rows:
            table.add_row(*row)
    console.print(table)
    if "hd95" in result.job.metrics:
        print(f"HD95: {DEFINITIONS[result.job.policy.hd95]}, in {result.unit}")
    print(f"policy {result.job.policy.name}: {result.job.policy.describe()}")
    if out is not None:
        print(f"wrote {out}: per_case.csv, summary.csv, report.json")


def _finish(result: Evaluation) -> None:
    problems = result.problems()
    if len(result.absent) == len(result.job.targets):
        raise DataError("no mask of either side has a foreground pixel: there was nothing to score")
    if problems:
        for case in problems[:_LISTED]:
            _say(f"{case.pair.truth.case}: {case.note}")
        if len(problems) > _LISTED:
            _say(f"... and {len(problems) - _LISTED} more; see per_case.csv")
        share = f"{len(problems)} of {len(result.cases)} cases"
        raise PartialError(f"{share} have no usable prediction; {_counted(result)}")


def _counted(result: Evaluation) -> str:
    words = {"worst": "they count as the worst result", "exclude": "this policy leaves out the missing ones"}
    return words.get(result.job.policy.missing, "they are listed")


def _say(text: str) -> None:
    print(text, file=sys.stderr)
