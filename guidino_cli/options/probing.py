"""Options of `features` and `probe`: type, help text and default of each, in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.options.shared import Device, Offline, Orientation


@dataclass(frozen=True)
class FeatureOptions:
    """Options of `features`."""

    out: Annotated[Path, typer.Option("--out", "-o", metavar="FEATURES", help="Folder of features to write.")]
    backbone: Annotated[
        str, typer.Option("--backbone", help="guidino-tiny; dinov3 (with --weights), dinov2, embedded, random, ...")
    ] = "guidino-tiny"
    weights: Annotated[
        str | None, typer.Option(help="Weights of the backbone: folder in Hugging Face layout, or hub id.")
    ] = None
    token: Annotated[str, typer.Option(help="mean of the patch tokens, cls, or cls+mean.")] = "mean"
    layers: Annotated[int, typer.Option(min=1, help="Blocks whose tokens stand side by side: the last 1 or 4.")] = 1
    px: Annotated[
        str, typer.Option(metavar="N|native", help="Squeeze pictures to N x N pixels; native keeps tiles as they are.")
    ] = "224"
    label: Annotated[
        str | None,
        typer.Option(metavar="COLUMNS", help="Label columns of a table, comma-separated; of DATA such as fields.kind."),
    ] = None
    classes: Annotated[str | None, typer.Option(help="Names of the classes of an archive: normal,pneumonia.")] = None
    every: Annotated[int, typer.Option(min=1, metavar="N", help="Volumes: look at each N-th slice.")] = 1
    window: Annotated[
        str | None, typer.Option(metavar="L,W", help="Volumes: level and width, as 40,400; default: percentiles.")
    ] = None
    orientation: Orientation = None
    min_tissue: Annotated[
        float, typer.Option(min=0, max=1, help="Tiles: leave out those with a smaller share of tissue.")
    ] = 0.0
    controls: Annotated[
        bool, typer.Option("--controls/--no-controls", help="Add a random network of the same shape, and the pixels.")
    ] = True
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random network.")] = 0
    batch: Annotated[int, typer.Option(min=1, help="Pictures that go through the backbone together.")] = 32
    device: Device = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew in a folder that is not empty.")] = False
    offline: Offline = False
