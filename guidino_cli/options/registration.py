"""Options of `register` and `register train`: type, help text and default of each, in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from guidino_cli.options.shared import Device, IgnoreHeaders, Offline, Orientation, Overwrite, OverwriteRun
from guidino_cli.types import LARGEST_SEED

FeatureKind = Literal["mind", "dino", "both"]
NetworkInput = Literal["image", "mind", "dino", "both"]
NetworkLoss = Literal["lncc", "features"]

_Backbone = Annotated[
    str | None, typer.Option(help="For dino and both: guidino-tiny (default), embedded, dinov3, random, ...")
]
_Weights = Annotated[
    str | None, typer.Option(help="Weights: folder in Hugging Face layout, hub id, or a name of `weights list`.")
]
_RandomWeights = Annotated[
    int | None,
    typer.Option(
        metavar="SEED",
        min=0,
        max=LARGEST_SEED,
        help="Random weights in the shape of the backbone: what is pretraining worth?",
    ),
]
_Layer = Annotated[int | None, typer.Option(min=1, help="Block of the backbone; default: its own choice.")]
_Px = Annotated[
    int | None,
    typer.Option(
        min=14, max=2048, help="Longer side of a slice for the backbone; default: 3 times its own, up to 672."
    ),
]
_Components = Annotated[int, typer.Option(min=1, max=384, help="Components of the PCA.")]
_Onto = Annotated[
    str | None, typer.Option(metavar="fixed", help="fixed: resample MOVING first if it is on another grid.")
]
_Window = Annotated[
    str, typer.Option(metavar="LEVEL,WIDTH", help="Grey values that count, such as 40,400 of CT; or auto.")
]


@dataclass(frozen=True)
class RegisterOptions:
    """Which pairs are registered, by which features, and how."""

    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")]
    fixed_mask: Annotated[Path | None, typer.Option(metavar="FILE", help="Labels of FIXED, for scores.")] = None
    moving_mask: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Labels of MOVING, which are warped with it.")
    ] = None
    features: Annotated[
        str, typer.Option("--features", "-f", help="mind (of grey values), dino (tokens of a backbone) or both.")
    ] = "mind"
    backbone: _Backbone = None
    weights: _Weights = None
    random_weights: _RandomWeights = None
    layer: _Layer = None
    px: _Px = None
    network: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="Folder of `guidino register train`: its network instead of ConvexAdam."),
    ] = None
    pca: Annotated[
        str, typer.Option(help="Fit the PCA of tokens to each pair (pair) or to all of them (shared); or its pca.npz.")
    ] = "pair"
    components: _Components = 24
    grid: Annotated[int, typer.Option(min=1, max=32, help="Pixels of a cell of the first search.")] = 6
    reach: Annotated[int, typer.Option(min=1, max=16, help="Farthest displacement that it tries, in cells.")] = 4
    steps: Annotated[int, typer.Option(min=0, max=10_000, help="Steps of Adam after it.")] = 80
    smoothness: Annotated[
        float, typer.Option(min=0, help="Weight of a smooth field; more of it folds less and fits less.")
    ] = 1.25
    onto: _Onto = None
    window: _Window = "auto"
    orientation: Orientation = None
    ignore_headers: IgnoreHeaders = False
    figures: Annotated[bool, typer.Option(help="Draw checkerboards and grids, and report.html.")] = True
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json instead of a table.")] = False
    device: Device = None
    offline: Offline = False
    overwrite: Overwrite = False
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Keep pairs in -o that the same settings registered.")
    ] = False


@dataclass(frozen=True)
class RegisterTrainOptions:
    """What a network sees, and how it learns to register."""

    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the network to write.")]
    features: Annotated[
        str,
        typer.Option(
            "--features", "-f", help="What it sees: image (grey values), mind, dino (tokens of a backbone) or both."
        ),
    ] = "image"
    backbone: _Backbone = None
    weights: _Weights = None
    random_weights: _RandomWeights = None
    layer: _Layer = None
    px: _Px = None
    components: _Components = 24
    loss: Annotated[
        str | None,
        typer.Option(help="lncc (local correlation of grey values) or features; default: lncc for image."),
    ] = None
    smoothness: Annotated[
        float | None,
        typer.Option(min=0, help="Weight of a smooth field; default: 1 with lncc, 1.25 with features."),
    ] = None
    diffeomorphic: Annotated[
        bool, typer.Option(help="Integrate a velocity, so that the field can be inverted; or predict the field itself.")
    ] = True
    cell: Annotated[
        int, typer.Option(min=1, max=8, help="Pixels of a cell of the network: 2 for a field at half the resolution.")
    ] = 1
    steps: Annotated[int, typer.Option(min=1, max=10_000_000, help="Steps of Adam, each on one pair.")] = 10_000
    learning_rate: Annotated[float, typer.Option(min=0, help="Learning rate of Adam.")] = 1e-4
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the first weights and of the order of pairs.")
    ] = 0
    onto: _Onto = None
    window: _Window = "auto"
    orientation: Orientation = None
    ignore_headers: IgnoreHeaders = False
    device: Device = None
    offline: Offline = False
    resume: Annotated[bool, typer.Option("--resume", help="Go on after the last saved step of -o.")] = False
    overwrite: OverwriteRun = False
