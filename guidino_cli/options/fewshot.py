"""Options of `fewshot` and `next-to-label`: type, help text and default of each, in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.options.completion import complete_preset, complete_setting
from guidino_cli.options.shared import Device, Offline, Orientation, OverwriteRun


@dataclass(frozen=True)
class FewShotOptions:
    """Options of `fewshot`."""

    out: Annotated[Path, typer.Option("--out", "-o", help="Run folder to write.")]
    labels: Annotated[
        str | None,
        typer.Option(metavar="N|LIST", help="Labels to use: the first N by name, or those named in a text file."),
    ] = None
    unlabelled: Annotated[
        Path | None,
        typer.Option(
            help="Folder of images (volumes) without labels; default: those of IMAGES or DATA that are not used."
        ),
    ] = None
    unlabelled_count: Annotated[
        int, typer.Option(min=0, metavar="N", help="How many of them to use, evenly spaced by name.")
    ] = 20
    slices: Annotated[
        int, typer.Option(min=1, metavar="N", help="Volumes: number of labelled slices to use, and of unlabelled ones.")
    ] = 100
    classes: Annotated[
        str | None, typer.Option(help="Names: background,polyp; or mask values: 0=background,#ff0000=polyp.")
    ] = None
    binary: Annotated[bool, typer.Option("--binary", help="Every mask value but 0 is foreground.")] = False
    threshold: Annotated[float | None, typer.Option(help="Mask values above this are foreground.")] = None
    ignore_label: Annotated[int | None, typer.Option(min=0, help="Mask value of pixels that do not count.")] = None
    merge_masks: Annotated[
        bool, typer.Option("--merge-masks", help="Merge the masks of an image that has several.")
    ] = False
    exif: Annotated[str | None, typer.Option(help="Masks of images turned by EXIF: apply or ignore.")] = None
    channels: Annotated[str | None, typer.Option(help="Volumes: names of the channels, such as CT or T1w,T2w.")] = None
    orientation: Orientation = None
    ignore_headers: Annotated[
        bool,
        typer.Option(
            "--ignore-headers", help="Volumes: take masks and channels voxel by voxel, wherever headers place them."
        ),
    ] = False
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out labels that cannot be used; ends with exit code 6.")
    ] = False
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            "-p",
            help="Name (see `guidino presets`) or path of a YAML file.",
            autocompletion=complete_preset,
        ),
    ] = "fewshot"
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="KEY=VALUE",
            help="A setting, such as model.backbone.name=dinov3.",
            autocompletion=complete_setting,
        ),
    ] = None
    device: Device = None
    overwrite: OverwriteRun = False
    offline: Offline = False


@dataclass(frozen=True)
class NextToLabelOptions:
    """Options of `next-to-label`."""

    out: Annotated[Path, typer.Option("--out", "-o", metavar="LIST.csv", help="List to write.")]
    device: Device = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the list.")] = False
    offline: Offline = False
