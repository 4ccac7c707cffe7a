"""`guidino compare`: two or more sets of predictions, case by case against one truth."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from guidino_cli.commands.evaluate_output import say
from guidino_cli.data.images import write_atomically, write_text
from guidino_cli.errors import ConfigError, PartialError
from guidino_cli.evaluation.columns import column
from guidino_cli.evaluation.comparison import CAVEATS, FEWEST, Contest, compare
from guidino_cli.evaluation.folder import Request, check_metrics, evaluate
from guidino_cli.evaluation.pairing import find_truths, match
from guidino_cli.evaluation.policy import get_policy
from guidino_cli.evaluation.report_files import dump_json, without_nan
from guidino_cli.evaluation.result import Evaluation, case_value
from guidino_cli.evaluation.scoring import CaseResult
from guidino_cli.evaluation.tables import caption, digits, label
from guidino_cli.metrics import METRICS
from guidino_cli.plots.comparison import Differences, difference_figure
from guidino_cli.progress import say as warn
from guidino_cli.progress import track

_HEADINGS = ("figure", "n", "diff", "95 % CI", "W/T/L", "effect", "p", "Holm")


def run(
    predictions: Sequence[Path],
    truth: Path,
    *,
    out: Path | None = None,
    names: str | None = None,
    split: str = "test",
    metrics: str = "dice,iou,hd95",
    policy: str = "guidino",
    group: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Score every set with the same rules, then compare them pair by pair.

    Raises:
        ConfigError: Fewer than two sets, or an option that cannot be used.
        DataError: Nothing to compare.
        PartialError: Everything is written, but predictions were missing or could not be used.
    """
    labels = _names(predictions, names)
    if out is not None and out.exists() and not overwrite and (out.is_file() or any(out.iterdir())):
        raise ConfigError(f"{out}: is not empty; add --overwrite or choose another -o")
    chosen = check_metrics([name.strip() for name in metrics.split(",") if name.strip()])
    truths = find_truths(truth, split=split)
    groups = None if group is None else column(truths.truths, group, option="--group")
    request = Request(metrics=chosen, policy=get_policy(policy), seed=seed)
    pairings = {name: match(place, truths) for name, place in zip(labels, predictions, strict=True)}
    for name, pairing in pairings.items():
        for warning in pairing.warnings:
            warn(f"warning: {name}: {warning}")
    results = [(name, evaluate(pairing, truths, request, _progress(name))) for name, pairing in pairings.items()]
    contests = compare(results, groups=groups, seed=seed)
    _show(results, contests)
    if out is not None:
        _write(out, results, contests)
        print(f"wrote {out}: differences.png, comparison.md, comparison.json, per_case.csv")
    failed = {name: len(result.problems()) for name, result in results if result.problems()}
    if failed:
        counts = ", ".join(f"{name} {number}" for name, number in failed.items())
        raise PartialError(f"cases without a usable prediction: {counts}; they count as the policy {policy} says")


def _progress(name: str) -> Callable[[Iterable[CaseResult], int], Iterator[CaseResult]]:
    return lambda cases, total: track(cases, total=total, description=f"scoring {name}")


def _names(predictions: Sequence[Path], names: str | None) -> list[str]:
    if len(predictions) < 2:
        raise ConfigError("compare needs two or more folders of predictions: guidino compare A B --truth T")
    if names is not None:
        given = [name.strip() for name in names.split(",")]
        if len(set(given)) != len(predictions) or not all(given):
            raise ConfigError(f"--names {names}: expected {len(predictions)} different names, by comma")
        return given
    short = [place.name for place in predictions]
    whole = [str(place) for place in predictions]
    if len(set(whole)) < len(whole):
        raise ConfigError("the same folder is given twice; give them different --names if that is meant")
    return short if len(set(short)) == len(short) else whole


def _show(results: Sequence[tuple[str, Evaluation]], contests: Sequence[Contest]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    unit = results[0][1].unit
    for name, result in results:
        means = (f"{label(m, unit)} {digits(result.line(result.headline, m).mean, m)}" for m in result.job.metrics)
        say(f"{name}: {', '.join(means)} ({result.headline}, {len(result.cases)} cases)")
    for title, rows in _blocks(contests, unit).items():
        print(f"\n{title}")
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
        for number, heading in enumerate(_HEADINGS):
            table.add_column(heading, justify="right" if number else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    for line in _notes(results[0][1]):
        say(line)


def _blocks(contests: Sequence[Contest], unit: str) -> dict[str, list[tuple[str, ...]]]:
    blocks: dict[str, list[tuple[str, ...]]] = {}
    for item in contests:
        blocks.setdefault(f"{item.second} - {item.first}", []).append(_row(item, unit))
    return blocks


def _row(item: Contest, unit: str) -> tuple[str, ...]:
    figure = _short(item.metric)
    return (
        label(item.metric, unit),
        f"{item.used}/{item.differences.size}",
        figure(item.mean),
        "-" if math.isnan(item.ci_low) else f"{figure(item.ci_low)}..{figure(item.ci_high)}",
        f"{item.wins}/{item.ties}/{item.losses}",
        "-" if math.isnan(item.effect) else f"{item.effect:+.2f}",
        _p(item.p_value),
        _p(item.p_holm),
    )


def _short(metric: str) -> Any:
    places = 2 if METRICS[metric].kind == "distance" else 3
    return lambda value: "-" if math.isnan(value) else f"{value:+.{places}f}"


def _p(value: float) -> str:
    return "-" if math.isnan(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def _notes(result: Evaluation) -> list[str]:
    return [
        "diff: mean of second - first over cases; W/T/L: cases the second wins, ties and loses; effect: rank-biserial "
        f"correlation, +1 if the second always wins; p: Wilcoxon signed-rank (Pratt), none below {FEWEST} pairs; "
        "Holm: corrected over all rows",
        *caption(result)[1:],
        *CAVEATS,
    ]


def _write(out: Path, results: Sequence[tuple[str, Evaluation]], contests: Sequence[Contest]) -> None:
    unit = results[0][1].unit
    write_text(out / "per_case.csv", _per_case(results))
    write_text(out / "comparison.md", _markdown(results, contests))
    main = contests[0].metric
    panels = [
        Differences(
            title=f"{item.second} against {item.first}",
            label=label(main, unit),
            values=item.known,
            higher_is_better=METRICS[main].higher_is_better,
            mean=item.mean,
            ci=(item.ci_low, item.ci_high),
        )
        for item in contests
        if item.metric == main
    ]
    figure = difference_figure(panels)
    write_atomically(out / "differences.png", lambda place: figure.savefig(place, dpi=150))
    write_text(out / "comparison.json", _json(results, contests))


def _per_case(results: Sequence[tuple[str, Evaluation]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "metric", *(name for name, _ in results)])
    for position, case in enumerate(results[0][1].cases):
        for metric in results[0][1].job.metrics:
            values = [case_value(result.cases[position], metric, result) for _, result in results]
            cells = ["" if math.isnan(value) else repr(value) for value in values]
            writer.writerow([case.pair.truth.case, metric, *cells])
    return text.getvalue()


def _markdown(results: Sequence[tuple[str, Evaluation]], contests: Sequence[Contest]) -> str:
    parts = ["# Comparison", ""]
    for title, rows in _blocks(contests, results[0][1].unit).items():
        parts += [f"## {title}", "", f"| {' | '.join(_HEADINGS)} |", "| --- |" + " ---: |" * (len(_HEADINGS) - 1)]
        parts += [f"| {' | '.join(row)} |" for row in rows] + [""]
    notes = [f"- {line}" for line in _notes(results[0][1])]
    return "\n".join([*parts, "![paired differences](differences.png)", "", *notes, ""])


def _json(results: Sequence[tuple[str, Evaluation]], contests: Sequence[Contest]) -> str:
    rows = []
    for item in contests:
        row = {key: value for key, value in vars(item).items() if key != "differences"}
        rows.append(row | {"n_used": item.used, "n_total": item.differences.size})
    content = {
        "sets": [name for name, _ in results],
        "policy": results[0][1].job.policy.to_json(),
        "contests": rows,
        "caveats": CAVEATS,
    }
    return dump_json(without_nan(content))
