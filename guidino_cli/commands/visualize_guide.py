"""From images to pictures for a paper: what a run's guide sees, or what a frozen backbone sees."""

import json
from collections.abc import Sequence
from pathlib import Path

from guidino_cli.commands.inputs import list_input_images, prepared_truth
from guidino_cli.commands.visualize.figures import draw_guides, load_visualizer
from guidino_cli.commands.visualize.inference import DrawingOptions, TokenOptions, VisualizationTask
from guidino_cli.commands.visualize.tokens import draw_tokens
from guidino_cli.errors import ConfigError
from guidino_cli.outputs import require_output_folder
from guidino_cli.plots.panels import Limits


def run(
    images: Sequence[Path],
    *,
    run_path: Path | None,
    out: Path,
    truth: Path | None = None,
    compare: Path | None = None,
    view: TokenOptions | None = None,
    drawing: DrawingOptions | None = None,
    split: str = "test",
    overrides: tuple[str, ...] = (),
    device: str | None = None,
    offline: bool = False,
    overwrite: bool = False,
) -> None:
    """Draw one PNG an image: with a run its guide and prediction, else the tokens of a frozen backbone.

    Raises:
        ConfigError: Options that cannot be used together, or a run without a guide.
        DataError: No images, or none that can be drawn.
        WeightsError: The backbone's weights are not to be had; no other is taken instead.
        PartialError: Some images could not be drawn; the others are.
    """
    view, drawing = view or TokenOptions(), drawing or DrawingOptions()
    limits = read_limits(drawing.limits)
    at = _pixel(view.at)
    if run_path is None and compare is not None:
        raise ConfigError("--compare is for two runs; give the first one with --run")
    files = list_input_images(images, split)
    require_output_folder(out, images, overwrite=overwrite)
    task = VisualizationTask(files, out, truth or prepared_truth(images))
    if run_path is not None:
        for name in ("backbone", "layer"):
            if getattr(view, name) is not None:
                raise ConfigError(f"--{name} is for looking at a backbone without a run; leave out --{name} or --run")
        if view.weights is not None:
            overrides = (*overrides, f"model.backbone.options.weights={json.dumps(view.weights)}")
        looker = load_visualizer(run_path, compare, view, at, overrides=overrides, device=device, offline=offline)
        draw_guides(looker, task, drawing, limits, facts={"run": str(run_path)})
    else:
        draw_tokens(task, view, at, drawing, overrides=overrides, device=device, offline=offline)


def _pixel(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        x, y = (int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--at {text}: expected column and row in pixels, such as 120,80") from error
    return x, y


def read_limits(text: str) -> Limits | str:
    """ "all", "image", or two numbers."""
    if text in {"all", "image"}:
        return text
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--range {text}: expected all, image, or two numbers such as 0,1") from error
    if not low < high:
        raise ConfigError(f"--range {text}: the first number must be the smaller one")
    return low, high
