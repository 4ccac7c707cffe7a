"""`guidino models`: list the segmenters with sizes, papers and guide places, or describe and measure some."""

import inspect
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from guidino_cli.commands.json_output import print_json
from guidino_cli.config import load_preset, preset_names
from guidino_cli.errors import ConfigError, DependencyError, unknown_name
from guidino_cli.models.segmenters.registry import SEGMENTER_INFO, SEGMENTERS
from guidino_cli.progress import log_info, progress_bar
from guidino_cli.registry import find
from guidino_cli.tables import to_csv

_NOTES = """\
trained, total: parameters in millions with two classes; total includes the backbone.
guide: what it can gate: i(nput), b(ottleneck), f(eatures); of any network
it can be added to the logits; l(ogits): they are made of the guide.
For volumes (data.dims=3): {volumes}; the others take images and slices.
On a GPU train.deterministic ends with an error for: {not_deterministic}.
Details of one: guidino models NAME. Cost of a step: guidino models --measure"""


SCHEMA = 1


def run(names: Sequence[str], *, measure: bool, side: int, form: str) -> None:
    """List all networks, or describe the named ones.

    Args:
        names: Segmenters; empty for all.
        measure: Add multiply-adds, memory and seconds of a training step, each measured in its own process.
        side: Height and width of the measured image, in pixels; a volume has a quarter of it along every axis.
        form: "table", "csv", "json" or "markdown" (the list in docs/models.md).

    Raises:
        ConfigError: No such network.
    """
    for name in names:
        if name not in SEGMENTER_INFO:
            key = name.partition(":")[0]
            if key in SEGMENTER_INFO:
                raise ConfigError(f"{name} is one of many that {key} stands for: guidino models {key}")
            raise ConfigError(unknown_name("network", name, SEGMENTER_INFO, lister="guidino models"))
    wanted = names or list(SEGMENTER_INFO)
    rows = []
    with progress_bar(enabled=measure) as bar:
        task = bar.add_task("networks", total=len(wanted), note="")
        for name in wanted:
            bar.update(task, note=name)
            rows.append(_row(name) | (_measure(name, side, is_named=bool(names)) if measure else {}))
            bar.advance(task)
    if form == "json":
        print_json({"networks": [_for_programs(row) for row in rows]}, schema=SCHEMA)
    elif form == "csv":
        print(_csv(rows), end="")
    elif form == "markdown":
        print(_markdown(rows))
    elif names:
        for row in rows:
            _describe(row, side=side)
    else:
        _list(rows, measure=measure, side=side)


def _row(name: str) -> dict[str, Any]:
    """A segmenter's row as plain values; the size of a name that stands for many networks is None."""
    info = SEGMENTER_INFO[name]
    return {
        "name": name,
        **{key: getattr(info, key) for key in ("title", "paper", "summary", "use", "needs")},
        "dims": info.dims,
        "backbone": info.backbone.title if info.backbone else None,
        "guide_at": list(info.guided_at),
        "not_deterministic": list(info.not_deterministic),
        **{key: getattr(info.size, key, None) for key in ("stride", "trainable", "total")},
    }


def _for_programs(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the costs in a section of its own, None if they were not measured."""
    costs = {key: row.pop(key) for key in ("side", "multiply_adds", "memory_mb", "seconds") if key in row}
    return row | {"cost": costs or None}


def _measure(name: str, side: int, *, is_named: bool) -> dict[str, Any]:
    """Cost of a training step on this machine; None where the network's library is not installed."""
    from guidino_cli.engine.measuring import measure_cost

    try:
        return {"side": side, **asdict(measure_cost(name, side))}
    except DependencyError as error:
        if is_named:
            log_info(str(error))
    return {"side": side, **dict.fromkeys(("multiply_adds", "memory_mb", "seconds"))}


def _list(rows: Sequence[dict[str, Any]], *, measure: bool, side: int) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("name", no_wrap=True)
    for title in ("trained", "total", *(("G mult-adds", "step MB", "step s") if measure else ())):
        table.add_column(title, no_wrap=True, justify="right")
    for title in ("guide", *(() if measure else ("backbone", "extra", "paper"))):
        table.add_column(title, no_wrap=True)
    for row in rows:
        costs = (
            _scaled(row.get("multiply_adds"), 1e9),
            _scaled(row.get("memory_mb"), 1, 0),
            _scaled(row.get("seconds"), 1, 2),
        )
        texts = (_short_backbone(row), row["needs"] or "-", row["paper"].split(",")[0])
        guide = "".join(place[0] for place in row["guide_at"])
        sizes = (_scaled(row["trainable"], 1e6), _scaled(row["total"], 1e6))
        table.add_row(row["name"], *sizes, *(costs if measure else ()), guide, *(() if measure else texts))
    console = Console(highlight=False)
    console.print(table)
    chosen = {
        "volumes": [row["name"] for row in rows if row["dims"] == 3],
        "not_deterministic": [row["name"] for row in rows if row["not_deterministic"]],
    }
    console.print(_NOTES.format(**{key: ", ".join(names) for key, names in chosen.items()}))
    if measure:
        edge = max(1, side // 4)
        console.print(
            f"Measured on this CPU: forward and backward of one image of {side}x{side} px, or of one volume of "
            f"{edge}x{edge}x{edge} voxels, without backbone."
        )


def _short_backbone(row: dict[str, Any]) -> str:
    return "-" if row["backbone"] is None else row["backbone"].split()[-1]


def _scaled(value: float | None, unit: float, digits: int = 1) -> str:
    if value is None:
        return "-"
    scaled = value / unit
    return f"{scaled:.2g}" if 0 < scaled < 0.5 * 10**-digits else f"{scaled:.{digits}f}"


def _describe(row: dict[str, Any], *, side: int) -> None:
    """Print one segmenter on a few lines."""
    options = ", ".join(f"{name}={value}" for name, value in _options(row["name"]).items()) or "none"
    presets = [name for name in preset_names() if load_preset(name).model.segmenter.name == row["name"]]
    trainable, total = (_scaled(row[key], 1e6, 3) for key in ("trainable", "total"))
    lines = {
        "paper": row["paper"],
        "what": row["summary"],
        "when": row["use"],
        "takes": "volumes (data.dims=3)" if row["dims"] == 3 else "images, and volumes by slices",
        "reads": "the image" if row["backbone"] is None else f"a backbone (sizes with {row['backbone']})",
        "weights": f"{trainable} M trained, {total} M total (2 classes)",
        "guide at": ", ".join(row["guide_at"]),
        "on a GPU": _determinism(row["not_deterministic"]),
        "extra": f"pip install 'guidino[{row['needs']}]'" if row["needs"] else "none",
        "options": options,
        "presets": ", ".join(presets) or "none",
    }
    if row.get("multiply_adds"):
        edge = max(1, side // 4)
        size, what = (f"{side}x{side} px", "image") if row["dims"] == 2 else (f"{edge}x{edge}x{edge} voxels", "volume")
        lines["cost"] = (
            f"{row['multiply_adds'] / 1e9:.2f} G multiply-adds at {size}; a training step of one {what} "
            f"{row['memory_mb']:.0f} MB and {row['seconds']:.2f} s on this CPU, without backbone"
        )
    console = Console(highlight=False, soft_wrap=False)
    table = Table(title=f"{row['name']}: {row['title']}", title_justify="left", box=None, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for title, text in lines.items():
        table.add_row(title, text)
    console.print(table)


def _determinism(functions: Sequence[str]) -> str:
    """Sentence on whether `train.deterministic` works on a GPU."""
    if not functions:
        return "train.deterministic gives the same weights every time"
    return f"train.deterministic ends with an error: no deterministic kernel for {', '.join(functions)}"


def _options(name: str) -> dict[str, Any]:
    """Keys of `model.segmenter.options` with their defaults."""
    set_by_program = {"num_classes", "in_channels", "dense_channels"}
    parameters = inspect.signature(find("segmenter", name, SEGMENTERS)).parameters
    return {key: item.default for key, item in parameters.items() if key not in set_by_program}


def _markdown(rows: Sequence[dict[str, Any]]) -> str:
    """One paragraph per segmenter: title, size, paper, summary and use."""
    return "\n\n".join(
        f"**{row['title']}** (`{row['name']}`, {_format_size(row)}; {row['paper']})\n{row['summary']}\n{row['use']}"
        for row in rows
    )


def _format_size(row: dict[str, Any]) -> str:
    if row["trainable"] is None:
        return "its size depends on its name"
    size = f"{row['trainable'] / 1e6:.2f} M"
    extra = f", extra `{row['needs']}`" if row["needs"] else ""
    return f"{size} and a backbone{extra}" if row["backbone"] else f"{size}{extra}"


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    listed = {"guide_at": " ", "not_deterministic": "; "}
    lines = ({**row, **{key: mark.join(row[key]) for key, mark in listed.items()}} for row in rows)
    return to_csv(list(rows[0]), [list(line.values()) for line in lines])
