"""Options of `prepare`, `audit` and `plan`: type, help text and default of each, in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.options.shared import Device, Offline, Overwrite


@dataclass(frozen=True)
class PrepareOptions:
    """Options of `prepare`."""

    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write.")] = None
    layout: Annotated[
        str,
        typer.Option(
            help="auto, csv, nnunet, tn3k, busi, drive, isic, kvasir, siblings (images/, masks/) or suffix; of label "
            "files coco, yolo, labelme, cvat, labelstudio or geojson; of volumes nnunet, msd, bids, nifti or dicom."
        ),
    ] = "auto"
    classes: Annotated[
        str | None, typer.Option(help="Names: background,polyp; or mask values: 0=background,#ff0000=polyp.")
    ] = None
    binary: Annotated[bool, typer.Option("--binary", help="Every mask value but 0 is foreground.")] = False
    threshold: Annotated[float | None, typer.Option(help="Mask values above this are foreground.")] = None
    instances: Annotated[
        str | None,
        typer.Option(
            help="For model.target=affinities: numbers (mask values number the instances) or components (connected "
            "parts of the foreground are the instances)."
        ),
    ] = None
    ignore_label: Annotated[
        int | None, typer.Option(min=0, help="Mask value of pixels that do not count in training and scores.")
    ] = None
    split: Annotated[
        str | None, typer.Option(help="Shares of train/val/test; default: the official split, else 70/10/20.")
    ] = None
    folds: Annotated[int | None, typer.Option(min=2, help="Also make cross-validation folds of train and val.")] = None
    group_by: Annotated[
        str | None,
        typer.Option(help="Groups that a split keeps together: a pattern on case ids, or a CSV (case,group)."),
    ] = None
    seed: Annotated[int, typer.Option(help="Random seed of the split.")] = 0
    normal: Annotated[str, typer.Option(help="BUSI's normal images: include or exclude.")] = "exclude"
    allow_unpaired: Annotated[
        bool, typer.Option("--allow-unpaired", help="Leave out images without mask and masks without image.")
    ] = False
    merge_masks: Annotated[
        bool,
        typer.Option("--merge-masks", help="Merge the masks of an image that has several: foreground in any of them."),
    ] = False
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out cases that cannot be used; ends with exit code 6.")
    ] = False
    exif: Annotated[
        str | None,
        typer.Option(
            help="Images turned by EXIF: masks were drawn on the turned image (apply) or on the stored one (ignore)."
        ),
    ] = None
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the images; without it they are referenced where they are.")
    ] = False
    export: Annotated[str | None, typer.Option(help="nnunet, or nnunet:27: also write an nnU-Net raw folder.")] = None
    spacing: Annotated[
        str | None,
        typer.Option(
            help="Volumes: size of the stored voxels: keep (the default), auto (nnU-Net's rule), or Z,Y,X in mm."
        ),
    ] = None
    store: Annotated[
        str | None,
        typer.Option(
            help="Volumes: npy (the default), or blosc2: half of the disk space, slower to read. Images: keep all "
            "channels and bits as such arrays."
        ),
    ] = None
    channels: Annotated[
        str | None, typer.Option(help="Names of the channels, such as CT,PT or T1w,T2w. Images: keep them all.")
    ] = None
    onto: Annotated[
        str | None,
        typer.Option(help="Volumes: the channel whose grid the others are resampled to; default: the first."),
    ] = None
    series: Annotated[
        str | None, typer.Option(help="Volumes: the DICOM series to take, by a part of its description or by its key.")
    ] = None
    mask_suffix: Annotated[
        str | None, typer.Option(help="Volumes: endings of the names of masks, such as _seg,_label.")
    ] = None
    orientation: Annotated[
        str | None,
        typer.Option(help="Volumes: orientation of the axes if the header states none, such as RAS."),
    ] = None
    ignore_headers: Annotated[
        bool,
        typer.Option(
            "--ignore-headers", help="Volumes: take masks and channels voxel by voxel, wherever headers place them."
        ),
    ] = False
    name: Annotated[str | None, typer.Option(help="Name of the data set; default: that of the folder.")] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a prepared folder.")] = False
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Report the findings and write nothing.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False


@dataclass(frozen=True)
class AuditOptions:
    """Options of `audit`."""

    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for audit.csv, audit.json and a contact sheet.")
    ] = None
    split: Annotated[str, typer.Option(help="Masks to compare: all, train, val or test.")] = "all"
    backbone: Annotated[
        str, typer.Option(help="guidino-tiny, embedded, dinov3, dinov2, ...; none: without looking at the images.")
    ] = "guidino-tiny"
    weights: Annotated[
        str | None,
        typer.Option(help="Weights: folder in Hugging Face layout, hub id, or a name of `weights list`."),
    ] = None
    layer: Annotated[int | None, typer.Option(min=1, help="Block of the backbone; default: its own choice.")] = None
    show: Annotated[int, typer.Option(min=1, help="Masks to list on the console.")] = 10
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 8 if a mask is certainly wrong or masks are shifted.")
    ] = False
    device: Device = None
    offline: Offline = False
    overwrite: Overwrite = False


@dataclass(frozen=True)
class PlanOptions:
    """Options of `plan`."""

    out: Annotated[Path | None, typer.Option("--out", "-o", help="Preset file to write; default: print it.")] = None
    gpu_gb: Annotated[float, typer.Option(min=1, help="Memory in GB that the network may fill.")] = 8
    dims: Annotated[
        int | None, typer.Option(min=2, max=3, help="Preset for 2 (slices) or 3 (patches) dimensions of volumes.")
    ] = None
    encoder: Annotated[str, typer.Option(help="plain (nnU-Net's default) or residual (since 2024).")] = "plain"
    steps: Annotated[
        int | None, typer.Option(min=1, help="Optimizer steps; default: nnU-Net's 250000, or 12500 passes if fewer.")
    ] = None
    fold: Annotated[int | None, typer.Option(min=0, help="Leave out this fold, as training does.")] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the preset file.")] = False
