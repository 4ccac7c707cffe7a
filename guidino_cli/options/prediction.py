"""Options of `predict`, `tune-post`, `tune-risk` and `visualize-guide`: type, help text and default of each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.options.completion import complete_run
from guidino_cli.options.shared import (
    Device,
    IgnoreHeaders,
    Offline,
    Orientation,
    Overwrite,
    PredictOverrides,
    Series,
    Split,
)


@dataclass(frozen=True)
class PredictOptions:
    """Which images are predicted, how, and what is written in addition to masks."""

    split: Split = "test"
    save_guide: Annotated[
        bool,
        typer.Option(
            "--save-guide",
            help="Also guides/NAME.png, 16 bits (0..65535 for 0..1); one per class in class_K/; .nii.gz of volumes.",
        ),
    ] = False
    save_probabilities: Annotated[
        bool,
        typer.Option(
            "--save-probabilities", help="Also probabilities/NAME.npz, (class, row, column) or (class, z, y, x)."
        ),
    ] = False
    overlay: Annotated[bool, typer.Option("--overlay", help="Also overlays/NAME.png: outlines, legend below.")] = False
    format: Annotated[
        str | None,
        typer.Option(help="Also label files: coco (coco.json), yolo (labels/, data.yaml) or geojson (geojson/)."),
    ] = None
    values: Annotated[str, typer.Option(help="index (0, 1, 2, ...) or 255 (two classes, visible in any viewer).")] = (
        "index"
    )
    post: Annotated[
        str, typer.Option(help="Clean masks: none, auto (see tune-post), or some of largest,fill,min=SHARE.")
    ] = "none"
    risk: Annotated[
        bool,
        typer.Option(
            "--risk", help="Also outer/NAME and inner/NAME: masks whose mean error is bounded, see tune-risk."
        ),
    ] = False
    ensemble: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="Average with this run too; repeatable.", autocompletion=complete_run),
    ] = None
    list_file: Annotated[
        str | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="Also the images that FILE names, one per line or zero-separated; - is stdin.",
        ),
    ] = None
    recursive: Annotated[bool, typer.Option("--recursive", help="Also subfolders; masks keep their folders.")] = False
    series: Series = None
    orientation: Orientation = None
    ignore_headers: IgnoreHeaders = False
    dicom_seg: Annotated[
        bool,
        typer.Option("--dicom-seg", help="Also dicom_seg/NAME.dcm of a DICOM series (pip install 'guidino[dicom]')."),
    ] = False
    shard: Annotated[
        str | None, typer.Option(metavar="K/N", help="Only the K-th of N shares, for job arrays: 1/8 to 8/8.")
    ] = None
    overrides: PredictOverrides = None
    device: Device = None
    offline: Offline = False
    overwrite: Overwrite = False
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Skip images and volumes whose masks exist.")
    ] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False


@dataclass(frozen=True)
class TunePostOptions:
    """For which runs and on which cases post-processing is selected."""

    data: Annotated[Path | None, typer.Option("--data", "-d", help="Prepared folder; default: RUN's own.")] = None
    ensemble: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN", help="Tune for the average with this run; repeatable.", autocompletion=complete_run
        ),
    ] = None
    overrides: PredictOverrides = None
    device: Device = None
    offline: Offline = False


@dataclass(frozen=True)
class TuneRiskOptions:
    """For which runs, on which cases and for which error the bounds of masks are fitted."""

    risk: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE", help="Largest mean error, such as 0.1; without it only the expected Dice is fitted."
        ),
    ] = None
    of: Annotated[
        str,
        typer.Option(
            metavar="LOSS",
            help="fnr: truth that the outer mask misses. fdr: part of the inner mask that is wrong, or fpr: background "
            "that it covers.",
        ),
    ] = "fnr,fdr"
    group: Annotated[
        str | None, typer.Option(metavar="FIELD", help="A bound for each value of this column of the prepared data.")
    ] = None
    data: Annotated[Path | None, typer.Option("--data", "-d", help="Prepared folder; default: RUN's own.")] = None
    ensemble: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="Fit for the average with this run; repeatable.", autocompletion=complete_run),
    ] = None
    overrides: PredictOverrides = None
    device: Device = None
    offline: Offline = False


@dataclass(frozen=True)
class VisualizeOptions:
    """Options of `visualize-guide`."""

    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            "-r",
            help="Run folder; without it, a frozen backbone's tokens are drawn.",
            autocompletion=complete_run,
        ),
    ] = None
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for one PNG per image.")] = Path("guides")
    truth: Annotated[
        Path | None, typer.Option(help="Folder of true masks, one mask, or a prepared DATA folder (its own truth).")
    ] = None
    split: Split = "test"
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Also draw another run's guide; for LoRA, that without the adapter is always drawn.",
            autocompletion=complete_run,
        ),
    ] = None
    limits: Annotated[
        str,
        typer.Option(
            "--range", metavar="RANGE", help="Colour scale: all (one for all images), image (one for each) or 0,1."
        ),
    ] = "all"
    spacing: Annotated[
        float | None, typer.Option(min=1e-9, metavar="MM", help="Width of a pixel in mm, for scale bars.")
    ] = None
    backbone: Annotated[
        str | None, typer.Option(help="Without --run: guidino-tiny; dinov3 (with --weights), dinov2, embedded, ...")
    ] = None
    weights: Annotated[
        str | None,
        typer.Option(help="Weights: folder in Hugging Face layout, hub id, or a name of `weights list`."),
    ] = None
    at: Annotated[
        str | None, typer.Option(metavar="X,Y", help="Compare the patch at this pixel; default: a salient one.")
    ] = None
    tokens: Annotated[bool, typer.Option("--tokens", help="With --run: its tokens too, as --at does.")] = False
    layer: Annotated[int | None, typer.Option(min=1, help="Block of the backbone; default: its own choice.")] = None
    scale: Annotated[
        float | None,
        typer.Option(min=0.1, max=8, help="For tokens: times 672 px on the longer side, or a run's own size."),
    ] = None
    series: Series = None
    orientation: Orientation = None
    ignore_headers: IgnoreHeaders = False
    overrides: PredictOverrides = None
    device: Device = None
    offline: Offline = False
    overwrite: Overwrite = False
