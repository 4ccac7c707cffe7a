"""Figures of a run's guide: one for each image, and contact sheets of all images."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from guidino_cli.commands.inputs import find_truth, unique_names
from guidino_cli.commands.visualize.inference import (
    ANY_CLASS,
    DrawingOptions,
    GuidedRun,
    GuideResult,
    GuideVisualizer,
    ResultSpool,
    TokenOptions,
    VisualizationTask,
    for_each_image,
    nothing_drawn_error,
    report_outcome,
    without_adapter,
)
from guidino_cli.commands.visualize.prototypes import PROTOTYPES_FILE as PROTOTYPES
from guidino_cli.commands.visualize.prototypes import PatchCollector, has_prototypes
from guidino_cli.commands.visualize.report import PAGE_FILE as PAGE
from guidino_cli.commands.visualize.report import GuideReport, print_report, to_csv, to_json, write_page
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.guides.scores import MapScore, choose_thresholds
from guidino_cli.engine.runs.loading import load_run
from guidino_cli.errors import ConfigError
from guidino_cli.evaluation.masks import ImageMasks
from guidino_cli.files import write_atomically, write_text
from guidino_cli.plots.contact_sheet import draw_outlined_thumbnail
from guidino_cli.plots.guide import guide_figure
from guidino_cli.plots.guide_sheet import TILE_SIDE, TILES_PER_PAGE, GuideTile, guide_sheet
from guidino_cli.plots.panels import Limits, apply_colormap, overlay_guide
from guidino_cli.plots.views import GuideStyle, GuideView, TokenView
from guidino_cli.progress import track

_MAPS = 4
"""Guide maps in a tile; more would not fit."""


class ContactSheetWriter:
    """Writes a page whenever one is full, so that memory does not grow with the images.

    Args:
        out: Folder of the pages.
        total: Images to come.
        heading: Of every page; the number of the page is added.
        note: What the pictures of a tile are.
        classes: Of the outlines.
        limits: Ends of the colour bar; None draws none.
    """

    def __init__(
        self,
        out: Path,
        *,
        total: int,
        heading: str,
        note: str,
        classes: Sequence[str] = (),
        limits: Limits | None = None,
    ) -> None:
        self.out, self.heading, self.note, self.classes, self.limits = out, heading, note, classes, limits
        self.pages = -(-total // TILES_PER_PAGE)
        self.names: list[str] = []
        self._tiles: list[GuideTile] = []

    def add(self, tile: GuideTile) -> None:
        """One more image."""
        self._tiles.append(tile)
        if len(self._tiles) == TILES_PER_PAGE:
            self.close()

    def close(self) -> None:
        """Write what is left."""
        if not self._tiles:
            return
        number = len(self.names) + 1
        name = "contact_sheet.png" if self.pages == 1 else f"contact_sheet_{number:0{len(str(self.pages))}d}.png"
        page = f", page {number} of {self.pages}" if self.pages > 1 else ""
        figure = guide_sheet(
            self._tiles, heading=self.heading + page, note=self.note, classes=self.classes, limits=self.limits
        )
        write_atomically(self.out / name, figure.savefig)
        self.names.append(name)
        self._tiles = []


def guide_tile(view: GuideView, style: GuideStyle, scores: Sequence[MapScore]) -> GuideTile:
    """An image with its truth (or prediction) outlined, and its guide maps over it."""
    limits = style.limits_of(view)
    size = _size(view.size_hw)
    small = _resized(view.image, size)
    labels = view.labels if view.truth is None else view.truth
    fitted = np.asarray(Image.fromarray(labels.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
    pictures = [draw_outlined_thumbnail(small, fitted, size=max(size))]
    for item in view.maps[:_MAPS]:
        values = np.asarray(Image.fromarray(item.values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
        pictures.append(_bytes(overlay_guide(small, values, limits=limits)))
    known = [score for score in scores[: len(view.maps)] if np.isfinite(score.auroc)]
    detail = f"guide {min(s.low for s in scores):.2f} to {max(s.high for s in scores):.2f}"
    if len(view.maps) == 1 and known:
        detail = f"AUROC {known[0].auroc:.3f}, IoU at 0.5 {known[0].iou_at(0.5):.3f}"
    elif known:
        detail = "AUROC " + ", ".join(f"{score.map} {score.auroc:.3f}" for score in known)
    elif view.truth is not None:
        detail = "no AUROC: nothing to rank; " + detail
    return GuideTile(pictures, view.name, detail)


def token_tile(image: np.ndarray, tokens: TokenView, *, name: str) -> GuideTile:
    """An image, the principal components of its tokens, and cosines."""
    size = _size((image.shape[0], image.shape[1]))
    maps = (_bytes(tokens.components), _bytes(apply_colormap(tokens.similarity)))
    cells = [np.asarray(Image.fromarray(item).resize(size, Image.Resampling.NEAREST)) for item in maps]
    detail = f"{tokens.explained:.0%} of the variance, cosine from {tokens.similarity.min():.2f}"
    return GuideTile([_resized(image, size), *cells], name, detail)


def _size(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Width and height in a tile."""
    scale = TILE_SIDE / max(size_hw)
    return max(1, round(size_hw[1] * scale)), max(1, round(size_hw[0] * scale))


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _bytes(picture: np.ndarray) -> np.ndarray:
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def load_visualizer(
    run_path: Path,
    compare: Path | None,
    view: TokenOptions,
    at: tuple[int, int] | None,
    *,
    overrides: tuple[str, ...],
    device: str | None,
    offline: bool,
) -> GuideVisualizer:
    """The run's eye, and the one it is compared with: another run's, or its own without the adapter."""
    if at is None and not view.tokens and view.scale is not None:
        raise ConfigError("--scale with --run is for its tokens; add --tokens or --at X,Y, or leave out --scale")
    title = "guide" if compare is None else f"run {run_path.resolve().name}"
    eye, classes = _eye(run_path, title, overrides=overrides, device=device, offline=offline)
    other: GuidedRun | None = None
    if compare is not None:
        other, others = _eye(compare, f"run {compare.resolve().name}", overrides=(), device=device, offline=offline)
        if len(others) != len(classes) or _map_count(other) != _map_count(eye):
            raise ConfigError(
                f"--compare {compare}: has {len(others)} classes and {_map_count(other)} guide maps, {run_path} has "
                f"{len(classes)} and {_map_count(eye)}; compare runs on the same classes"
            )
    elif eye.model.backbone is not None and eye.config.model.lora is not None:
        eye = GuidedRun(eye.model, eye.config, "with LoRA")
        other = GuidedRun(eye.model, eye.config, "LoRA off", without_adapter(eye.model))
    return GuideVisualizer(
        eye, classes=classes, other=other, at=at, with_tokens=view.tokens or at is not None, scale=view.scale or 1.0
    )


def _eye(
    path: Path, title: str, *, overrides: tuple[str, ...], device: str | None, offline: bool
) -> tuple[GuidedRun, list[str]]:
    model, config, facts = load_run(path, overrides=overrides, offline=offline)
    if model.guide is None:
        raise ConfigError(
            f"{path}: was trained without a guide, so there is none to show; give a guided run, use "
            "`guidino predict --overlay` for its masks, or leave out --run to see a backbone"
        )
    model.to(pick_device(device))
    return GuidedRun(model, config, title), facts["classes"]


def _map_count(eye: GuidedRun) -> int:
    """Guide maps of a run: one a class, or one."""
    settings = eye.config.model.guide
    return int(settings.options.get("maps", 1)) if settings is not None and not settings.per_class else -1


def draw_guides(
    looker: GuideVisualizer,
    task: VisualizationTask,
    drawing: DrawingOptions,
    limits: Limits | str,
    *,
    facts: dict[str, Any],
) -> None:
    """Look at all images first, so that all have the same colours; then draw them one by one."""
    eye, many = looker.eye, len(task.files) > 1
    truths = find_truth(task.files, task.truth, class_count=len(looker.classes))
    source = _source(eye, facts["run"])
    patches = PatchCollector(eye) if many and has_prototypes(eye) else None
    with tempfile.TemporaryDirectory(prefix="guidino-") as folder:
        shelf = ResultSpool(Path(folder))
        failed = for_each_image(
            unique_names(task.files), "look", lambda name, path: _see(name, path, looker, truths, shelf, patches)
        )
        if not shelf.names:
            raise nothing_drawn_error(task.files, failed)
        style = _style(looker, drawing, limits, source, count=len(shelf.names))
        figures = GuideReport(source, looker.tallies, looker.tallies_before, style.titles, style.thresholds)
        figures.facts |= {**facts, "colours": "each image" if style.limits is None else list(style.limits)}
        known = 0 if truths is None else len(truths.paths)
        maps = [tally.name for tally in looker.tallies if tally.name != ANY_CLASS]
        sheets = _sheets(task.out, style, maps, count=len(shelf.names), known=known) if many else None
        for name, item in track(shelf, total=len(shelf.names), description="draw"):
            view = item.drawn(style.thresholds)
            write_atomically(task.out / f"{name}_guide.png", guide_figure(view, style).savefig)
            figures.add(name, item)
            if sheets is not None:
                sheets.add(guide_tile(view, style, item.scores))
        written = [f"{name}_guide.png" for name in shelf.names]
    if patches is not None:
        patches.write(task.out, source=source.split(":")[0], classes=looker.classes, count=len(written))
    if sheets is not None:
        sheets.close()
        extra = [("At a glance", task.out / name) for name in sheets.names]
        extra += [("What the prototypes like", task.out / PROTOTYPES)] if patches is not None else []
        pictures = (task.out / name for name in written)
        write_page(
            task.out,
            heading=f"Guide of {source}",
            lines=_reading(style),
            pictures=pictures,
            extra=extra,
            figures=figures,
        )
    write_text(task.out / "guides.csv", to_csv(figures))
    write_text(task.out / "guides.json", to_json(figures))
    print_report(figures)
    report_outcome(task, written, failed, kind="guide", more=[*_more(sheets, patches), "guides.csv", "guides.json"])


def _see(
    name: str,
    path: Path,
    looker: GuideVisualizer,
    truths: ImageMasks | None,
    shelf: ResultSpool,
    patches: PatchCollector | None,
) -> None:
    item: GuideResult = looker.look(path, truths)
    shelf.put(name, item)
    if patches is not None:
        patches.add(path)


def _style(
    looker: GuideVisualizer, drawing: DrawingOptions, limits: Limits | str, source: str, *, count: int
) -> GuideStyle:
    seen = [*looker.tallies, *looker.tallies_before]
    low, high = min(tally.low for tally in seen), max(tally.high for tally in seen)
    colours, shared = None, "colours of this image alone"
    if isinstance(limits, tuple):
        colours, shared = limits, ""
    elif limits == "all":
        colours = round_outwards(low, high)
        shared = f"same colours in all {count} images" if count > 1 else ""
    other = looker.other.title if looker.other is not None else ""
    return GuideStyle(
        looker.classes,
        colours,
        shared,
        choose_thresholds(low, high),
        source,
        drawing.spacing_mm,
        (looker.eye.title, other),
        max(looker.difference, 0.01),
    )


def round_outwards(low: float, high: float) -> Limits:
    """Ends of a colour bar with two decimals, three where the values are close, and never the same."""
    step = 0.01 if high - low > 0.2 else 0.001
    ends = (math.floor(low / step) * step, math.ceil(high / step) * step)
    ends = (round(max(0.0, ends[0]), 3), round(min(1.0, ends[1]), 3))
    return ends if ends[1] > ends[0] else (ends[0] - 0.001, ends[1] + 0.001)


def _sheets(out: Path, style: GuideStyle, names: Sequence[str], *, count: int, known: int) -> ContactSheetWriter:
    outlined = "truth" if known == count else "prediction" if not known else "truth (or else the prediction)"
    of_what = f" of {', '.join(names[:4])}" if len(names) > 1 else ""
    note = f"left: image, {outlined} outlined; right: guide{of_what} over the image"
    heading = f"Guide of {style.source.split(':')[0]}: {count} images"
    return ContactSheetWriter(out, total=count, heading=heading, note=note, classes=style.classes, limits=style.limits)


def _reading(style: GuideStyle) -> list[str]:
    """What a reader of the page must know."""
    if style.limits is None:
        colours = "Colours run over the values of each image alone: do not compare them between images."
    else:
        low, high = style.limits
        colours = f"Guide values from {low:g} to {high:g} have the same colours in all pictures (--range changes that)."
    lines = [colours, "The guide multiplies what the network sees; it is not a probability that was calibrated."]
    if style.titles[1]:
        lines.append(f"Compared: {style.titles[0]} and {style.titles[1]}.")
    return lines


def _more(sheets: ContactSheetWriter | None, patches: PatchCollector | None) -> list[str]:
    files = [] if sheets is None else [PAGE, sheets.names[0] if len(sheets.names) == 1 else "contact_sheet_*.png"]
    return files + ([] if patches is None else [PROTOTYPES])


def _source(eye: GuidedRun, path: str) -> str:
    description = eye.config.description
    return f"run {Path(path).resolve().name}" + (f": {description}" if description else "")
