"""From images to pictures for a paper: what a run's guide sees, or what a frozen backbone sees."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from guidino_cli.config import ModelSettings, Part, RunConfig, override
from guidino_cli.data.images import IMAGE_SUFFIXES, find_images, is_image, read_image, write_atomically
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.inference import Window, segment_file
from guidino_cli.engine.run_folder import load_run
from guidino_cli.engine.tokens import look
from guidino_cli.errors import ConfigError, DataError, PartialError
from guidino_cli.evaluation.truths import Truths, truths_of
from guidino_cli.metrics.overlap import mean_dice
from guidino_cli.models import build_backbone
from guidino_cli.plots.guide import backbone_panel, guide_panel
from guidino_cli.progress import say, track

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[Path], "Figure"]
_LISTED = 5


@dataclass(frozen=True)
class BackboneView:
    """What to look at without a run; None leaves the choice to the program.

    Attributes:
        backbone: Registered name, "dinov3" by default.
        weights: Local folder or hub id.
        layer: Block, counted from 1.
        at: "X,Y", the pixel whose patch is compared with the others.
        scale: Enlarges the image first.
    """

    backbone: str | None = None
    weights: str | None = None
    layer: int | None = None
    at: str | None = None
    scale: float | None = None


def run(
    images: Sequence[Path],
    *,
    run_path: Path | None,
    out: Path,
    truth: Path | None = None,
    view: BackboneView | None = None,
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
    view = view or BackboneView()
    files = _listed(images)
    _check_out(out, images, overwrite=overwrite)
    if run_path is not None:
        draw = _guide_drawer(run_path, files, truth, view, overrides=overrides, device=device, offline=offline)
    else:
        draw = _backbone_drawer(files, truth, view, overrides=overrides, device=device, offline=offline)
    kind = "backbone" if run_path is None else "guide"
    failed = _draw_all(_named(files), out, draw, suffix=kind)
    made = len(files) - len(failed)
    if not made:
        raise DataError(f"none of {len(files)} images could be drawn: {_some(failed)}" if failed[1:] else failed[0])
    print(f"{made} {'picture' if made == 1 else 'pictures'} in {out} (NAME_{kind}.png)")
    if failed:
        raise PartialError(f"{len(failed)} of {len(files)} images could not be drawn: {_some(failed)}")


def _guide_drawer(
    run_path: Path,
    files: Sequence[Path],
    truth: Path | None,
    view: BackboneView,
    *,
    overrides: tuple[str, ...],
    device: str | None,
    offline: bool,
) -> Draw:
    for name in ("backbone", "layer", "at", "scale"):
        if getattr(view, name) is not None:
            raise ConfigError(f"--{name} is for looking at a backbone without a run; leave out --{name} or --run")
    if view.weights is not None:
        overrides = (*overrides, f"model.backbone.options.weights={json.dumps(view.weights)}")
    model, config, facts = load_run(run_path, overrides=overrides, offline=offline)
    if model.guide is None:
        raise ConfigError(
            f"{run_path}: was trained without a guide, so there is none to show; give a guided run, use "
            "`guidino predict --overlay` for its masks, or leave out --run to see a backbone"
        )
    model.to(pick_device(device))
    classes: list[str] = facts["classes"]
    truths = _truths(files, truth, class_count=len(classes))
    predict = config.predict
    window = Window(config.data.image_size, predict.overlap, predict.mirror, predict.batch_size)
    source = f"run {run_path.resolve().name}" + (f": {config.description}" if config.description else "")

    def draw(path: Path) -> "Figure":
        result = segment_file(model, path, config.data, window)
        if result.guide is None:
            raise ValueError("a model with a guide gave none")
        true = None if truths is None else truths.read(path, size_hw=result.labels.shape)
        # The largest of several maps is the one that gates.
        return guide_panel(
            result.pixels,
            result.guide.amax(dim=0).numpy(),
            result.labels,
            name=path.name,
            classes=classes,
            source=source,
            truth=true,
            dice=None if true is None else mean_dice(result.labels, true, num_classes=len(classes)),
        )

    return draw


def _backbone_drawer(
    files: Sequence[Path],
    truth: Path | None,
    view: BackboneView,
    *,
    overrides: tuple[str, ...],
    device: str | None,
    offline: bool,
) -> Draw:
    at = _pixel(view.at)
    part = _backbone_part(view, overrides)
    truths = _truths(files, truth, class_count=None)
    backbone = build_backbone(part.name, part.options, offline=offline).to(pick_device(device))
    chosen = "salient patch" if at is None else f"patch at {at[0]},{at[1]}"
    source = f"{backbone.identity['weights']}, block {backbone.layers[-1]}"

    def draw(path: Path) -> "Figure":
        pixels, geometry = read_image(path)
        true = None if truths is None else truths.read(path, size_hw=geometry.size_hw)
        try:
            seen = look(backbone, pixels, at=at, scale=view.scale or 1.0)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
        return backbone_panel(
            pixels,
            seen.components,
            seen.similarity,
            patch=seen.patch,
            name=path.name,
            explained=seen.explained,
            chosen=chosen,
            source=source,
            labels=true,
        )

    return draw


def _backbone_part(view: BackboneView, overrides: tuple[str, ...]) -> Part:
    """Name and options of the backbone; `--set model.backbone.options.KEY=VALUE` reaches the options without a flag."""
    options = {"weights": view.weights, "layers": None if view.layer is None else [view.layer]}
    part = Part(view.backbone or "dinov3", {name: value for name, value in options.items() if value is not None})
    config = override(RunConfig(model=ModelSettings(backbone=part)), overrides)
    if config.model.backbone is None:
        raise ConfigError("--set took the backbone away; without a run there is nothing else to look at")
    return config.model.backbone


def _pixel(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    try:
        x, y = (int(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"--at {text}: expected column and row in pixels, such as 120,80") from error
    return x, y


def _truths(files: Sequence[Path], truth: Path | None, *, class_count: int | None) -> Truths | None:
    """The masks to show, with a warning about images that have none."""
    if truth is None:
        return None
    truths = truths_of(files, truth, class_count=class_count)
    without = [path.name for path in files if path.resolve() not in truths.paths]
    if without:
        print(f"guidino: warning: no truth for {_some(without, ', ')}; drawn without", file=sys.stderr)
    return truths


def _draw_all(named: dict[str, Path], out: Path, draw: Draw, *, suffix: str) -> list[str]:
    """Write NAME_suffix.png for every image; the messages of those that cannot be read."""
    failed = []
    for name, path in track(named.items(), total=len(named), description="draw"):
        try:
            figure = draw(path)
        except DataError as error:
            failed.append(str(error))
            say(f"guidino: {error}")
            continue
        write_atomically(out / f"{name}_{suffix}.png", figure.savefig)
    return failed


def _listed(places: Sequence[Path]) -> list[Path]:
    """The image files given, those of folders in order of name; a file given twice is drawn once."""
    found: dict[Path, Path] = {}
    for place in places:
        if place.is_dir():
            paths = find_images(place)
            if not paths:
                kinds = ", ".join(sorted(suffix[1:] for suffix in IMAGE_SUFFIXES))
                raise DataError(f"{place}: no images directly in this folder (looked for {kinds})")
        elif place.is_file():
            if not is_image(place):
                raise DataError(f"{place}: not an image file by its name (PNG, JPEG, TIFF, BMP, GIF or WebP)")
            paths = [place]
        else:
            raise DataError(f"{place}: no such file or folder")
        for path in paths:
            found.setdefault(path.resolve(), path)
    return list(found.values())


def _named(files: Sequence[Path]) -> dict[str, Path]:
    """Files by the name their picture gets: the stem; where stems repeat, folder and ending too; at last a number."""
    names: dict[str, Path] = {}
    taken: set[str] = set()
    stems = [path.stem.lower() for path in files]
    for path in files:
        name = path.stem
        if stems.count(path.stem.lower()) > 1:
            name = f"{path.resolve().parent.name}_{path.stem}_{path.suffix[1:]}"
        unique, number = name, 1
        while unique.lower() in taken:
            number += 1
            unique = f"{name}_{number}"
        taken.add(unique.lower())
        names[unique] = path
    return names


def _check_out(out: Path, images: Sequence[Path], *, overwrite: bool) -> None:
    sources = {(place if place.is_dir() else place.parent).resolve() for place in images}
    if out.resolve() in sources:
        raise ConfigError(f"-o {out}: holds the images themselves; choose a folder of its own")
    if out.is_file():
        raise ConfigError(f"-o {out}: is a file; give a folder")
    if not overwrite and out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"-o {out}: is not empty; add --overwrite or choose another folder")


def _some(messages: Sequence[str], separator: str = "; ") -> str:
    more = f" and {len(messages) - _LISTED} more" if len(messages) > _LISTED else ""
    return separator.join(messages[:_LISTED]) + more
