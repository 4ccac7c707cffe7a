"""Options of `features` and `probe`: type, help text and default of each, in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.options.shared import Device, Offline, Orientation, Overwrite
from guidino_cli.types import LARGEST_SEED


@dataclass(frozen=True)
class FeatureOptions:
    """Options of `features`."""

    out: Annotated[Path, typer.Option("--out", "-o", metavar="FEATURES", help="Folder of features to write.")]
    backbone: Annotated[
        str, typer.Option("--backbone", help="guidino-tiny; dinov3 (with --weights), dinov2, embedded, random, ...")
    ] = "guidino-tiny"
    weights: Annotated[
        str | None,
        typer.Option(help="Weights: folder in Hugging Face layout, hub id, or a name of `weights list`."),
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
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of the random network.")] = 0
    batch: Annotated[int, typer.Option(min=1, help="Pictures that go through the backbone together.")] = 32
    device: Device = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Begin anew in a folder that is not empty.")] = False
    offline: Offline = False


@dataclass(frozen=True)
class ProbeOptions:
    """Options that all probes share."""

    out: Annotated[Path, typer.Option("--out", "-o", metavar="REPORT", help="Folder for the report files.")]
    folds: Annotated[
        int | None, typer.Option(min=2, metavar="N", help="Cross-validate by patient instead of the split of the data.")
    ] = None
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Repeat with the seeds 0 to N - 1.")] = 1
    per_class: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Train on at most N samples per class, drawn by the seed."),
    ] = None
    threshold: Annotated[
        str, typer.Option(help="0.5; or youden or f1, the best on the samples that chose the settings.")
    ] = "0.5"
    min_auc: Annotated[float | None, typer.Option(metavar="X", help="Gate: exit code 8 below, for the first row.")] = (
        None
    )
    min_balanced_accuracy: Annotated[float | None, typer.Option(metavar="X", help="Gate, as --min-auc.")] = None
    gate_on: Annotated[str, typer.Option(help="Statistic that gates compare: mean or ci-low.")] = "mean"
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON and nothing else.")] = False
    overwrite: Overwrite = False


@dataclass(frozen=True)
class LinearProbeOptions(ProbeOptions):
    """Options of `probe linear`."""

    solver: Annotated[
        str,
        typer.Option(help="Comma-separated: exact (scikit-learn), paper (its recipe), sweep (DINOv2's 13 rates)."),
    ] = "exact,paper,sweep"
    pool: Annotated[str, typer.Option(help="One vector of several slices or tiles: mean or max.")] = "mean"


@dataclass(frozen=True)
class NeighbourProbeOptions(ProbeOptions):
    """Options of `probe knn`."""

    k: Annotated[
        str | None, typer.Option("--k", metavar="K,K", help="Numbers of neighbours; default: 10,20,100,200.")
    ] = None
    pool: Annotated[str, typer.Option(help="One vector of several slices or tiles: mean or max.")] = "mean"


@dataclass(frozen=True)
class BagProbeOptions(ProbeOptions):
    """Options of `probe abmil`."""

    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Repeat with the seeds 0 to N - 1.")] = 5
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of training; the best on validation is kept.")] = 50
    sheets: Annotated[int, typer.Option(min=0, help="Bags whose attention is drawn, the surest of each outcome.")] = 12
