"""Figures of a run's guide: one per image, and contact sheets of all images."""

import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from guidino_cli.commands.inputs import find_truth, unique_names
from guidino_cli.commands.visualize.inference import (
    ANY_CLASS,
    GuidedRun,
    GuideResult,
    GuideVisualizer,
    ResultSpool,
    VisualizationTask,
    for_each_image,
    nothing_drawn_error,
    report_outcome,
    without_adapter,
)
from guidino_cli.commands.visualize.page import PAGE_FILE, write_page
from guidino_cli.commands.visualize.prototypes import PROTOTYPES_FILE, PatchCollector, has_prototypes
from guidino_cli.commands.visualize.report import GuideReport, print_report, to_csv, to_json
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.guides.scores import MapScore, choose_thresholds
from guidino_cli.engine.runs.loading import load_run
from guidino_cli.engine.runs.precision import prediction_precision
from guidino_cli.errors import ConfigError
from guidino_cli.files import write_atomically, write_text
from guidino_cli.models.composed import Model
from guidino_cli.options.prediction import VisualizeOptions
from guidino_cli.plots.contact_sheet import draw_outlined_thumbnail
from guidino_cli.plots.guide import guide_figure
from guidino_cli.plots.guide_sheet import TILE_SIDE, TILES_PER_PAGE, GuideTile, guide_sheet
from guidino_cli.plots.panels import Limits, apply_colormap, overlay_guide
from guidino_cli.plots.views import GuideStyle, GuideView, TokenView
from guidino_cli.progress import track

_MAX_MAPS = 4
"""Guide maps in a tile; more would not fit."""


class ContactSheetWriter:
    """Writes a page whenever one is full, so that memory does not grow with the images.

    Args:
        out: Folder of the pages.
        total: Number of images.
        heading: Title of every page; the page number is added.
        note: Describes the pictures in a tile.
        classes: Class names for the legend of the outlines, the background first.
        limits: Range of the colorbar; None draws none.
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
        """Add an image."""
        self._tiles.append(tile)
        if len(self._tiles) == TILES_PER_PAGE:
            self.close()

    def close(self) -> None:
        """Write the last page."""
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
    size = _tile_size(view.size_hw)
    small = _resize(view.image, size)
    labels = view.labels if view.truth is None else view.truth
    resized = np.asarray(Image.fromarray(labels.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
    pictures = [draw_outlined_thumbnail(small, resized, size=max(size))]
    for item in view.maps[:_MAX_MAPS]:
        values = np.asarray(Image.fromarray(item.values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
        pictures.append(_to_uint8(overlay_guide(small, values, limits=limits)))
    detail = describe_scores(scores, map_count=len(view.maps), has_truth=view.truth is not None)
    return GuideTile(pictures, view.name, detail)


def describe_scores(scores: Sequence[MapScore], *, map_count: int, has_truth: bool) -> str:
    """Line of a tile: AUROC of each map, and IoU of a single one; the range of values where nothing can be ranked.

    Args:
        scores: One per map, then that of their maximum where there are several.
        map_count: Number of maps.
        has_truth: Whether the truth is known.
    """
    scored = [score for score in scores[:map_count] if np.isfinite(score.auroc)]
    if map_count == 1 and scored:
        return f"AUROC {scored[0].auroc:.3f}, IoU at 0.5 {scored[0].iou_at(0.5):.3f}"
    if scored:
        return "AUROC " + ", ".join(f"{score.map} {score.auroc:.3f}" for score in scored)
    values = f"guide {min(s.low for s in scores):.2f} to {max(s.high for s in scores):.2f}"
    return "no AUROC: nothing to rank; " + values if has_truth else values


def token_tile(image: np.ndarray, tokens: TokenView, *, name: str) -> GuideTile:
    """An image, the principal components of its tokens, and its cosine similarities."""
    size = _tile_size((image.shape[0], image.shape[1]))
    maps = (_to_uint8(tokens.components), _to_uint8(apply_colormap(tokens.similarity)))
    cells = [np.asarray(Image.fromarray(item).resize(size, Image.Resampling.NEAREST)) for item in maps]
    detail = f"{tokens.explained:.0%} of the variance, cosine from {tokens.similarity.min():.2f}"
    return GuideTile([_resize(image, size), *cells], name, detail)


def _tile_size(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Width and height of an image in a tile."""
    scale = TILE_SIDE / max(size_hw)
    return max(1, round(size_hw[1] * scale)), max(1, round(size_hw[0] * scale))


def _resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _to_uint8(picture: np.ndarray) -> np.ndarray:
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def load_visualizer(run_path: Path, options: VisualizeOptions, at: tuple[int, int] | None) -> GuideVisualizer:
    """Load a run, and what it is compared with: another run, or the same one with its adapter disabled.

    Raises:
        ConfigError: A run without a guide, runs that cannot be compared, or `--scale` without tokens.
    """
    with_tokens = options.tokens or at is not None
    if not with_tokens and options.scale is not None:
        raise ConfigError("--scale with --run is for its tokens; add --tokens or --at X,Y, or leave out --scale")
    compare, overrides = options.compare, tuple(options.overrides or ())
    if options.weights is not None:
        overrides = (*overrides, f"model.backbone.options.weights={json.dumps(options.weights)}")
    title = "guide" if compare is None else f"run {run_path.resolve().name}"
    run, classes = _load_guided_run(run_path, title, options, overrides=overrides)
    other: GuidedRun | None = None
    if compare is not None:
        other, other_classes = _load_guided_run(compare, f"run {compare.resolve().name}", options)
        if len(other_classes) != len(classes) or _map_count(other) != _map_count(run):
            raise ConfigError(
                f"--compare {compare}: has {len(other_classes)} classes and {_map_count(other)} guide maps, {run_path} "
                f"has {len(classes)} and {_map_count(run)}; compare runs on the same classes"
            )
    elif run.model.backbone is not None and run.config.model.lora is not None:
        run = replace(run, title="with LoRA")
        other = replace(run, title="LoRA off", make_context=without_adapter(run.model))
    return GuideVisualizer(
        run, classes=classes, other=other, at=at, with_tokens=with_tokens, scale=options.scale or 1.0
    )


def _load_guided_run(
    path: Path, title: str, options: VisualizeOptions, *, overrides: tuple[str, ...] = ()
) -> tuple[GuidedRun, list[str]]:
    model, config, facts = load_run(path, overrides=overrides, offline=options.offline)
    require_guide(model, path)
    device = pick_device(options.device)
    model.to(device)
    precision = prediction_precision(config, facts, device)
    return GuidedRun(model, config, title, precision=precision), facts["classes"]


def require_guide(model: Model, path: Path) -> None:
    """`ConfigError` if the model of a run has no guide."""
    if model.guide is None:
        raise ConfigError(
            f"{path}: was trained without a guide, so there is none to show; give a guided run, use "
            "`guidino predict --overlay` for its masks, or leave out --run to see a backbone"
        )


def _map_count(run: GuidedRun) -> int:
    """Number of guide maps; -1 for one per class."""
    settings = run.config.model.guide
    return int(settings.options.get("maps", 1)) if settings is not None and not settings.per_class else -1


def draw_guides(visualizer: GuideVisualizer, task: VisualizationTask, limits: Limits | str, *, run_path: Path) -> None:
    """Compute the guides of all images first, so that all figures share one colour range; then draw them one by one.

    Raises:
        DataError: No image can be drawn.
        PartialError: Some images cannot be drawn; the others are.
    """
    run, is_set = visualizer.run, len(task.files) > 1
    masks = find_truth(task.files, task.truth, class_count=len(visualizer.classes))
    source = _describe_source(run, run_path)
    patches = PatchCollector(run) if is_set and has_prototypes(run) else None
    with tempfile.TemporaryDirectory(prefix="guidino-") as folder:
        spool: ResultSpool[GuideResult] = ResultSpool(Path(folder))

        def process(name: str, path: Path) -> None:
            spool.add(name, visualizer.process(path, masks))
            if patches is not None:
                patches.add(path)

        failed = for_each_image(unique_names(task.files), "look", process)
        if not spool.names:
            raise nothing_drawn_error(task.files, failed)
        count = len(spool.names)
        style = _make_style(visualizer, task, limits, source, count=count)
        report = GuideReport(
            source, visualizer.accumulators, visualizer.other_accumulators, style.titles, style.thresholds
        )
        report.facts = {"run": str(run_path), "colours": "each image" if style.limits is None else list(style.limits)}
        labelled = 0 if masks is None else len(masks.paths)
        maps = [item.name for item in visualizer.accumulators if item.name != ANY_CLASS]
        sheets = _make_sheets(task.out, style, maps, count=count, labelled=labelled) if is_set else None
        for name, result in track(spool, total=count, description="draw"):
            view = result.complete_view(style.thresholds)
            write_atomically(task.out / f"{name}_guide.png", guide_figure(view, style).savefig)
            report.add(name, result)
            if sheets is not None:
                sheets.add(guide_tile(view, style, result.scores))
        written = [f"{name}_guide.png" for name in spool.names]
    if patches is not None:
        patches.write(task.out, source=source.split(":")[0], classes=visualizer.classes, count=count)
    if sheets is not None:
        sheets.close()
        overviews = [("At a glance", task.out / name) for name in sheets.names]
        overviews += [("What the prototypes like", task.out / PROTOTYPES_FILE)] if patches is not None else []
        write_page(
            task.out,
            heading=f"Guide of {source}",
            notes=_page_notes(style),
            images=[task.out / name for name in written],
            overviews=overviews,
            report=report,
        )
    write_text(task.out / "guides.csv", to_csv(report))
    write_text(task.out / "guides.json", to_json(report))
    print_report(report)
    report_outcome(task, written, failed, kind="guide", more=[*_more(sheets, patches), "guides.csv", "guides.json"])


def _make_style(
    visualizer: GuideVisualizer, task: VisualizationTask, limits: Limits | str, source: str, *, count: int
) -> GuideStyle:
    accumulators = [*visualizer.accumulators, *visualizer.other_accumulators]
    low, high = min(item.low for item in accumulators), max(item.high for item in accumulators)
    shared_limits, scope = None, "colours of this image alone"
    if isinstance(limits, tuple):
        shared_limits, scope = limits, ""
    elif limits == "all":
        shared_limits = round_outwards(low, high)
        scope = f"same colours in all {count} images" if count > 1 else ""
    return GuideStyle(
        visualizer.classes,
        shared_limits,
        scope,
        choose_thresholds(low, high),
        source,
        task.spacing_mm,
        (visualizer.run.title, visualizer.other.title if visualizer.other is not None else ""),
        max(visualizer.max_difference, 0.01),
    )


def round_outwards(low: float, high: float) -> Limits:
    """Colorbar limits with two decimals, three where the values are close, and never equal."""
    step = 0.01 if high - low > 0.2 else 0.001
    ends = (math.floor(low / step) * step, math.ceil(high / step) * step)
    ends = (round(max(0.0, ends[0]), 3), round(min(1.0, ends[1]), 3))
    return ends if ends[1] > ends[0] else (ends[0] - 0.001, ends[1] + 0.001)


def _make_sheets(out: Path, style: GuideStyle, maps: Sequence[str], *, count: int, labelled: int) -> ContactSheetWriter:
    outlined = "truth" if labelled == count else "prediction" if not labelled else "truth (or else the prediction)"
    of_maps = f" of {', '.join(maps[:_MAX_MAPS])}" if len(maps) > 1 else ""
    note = f"left: image, {outlined} outlined; right: guide{of_maps} over the image"
    heading = f"Guide of {style.source.split(':')[0]}: {count} images"
    return ContactSheetWriter(out, total=count, heading=heading, note=note, classes=style.classes, limits=style.limits)


GUIDE_NOTE = "The guide multiplies what the network sees; it is not a probability that was calibrated."


def describe_colours(limits: Limits | None, *, noun: str) -> str:
    """Sentence on the colour scale of the guides; `noun` is "image" or "volume"."""
    if limits is None:
        return f"Colours run over the values of each {noun} alone: do not compare them between {noun}s."
    low, high = limits
    return f"Guide values from {low:g} to {high:g} have the same colours in all pictures (--range changes that)."


def _page_notes(style: GuideStyle) -> list[str]:
    lines = [describe_colours(style.limits, noun="image"), GUIDE_NOTE]
    if style.titles[1]:
        lines.append(f"Compared: {style.titles[0]} and {style.titles[1]}.")
    return lines


def _more(sheets: ContactSheetWriter | None, patches: PatchCollector | None) -> list[str]:
    files = [] if sheets is None else [PAGE_FILE, sheets.names[0] if len(sheets.names) == 1 else "contact_sheet_*.png"]
    return files + ([] if patches is None else [PROTOTYPES_FILE])


def _describe_source(run: GuidedRun, path: Path) -> str:
    description = run.config.description
    return f"run {path.resolve().name}" + (f": {description}" if description else "")
