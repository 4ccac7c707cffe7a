"""Options of `evaluate` and `compare`: type, help text and default of each, in one place.

`cli` reads its signatures from these dataclasses, `commands` validates them and `evaluation` keeps them in its
configuration. All three layers need them, so they are at the lowest one; importing them loads nothing but typer.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.options.shared import Overwrite, Split


@dataclass(frozen=True)
class ScoringOptions:
    """Options that `evaluate` and `compare` share."""

    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the report files.")] = None
    overwrite: Overwrite = False
    split: Split = "test"
    metrics: Annotated[str, typer.Option(help="Metrics, comma-separated, as in evaluate.")] = "dice,iou,hd95"
    hd95: Annotated[
        str | None, typer.Option(help="Definition of HD95: pooled (medpy; the default) or max (MONAI).")
    ] = None
    policy: Annotated[
        str, typer.Option(help="Rules for empty and missing masks: guidino, nnunet, monai, guidino-paper or autopet.")
    ] = "guidino"
    spacing: Annotated[str | None, typer.Option(help="Pixel size in mm along rows,columns; else px.")] = None
    tolerance: Annotated[float, typer.Option(help="Tolerance of the NSD, in the unit of the distances.")] = 2.0
    lesion_iou: Annotated[float, typer.Option(help="Smallest IoU at which two connected objects match.")] = 0.1
    classes: Annotated[
        str | None, typer.Option(help="Names: background,polyp; or values: 0=background,#ff0000=polyp.")
    ] = None
    pred_classes: Annotated[
        str | None, typer.Option(help="Values of the predictions, where they are not class indices.")
    ] = None
    binary: Annotated[
        bool, typer.Option("--binary", help="Every value but 0 is foreground, in predictions and truth.")
    ] = False
    threshold: Annotated[float | None, typer.Option(help="Values of the truth above this are foreground.")] = None
    pred_threshold: Annotated[
        float | None, typer.Option(help="Values of the predictions above this are foreground.")
    ] = None
    ignore_label: Annotated[int | None, typer.Option(help="Value of the truth whose pixels do not count.")] = None
    regions: Annotated[
        str | None, typer.Option(help="Score merged classes instead of single ones: disc=1+2,cup=2.")
    ] = None
    only_predicted: Annotated[
        bool, typer.Option("--only-predicted", help="Leave out cases without a prediction instead of scoring them 0.")
    ] = False
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit code 8 if a prediction has no truth or a case no usable prediction.")
    ] = False
    resample: Annotated[
        str | None, typer.Option(help="nearest: resample predictions of another size or grid; without it they fail.")
    ] = None
    ignore_headers: Annotated[
        bool, typer.Option("--ignore-headers", help="Compare volumes voxel by voxel, whatever their headers say.")
    ] = False
    segment: Annotated[
        str | None, typer.Option(help="DICOM SEG: score only this segment, by its label; needed if segments overlap.")
    ] = None
    group: Annotated[
        str | None,
        typer.Option(help="Bootstrap whole groups, such as patients: a column, TABLE.csv:COLUMN, or a pattern."),
    ] = None
    seed: Annotated[int, typer.Option(help="Random seed of the bootstrap.")] = 0
    workers: Annotated[
        int | None, typer.Option(min=1, help="Worker processes; default: 1 for a small folder, else up to 4.")
    ] = None


@dataclass(frozen=True)
class EvaluateOptions(ScoringOptions):
    """Options of `evaluate`."""

    metrics: Annotated[
        str,
        typer.Option(
            help="Comma-separated: iou, dice, hd95, hd, asd, assd, nsd, precision, recall, specificity, size_error, "
            "lesion_f1, lesion_recall, lesion_precision; of volumes fp_volume, fn_volume; for instance maps are, voi, "
            "voi_merge, voi_split."
        ),
    ] = "iou,dice,hd95"
    by: Annotated[
        str | None, typer.Option(help="Repeat the summary for each value of a column, TABLE.csv:COLUMN, or pattern.")
    ] = None
    pairs: Annotated[
        Path | None, typer.Option(help="CSV with columns prediction,truth instead of matching by name.")
    ] = None
    images: Annotated[Path | None, typer.Option(help="Folder of the images, for the overlays in report.html.")] = None
    backend: Annotated[
        str, typer.Option(help="auto, or medpy to recompute surface metrics with medpy and compare.")
    ] = "auto"
    min_dice: Annotated[
        list[str] | None, typer.Option(metavar="X", help="Gate: exit code 8 below. X or TARGET=X, repeatable.")
    ] = None
    min_iou: Annotated[list[str] | None, typer.Option(metavar="X", help="Gate, as --min-dice.")] = None
    max_hd95: Annotated[list[str] | None, typer.Option(metavar="X", help="Gate: exit code 8 above.")] = None
    gate_on: Annotated[
        str, typer.Option(help="Statistic that gates compare: mean, ci-low or worst; --baseline compares means.")
    ] = "mean"
    baseline: Annotated[Path | None, typer.Option(help="Gate: an earlier report.json to compare with.")] = None
    max_drop: Annotated[float, typer.Option(help="Largest accepted drop below the baseline, of scores in 0..1.")] = 0.01
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON and nothing else.")] = False


@dataclass(frozen=True)
class CompareOptions(ScoringOptions):
    """Options of `compare`."""

    names: Annotated[str | None, typer.Option(help="Names of the folders in the report, comma-separated.")] = None
    pairs: Annotated[
        list[Path] | None, typer.Option(help="CSV as in evaluate instead of names; one for each of PREDS, in order.")
    ] = None
