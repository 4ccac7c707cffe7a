"""Figures of a frozen backbone's tokens: one per image, and for several images a contact sheet and a page."""

from pathlib import Path

from guidino_cli.commands.inputs import find_truth, unique_names
from guidino_cli.commands.visualize.figures import ContactSheetWriter, token_tile
from guidino_cli.commands.visualize.inference import (
    VisualizationTask,
    for_each_image,
    nothing_drawn_error,
    report_outcome,
)
from guidino_cli.commands.visualize.page import PAGE_FILE, write_page
from guidino_cli.config import ComponentSettings, ModelSettings, RunConfig, override
from guidino_cli.data.images import read_image
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.guides.tokens import analyse_tokens
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import write_atomically
from guidino_cli.models import build_backbone
from guidino_cli.models.pretrained.hub import replace_hint
from guidino_cli.options.prediction import VisualizeOptions
from guidino_cli.plots.tokens import backbone_figure
from guidino_cli.plots.views import TokenView

_ADVICE = (
    "use a local folder or file (--weights /path), or a backbone that needs no hub: --backbone guidino-tiny, which is "
    "in the package, or embedded (guidino weights download embedded)"
)


def draw_tokens(task: VisualizationTask, options: VisualizeOptions, at: tuple[int, int] | None) -> None:
    """Draw the tokens of a frozen backbone, image by image.

    Raises:
        WeightsError: The backbone's weights cannot be loaded.
        DataError: No image can be drawn.
        PartialError: Some images cannot be drawn; the others are.
    """
    part = _backbone_settings(options)
    masks = find_truth(task.files, task.truth, class_count=None)
    with replace_hint(_ADVICE):
        backbone = build_backbone(part.name, part.options, offline=options.offline).to(pick_device(options.device))
    chosen = "salient patch" if at is None else f"patch at {at[0]},{at[1]}"
    source = f"{backbone.identity['weights']}, block {backbone.layers[-1]}"
    note = "image; principal components of its tokens as RGB (each image its own); cosine with the framed patch, 0 to 1"
    is_set = len(task.files) > 1
    heading = f"Tokens of {source}: {len(task.files)} images"
    sheets = ContactSheetWriter(task.out, total=len(task.files), heading=heading, note=note) if is_set else None
    written: list[str] = []

    def draw(name: str, path: Path) -> None:
        pixels, geometry = read_image(path)
        truth = None if masks is None else masks.read(path, size_hw=geometry.size_hw)
        try:
            found = analyse_tokens(backbone, pixels, at=at, scale=options.scale or 1.0)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        tokens = TokenView(found.components, found.similarity, found.patch, found.explained)
        figure = backbone_figure(
            pixels, tokens, name=path.name, chosen=chosen, source=source, labels=truth, spacing_mm=task.spacing_mm
        )
        write_atomically(task.out / f"{name}_backbone.png", figure.savefig)
        written.append(f"{name}_backbone.png")
        if sheets is not None:
            sheets.add(token_tile(pixels, tokens, name=path.name))

    failed = for_each_image(unique_names(task.files), "draw", draw)
    if not written:
        raise nothing_drawn_error(task.files, failed)
    if sheets is not None:
        sheets.close()
        write_page(
            task.out,
            heading=heading,
            notes=["Colours of principal components are comparable within an image only; those of cosines everywhere."],
            images=[task.out / name for name in written],
            overviews=[("At a glance", task.out / name) for name in sheets.names],
        )
    report_outcome(
        task, written, failed, kind="backbone", more=[PAGE_FILE, *sheets.names] if sheets is not None else []
    )


def _backbone_settings(options: VisualizeOptions) -> ComponentSettings:
    """Name and options of the backbone; `--set model.backbone.options.KEY=VALUE` sets options without a flag.

    The default is the backbone inside the package; weights without a backbone's name are taken for DINOv3 weights.
    """
    given = {"weights": options.weights, "layers": None if options.layer is None else [options.layer]}
    name = options.backbone or ("dinov3" if options.weights else "guidino-tiny")
    part = ComponentSettings(name, {key: value for key, value in given.items() if value is not None})
    config = override(RunConfig(model=ModelSettings(backbone=part)), tuple(options.overrides or ()))
    if config.model.backbone is None:
        raise ConfigError("--set took the backbone away; without a run there is nothing else to look at")
    return config.model.backbone
