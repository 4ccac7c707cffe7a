"""Figures of the guide of a run on volumes: one per volume, and a page and contact sheets of several."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from guidino_cli.commands.inputs import find_truth
from guidino_cli.commands.visualize.figures import (
    GUIDE_NOTE,
    ContactSheetWriter,
    describe_colours,
    describe_scores,
    require_guide,
)
from guidino_cli.commands.visualize.inference import (
    ResultSpool,
    VisualizationTask,
    for_each_image,
    nothing_drawn_error,
    report_outcome,
)
from guidino_cli.commands.visualize.page import PAGE_FILE, write_page
from guidino_cli.commands.visualize.report import GuideReport, print_report, to_csv, to_json
from guidino_cli.commands.visualize.volume_inference import (
    VolumeGuideResult,
    VolumeGuideVisualizer,
    VolumeReading,
)
from guidino_cli.commands.visualize.volume_inputs import list_input_volumes
from guidino_cli.data.volumes.slices import parse_orientation
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.guides.scores import choose_thresholds
from guidino_cli.engine.runs.facts import is_picture_run
from guidino_cli.engine.runs.inputs import NetworkInput
from guidino_cli.engine.runs.loading import load_run
from guidino_cli.engine.runs.precision import prediction_precision
from guidino_cli.errors import ConfigError
from guidino_cli.files import write_atomically, write_text
from guidino_cli.options.prediction import VisualizeOptions
from guidino_cli.plots.panels import Limits
from guidino_cli.plots.volume_guide import MAX_MAPS, VolumeGuideStyle, volume_guide_figure, volume_guide_tile
from guidino_cli.progress import track

_FOR_IMAGES = {
    "compare": "--compare draws two runs on images; draw each run on volumes into a folder of its own",
    "at": "--at is for the tokens of images; leave it out",
    "tokens": "--tokens is for images; leave it out",
    "scale": "--scale is for the tokens of images; leave it out",
    "spacing": "--spacing is for images; volumes state theirs",
}


def draw_volume_guides(volumes: Sequence[Path], run: Path, options: VisualizeOptions, limits: Limits | str) -> None:
    """Draw and score the guide of a run on volumes.

    Raises:
        ConfigError: An option that is for images, or a run without a guide.
        DataError: No volumes, or none that can be drawn.
        PartialError: Some volumes could not be drawn; the others are.
    """
    if is_picture_run(run):
        raise ConfigError(
            f"{run}: was trained on pictures with all their channels, whose guides are not drawn; "
            "`guidino predict --save-guide` writes them"
        )
    for name, message in _FOR_IMAGES.items():
        if getattr(options, name):
            raise ConfigError(f"{run}: was trained on volumes; {message}")
    model, config, facts = load_run(run, overrides=tuple(options.overrides or ()), offline=options.offline)
    require_guide(model, run)
    device = pick_device(options.device)
    model.to(device)
    preprocessing = NetworkInput.from_facts(facts, config).volumes
    if preprocessing is None:
        raise ValueError(f"{run}: was not trained on volumes")
    inputs = {item.name: item for item in list_input_volumes(volumes, options, channels=preprocessing.channels)}
    files = {name: item.path for name, item in inputs.items()}
    masks = find_truth(list(files.values()), options.truth, class_count=len(facts["classes"]))
    task = VisualizationTask(list(files.values()), options.out, options.truth, None)
    reading = VolumeReading(
        None if options.orientation is None else parse_orientation(options.orientation), options.ignore_headers
    )
    visualizer = VolumeGuideVisualizer(
        model,
        config,
        preprocessing,
        classes=facts["classes"],
        reading=reading,
        precision=prediction_precision(config, facts, device),
    )
    source = f"run {run.resolve().name}" + (f": {config.description}" if config.description else "")
    with tempfile.TemporaryDirectory(prefix="guidino-") as folder:
        spool: ResultSpool[VolumeGuideResult] = ResultSpool(Path(folder))
        failed = for_each_image(files, "look", lambda name, _: spool.add(name, visualizer.process(inputs[name], masks)))
        if not spool.names:
            raise nothing_drawn_error(task.files, failed)
        report, style = _prepare_report(visualizer, limits, source)
        report.facts = {"run": str(run), "colours": "each volume" if style.limits is None else list(style.limits)}
        more = _draw(spool, report, style, options.out)
    write_text(options.out / "guides.csv", to_csv(report))
    write_text(options.out / "guides.json", to_json(report))
    print_report(report)
    written = [f"{name}_guide.png" for name in spool.names]
    report_outcome(task, written, failed, kind="guide", more=[*more, "guides.csv", "guides.json"])


def _prepare_report(
    visualizer: VolumeGuideVisualizer, limits: Limits | str, source: str
) -> tuple[GuideReport, VolumeGuideStyle]:
    """The empty report and the style of all figures, once the range of the guide in all volumes is known."""
    low, high = min(item.low for item in visualizer.accumulators), max(item.high for item in visualizer.accumulators)
    # Rounded outwards to the two digits of the colorbar's labels.
    whole = (math.floor(100 * low) / 100, math.ceil(100 * high) / 100)
    shared = limits if isinstance(limits, tuple) else whole if limits == "all" else None
    report = GuideReport(
        source, visualizer.accumulators, [], ("guide", ""), choose_thresholds(low, high), nouns=("volume", "voxel")
    )
    return report, VolumeGuideStyle(visualizer.classes, shared, source)


def _draw(spool: ResultSpool[VolumeGuideResult], report: GuideReport, style: VolumeGuideStyle, out: Path) -> list[str]:
    """Write the figure of each volume and, of several, contact sheets and a page; names of the latter two."""
    count = len(spool.names)
    names = [item.name for item in report.accumulators[:MAX_MAPS]]
    of_maps = f" of {', '.join(names)}" if len(names) > 1 else ""
    note = f"axial slices; left: image, truth (or else the prediction) outlined; right: guide{of_maps} over the image"
    sheets = ContactSheetWriter(
        out, total=count, heading=f"Guide of {style.source.split(':')[0]}: {count} volumes", note=note,
        classes=style.classes, limits=style.limits,
    )  # fmt: skip
    for name, result in track(spool, total=count, description="draw"):
        write_atomically(out / f"{name}_guide.png", volume_guide_figure(result.view, style).savefig)
        report.add(name, result)
        if count > 1:
            has_truth = result.view.view.truth is not None
            maps = max(1, len(result.scores) - 1)
            text = describe_scores(result.scores, map_count=maps, has_truth=has_truth)
            sheets.add(volume_guide_tile(result.view, style, text))
    if count == 1:
        return []
    sheets.close()
    write_page(
        out,
        heading=f"Guide of {style.source}",
        notes=_page_notes(style),
        images=[out / f"{name}_guide.png" for name in spool.names],
        overviews=[("At a glance", out / name) for name in sheets.names],
        report=report,
    )
    return [PAGE_FILE, sheets.names[0] if len(sheets.names) == 1 else "contact_sheet_*.png"]


def _page_notes(style: VolumeGuideStyle) -> list[str]:
    grid = "Volumes are drawn and scored on the grid of the prepared data, on which the network sees them."
    return [describe_colours(style.limits, noun="volume"), grid, GUIDE_NOTE]
