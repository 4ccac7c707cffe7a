"""The page of `guidino report`: what its template shows, from runs, evaluations and guides that were read."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from guidino_cli import __version__
from guidino_cli.commands.report_figures import embed_figure
from guidino_cli.commands.report_inputs import ReportedData, ReportedGuides, ReportedRun, ReportInputs, read_data
from guidino_cli.commands.report_scores import evaluation_boxes, score_values
from guidino_cli.commands.report_tables import environment_table, settings_table
from guidino_cli.config import dump_config
from guidino_cli.engine.openvino.folder import is_engine_folder
from guidino_cli.html import render
from guidino_cli.plots.history import training_curve
from guidino_cli.plots.report import data_uri
from guidino_cli.plots.run_curves import validation_curves
from guidino_cli.preparation.report import count_by_split, format_sizes
from guidino_cli.progress import format_duration

_SHEET_WIDTH = 1100
_SHEET = "contact_sheet.png"


def make_page(inputs: ReportInputs) -> tuple[str, list[str]]:
    """The page, and the sections that it lacks because no given folder has them."""
    missing = list(_missing(inputs))
    page = render(
        "report.html.j2",
        version=__version__,
        title=", ".join(run.name for run in inputs.runs),
        created=datetime.now().astimezone().isoformat(timespec="minutes").replace("T", " "),
        missing=missing,
        boxes=[*evaluation_boxes(inputs.evaluations), *_run_boxes(inputs.runs)],
        **score_values(inputs.evaluations, inputs.runs),
        curves=list(_curves(inputs.runs)),
        guides=[_guide_values(item) for item in inputs.guides],
        fits=[(run.name, _describe_fit(run)) for run in inputs.runs if "guide_fit" in run.facts],
        data=[_data_values(item) for item in read_data(inputs.runs)],
        run_names=[run.name for run in inputs.runs],
        settings=settings_table(inputs.runs),
        configs=[(run.name, dump_config(run.config)) for run in inputs.runs],
        environment=environment_table(inputs.runs),
    )
    return str(page), missing


def _missing(inputs: ReportInputs) -> Iterator[str]:
    """Sections missing on the page, each with the command that makes its folder."""
    run = inputs.runs[0]
    if not inputs.evaluations:
        yield (
            f"no scores: predict and evaluate the test part, guidino predict {run.path} DATA -o MASKS and "
            "guidino evaluate MASKS DATA -o EVALUATION, then name EVALUATION too"
        )
    for item in inputs.runs:
        is_drawn = any(_is_of(guides, item) for guides in inputs.guides)
        # `visualize-guide` needs torch's network.
        if item.config.model.guide is not None and not is_drawn and not is_engine_folder(item.path):
            yield (
                f"no guide quality of {item.name}: guidino visualize-guide DATA --run {item.path} -o GUIDES, then name "
                "GUIDES too"
            )
        if item.best is None:
            yield f"{item.name}: no validation Dice; it was made by fewshot or export, or is not validated yet"


def _is_of(guides: ReportedGuides, run: ReportedRun) -> bool:
    return Path(str(guides.content.get("run", ""))).resolve() == run.path.resolve()


def _run_boxes(runs: Sequence[ReportedRun]) -> Iterator[dict[str, str]]:
    for run in runs:
        best = run.best
        yield {
            "value": "-" if best is None else f"{best['val_dice']:.4f}",
            "label": "validation Dice",
            "note": "not validated" if best is None else f"epoch {best['epoch']} of {len(run.history)}, the best",
            "name": run.name,
        }


def _curves(runs: Sequence[ReportedRun]) -> Iterator[tuple[str, str]]:
    """Title and figure: of all runs together where there are several, then of each."""
    trained = [run for run in runs if run.history]
    if len(trained) > 1:
        yield (
            "Validation Dice of all runs",
            embed_figure(validation_curves([(run.name, run.history) for run in trained])),
        )
    for run in trained:
        seconds = sum(row.get("train_seconds", 0) + row.get("val_seconds", 0) for row in run.history)
        speeds = [row["images_per_second"] for row in run.history if "images_per_second" in row]
        speed = f", {median(speeds):.3g} images/s in training" if speeds else ""
        planned = run.config.train.epochs
        epochs = f"{len(run.history)} of {planned} epochs" if len(run.history) < planned else f"{planned} epochs"
        title = f"{run.name}: {epochs} in {format_duration(seconds)}{speed}"
        yield title, embed_figure(training_curve(run.history))


def _guide_values(guides: ReportedGuides) -> dict[str, Any]:
    """Scores of guides over all images; a row for each map."""
    rows = []
    for item in guides.content["maps"]:
        auroc = item["auroc"]
        known = {key: value for key, value in item["iou"]["mean"].items() if value is not None}
        best = max(known, key=known.__getitem__) if known else ""
        rows.append(
            [
                f"{item['guide']}, {item['map']}",
                str(item["images"]),
                *(_share(auroc.get(key)) for key in ("mean", "median", "worst", "pooled")),
                _share(known.get("0.5")),
                f"{_share(known[best])} at {best}" if known else "-",
            ]
        )
    sheet = guides.path / _SHEET
    sheets = [sheet] if sheet.is_file() else sorted(guides.path.glob("contact_sheet_*.png"))[:1]
    return {
        "name": f"{guides.path.name}: guide of {guides.content.get('run', 'an unknown run')}",
        "headings": ["map", "images", "AUROC", "median", "worst", "pooled", "IoU at 0.5", "best mean IoU"],
        "rows": rows,
        "sheet": _embed_picture(sheets[0]) if sheets else "",
    }


def _share(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, int | float) else "-"


def _embed_picture(path: Path) -> str:
    """A picture of a folder, made smaller, as a `data:` URI; "" if it cannot be read."""
    try:
        with Image.open(path) as picture:
            return data_uri(picture.convert("RGB"), kind="webp", max_width=_SHEET_WIDTH)
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""


def _describe_fit(run: ReportedRun) -> str:
    fit = run.facts["guide_fit"]
    if not isinstance(fit, dict):
        return str(fit)
    return ", ".join(f"{key.replace('_', ' ')} {_short(value)}" for key, value in fit.items())


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _data_values(item: ReportedData) -> dict[str, Any]:
    rows: list[tuple[str, str]] = [
        ("folder", str(item.folder)),
        ("state", item.state),
        ("SHA-256 of cases.json", item.sha256),
    ]
    manifest = item.manifest
    if manifest is not None:
        parts = ", ".join(f"{part} {count}" for part, count in count_by_split(manifest.cases).items())
        shares = [case.foreground for case in manifest.cases if case.foreground is not None]
        groups = len({case.group for case in manifest.cases})
        rows += [
            ("name", manifest.name),
            ("cases", f"{len(manifest.cases)}: {parts}"),
            ("groups kept together", str(groups) if groups < len(manifest.cases) else "none: every case is its own"),
            ("classes", ", ".join(manifest.classes)),
            ("sizes", f"{format_sizes(manifest.cases)} px (width x height)"),
        ]
        if manifest.channels:
            spacing = " x ".join("kept" if step is None else f"{step:g}" for step in manifest.spacing_mm)
            rows += [("channels", ", ".join(manifest.channels)), ("stored voxels, z x y x x", f"{spacing} mm")]
        if shares:
            low, middle, high = np.percentile(shares, (5, 50, 95))
            rows.append(
                ("foreground of a mask", f"median {middle:.1%}, 5th to 95th percentile {low:.1%} to {high:.1%}")
            )
    sheet = item.folder / _SHEET
    return {
        "name": f"of {', '.join(item.runs)}",
        "rows": rows,
        "sheet": _embed_picture(sheet) if manifest is not None and sheet.is_file() else "",
    }
