"""`guidino visualize-guide`: figures of a run's guide, or of a frozen backbone's tokens."""

from collections.abc import Sequence
from pathlib import Path

from guidino_cli.commands.inputs import list_input_images, prepared_truth
from guidino_cli.commands.visualize.figures import draw_guides, load_visualizer
from guidino_cli.commands.visualize.inference import VisualizationTask
from guidino_cli.commands.visualize.tokens import draw_tokens
from guidino_cli.commands.visualize.volume_figures import draw_volume_guides
from guidino_cli.engine.runs.facts import is_volume_run
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import ConfigError, explain_out_of_memory
from guidino_cli.options.parsing import parse_pair
from guidino_cli.options.prediction import VisualizeOptions
from guidino_cli.outputs import require_output_folder
from guidino_cli.plots.panels import Limits


def run(images: Sequence[Path], options: VisualizeOptions) -> None:
    """Draw one PNG per image: with a run its guide and prediction, else the tokens of a frozen backbone.

    Raises:
        ConfigError: Options that cannot be used together, or a run without a guide.
        DataError: No images, or none that can be drawn.
        WeightsError: The backbone's weights cannot be loaded; no other backbone is used instead.
        PartialError: Some images could not be drawn; the others are.
    """
    limits, at = parse_limits(options.limits), _parse_pixel(options.at)
    if options.run is None and options.compare is not None:
        raise ConfigError("--compare is for two runs; give the first one with --run")
    with explain_out_of_memory("lower predict.batch_size with --set, or draw smaller images"):
        _draw(images, options, limits, at)


def _draw(images: Sequence[Path], options: VisualizeOptions, limits: Limits | str, at: tuple[int, int] | None) -> None:
    """Draw what `run` has checked."""
    if options.run is not None and is_volume_run(options.run):
        _require_no_backbone(options)
        if RunFolder(options.run).config().model.target == "affinities":
            raise ConfigError(f"{options.run}: makes instances, but guides are drawn beside classes; give another run")
        require_output_folder(options.out, images, overwrite=options.overwrite)
        draw_volume_guides(images, options.run, options, limits)
        return
    for name in ("series", "orientation", "ignore_headers"):
        if getattr(options, name):
            raise ConfigError(f"--{name.replace('_', '-')} is for volumes and runs on them; leave it out")
    files = list_input_images(images, options.split)
    require_output_folder(options.out, images, overwrite=options.overwrite)
    task = VisualizationTask(files, options.out, options.truth or prepared_truth(images), options.spacing)
    if options.run is None:
        draw_tokens(task, options, at)
        return
    _require_no_backbone(options)
    draw_guides(load_visualizer(options.run, options, at), task, limits, run_path=options.run)


def _require_no_backbone(options: VisualizeOptions) -> None:
    for name in ("backbone", "layer"):
        if getattr(options, name) is not None:
            raise ConfigError(f"--{name} is for looking at a backbone without a run; leave out --{name} or --run")


def _parse_pixel(text: str | None) -> tuple[int, int] | None:
    return None if text is None else parse_pair(int, "--at", text, expected="column and row in pixels, such as 120,80")


def parse_limits(text: str) -> Limits | str:
    """Parse `--range`: "all", "image", or two numbers.

    Raises:
        ConfigError: None of these.
    """
    if text in {"all", "image"}:
        return text
    low, high = parse_pair(float, "--range", text, expected="all, image, or two numbers such as 0,1")
    if not low < high:
        raise ConfigError(f"--range {text}: the first number must be the smaller one")
    return low, high
