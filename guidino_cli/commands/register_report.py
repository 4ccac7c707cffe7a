"""Reports of `guidino register`: report.csv, labels.csv, report.json, report.html, and the table that is printed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from guidino_cli import __version__
from guidino_cli.commands.register_outputs import FIGURE_FILE, METRICS, describe_scores
from guidino_cli.commands.register_pairs import PairFiles
from guidino_cli.commands.text_tables import print_table, print_wrapped
from guidino_cli.evaluation.statistics import bootstrap_means, percentile_interval
from guidino_cli.files import write_atomically, write_text
from guidino_cli.html import stream
from guidino_cli.plots.report import data_uri
from guidino_cli.progress import pluralize
from guidino_cli.tables import to_csv

_SHOWN, _DRAWN = 30, 200
"""Pairs in the printed table, and figures on the page; the files have all."""
_DISTANCES = {"hd95", "asd"}
_LABELS = {"dice": "Dice", "hd95": "HD95", "asd": "ASD", "correlation": "correlation"}
_WIDTH = 1400


def write_reports(
    out: Path, results: Sequence[dict[str, Any]], failed: Mapping[str, str], settings: Mapping[str, Any], *,
    pairs: Sequence[PairFiles], folders: Mapping[str, Path], figures: bool,
) -> dict[str, Any]:  # fmt: skip
    """Write all reports.

    Args:
        out: Folder of the reports.
        results: Of the registered pairs.
        failed: Reason by name of the pair.
        settings: Of the method.
        pairs: All of them.
        folders: Folder by name of the pair.
        figures: Whether there are figures for the page.

    Returns:
        The content of report.json.
    """
    scores = list(results[0]["scores"])
    rows = [
        [
            item["name"],
            item["fixed"],
            item["moving"],
            "ok",
            *map(_cell, item["scores"].values()),
            "; ".join(item["notes"]),
        ]
        for item in results
    ] + [
        [pair.name, str(pair.fixed), str(pair.moving), "failed", *[""] * len(scores), failed[pair.name]]
        for pair in pairs
        if pair.name in failed
    ]
    write_text(out / "report.csv", to_csv(["name", "fixed", "moving", "status", *scores, "note"], rows))
    labelled = [(item["name"], label) for item in results for label in item["labels"]]
    if labelled:
        table = [[name, *map(_cell, label.values())] for name, label in labelled]
        write_text(out / "labels.csv", to_csv(["name", *labelled[0][1]], table))
    report = {
        "version": __version__,
        "settings": dict(settings),
        "pairs": len(results),
        "failed": dict(failed),
        "summary": summarize_pairs(results),
        "results": list(results),
    }
    write_text(out / "report.json", json.dumps(report, indent=2) + "\n")
    if figures:
        _write_page(out, report, folders)
    return report


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def summarize_pairs(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean over the pairs before and after, and of the difference, with 95 % bootstrap intervals over pairs.

    Metrics that no pair has are left out; an interval needs two pairs.
    """
    summary: dict[str, dict[str, Any]] = {}
    for metric in (*METRICS, "correlation"):
        values = [[item["scores"][f"{metric}_{when}"] for when in ("before", "after")] for item in results]
        known = np.array([pair for pair in values if None not in pair], dtype=np.float64)
        if not len(known):
            continue
        columns = np.column_stack([known, known[:, 1] - known[:, 0]])
        draws = bootstrap_means(columns) if len(known) > 1 else None
        summary[metric] = {
            "pairs": len(known),
            **{
                name: {
                    "mean": float(columns[:, place].mean()),
                    "ci95": None if draws is None else list(percentile_interval(draws[:, place])),
                }
                for place, name in enumerate(("before", "after", "difference"))
            },
        }
    return summary


def headings_and_rows(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]], list[str]]:
    """Headings, a row for each pair, and the row of means."""
    results = report["results"]
    shown = [metric for metric in METRICS if metric in report["summary"]] or ["correlation"]
    unit = results[0]["scores"]["unit"]
    headings = ["pair"]
    for metric in shown:
        in_unit = f" {unit}" if metric in _DISTANCES else ""
        headings += [f"{_LABELS[metric]}{in_unit} before", "after"]
    headings += ["folds %", "seconds"]

    def cells(scores: Mapping[str, Any]) -> list[str]:
        values = [_format(scores[f"{metric}_{when}"], metric) for metric in shown for when in ("before", "after")]
        return [*values, f"{100 * scores['folding']:.2f}", f"{scores['seconds']:.1f}"]

    rows = [[item["name"], *cells(item["scores"])] for item in results]
    keys = [key for key in results[0]["scores"] if key != "unit"]
    means = {key: _mean([item["scores"][key] for item in results]) for key in keys}
    return headings, rows, ["mean", *cells(means)]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _format(value: float | None, metric: str) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if metric in _DISTANCES else f"{value:.3f}"


def print_report(report: Mapping[str, Any], out: Path) -> None:
    """Print the table, the mean change with its interval, and where the files are."""
    headings, rows, means = headings_and_rows(report)
    shown = [*rows[:_SHOWN], *([means] if len(rows) > 1 else [])]
    print_table(headings, [("", shown)], collapse_padding=True)
    if len(rows) > _SHOWN:
        print_wrapped(f"{len(rows) - _SHOWN} more pairs in {out / 'report.csv'}")
    for line in describe_changes(report):
        print_wrapped(line)
    print_wrapped(f"{pluralize(len(rows), 'pair')} in {out}")


def describe_changes(report: Mapping[str, Any]) -> list[str]:
    """A sentence for each metric with an interval."""
    unit = report["results"][0]["scores"]["unit"]
    lines = []
    for metric, item in report["summary"].items():
        interval = item["difference"]["ci95"]
        if interval is not None and (metric != "correlation" or len(report["summary"]) == 1):
            in_unit = f" {unit}" if metric in _DISTANCES else ""
            before, after = (_format(item[when]["mean"], metric) for when in ("before", "after"))
            change, low, high = (f"{value:+.3f}" for value in (item["difference"]["mean"], *interval))
            lines.append(
                f"{_LABELS[metric]}: {before}{in_unit} before, {after}{in_unit} after: {change}{in_unit} "
                f"({low} to {high}, 95 % bootstrap over {item['pairs']} pairs)"
            )
    return lines


def describe_settings(settings: Mapping[str, Any]) -> str:
    """What determined the results, as options are typed; those that change nothing are left out."""
    shown = []
    for key, value in settings.items():
        if value is None or value is False:
            continue
        # Enough of a digest to tell two apart; report.json has all of it.
        text = str(value)[:12] if key.endswith("_sha256") else str(value)
        shown.append(key.replace("_", "-") if value is True else f"{key.replace('_', '-')} {text}")
    return ("A network. " if "network" in settings else "ConvexAdam. ") + "Settings: " + ", ".join(shown)


def _write_page(out: Path, report: Mapping[str, Any], folders: Mapping[str, Path]) -> None:
    headings, rows, means = headings_and_rows(report)
    # Pairs that were kept may have been registered with --no-figures.
    drawn = [item for item in report["results"] if (folders[item["name"]] / FIGURE_FILE).is_file()]
    values = {
        "version": __version__,
        "heading": f"Registration of {pluralize(len(rows), 'pair')}",
        "notes": [
            *describe_changes(report),
            "Displacements point from the fixed image to the moving one; labels are warped by the nearest pixel. "
            "Folds: share of pixels whose Jacobian determinant is not positive.",
            describe_settings(report["settings"]),
        ],
        "headings": headings,
        "summary": [means] if len(rows) > 1 else [],
        "rows": rows,
        "failed": list(report["failed"].items()),
        "images": (_embed(item, folders[item["name"]]) for item in drawn[:_DRAWN]),
        "omitted": max(0, len(drawn) - _DRAWN),
    }

    def write(path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(stream("registration.html.j2", **values))

    write_atomically(out / "report.html", write)


def _embed(result: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    with Image.open(folder / FIGURE_FILE) as file:
        (width, height), uri = file.size, data_uri(file, kind="webp", max_width=_WIDTH)
    title = f"{result['name']}: {describe_scores(result)}"
    return {"title": title, "width": width, "height": height, "uri": uri}
