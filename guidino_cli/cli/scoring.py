"""What the user types to score masks and to compare methods."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.options import BootstrapSeed, Group, Overwrite, ReportOut, Split

Hd95 = Annotated[str | None, typer.Option(help="Definition of HD95: pooled (medpy; the default) or max (MONAI).")]
Policy = Annotated[
    str, typer.Option(help="Rules for empty and missing masks: guidino, nnunet, monai or guidino-paper.")
]
Spacing = Annotated[str | None, typer.Option(help="Pixel size in mm along rows,columns; else px.")]
Tolerance = Annotated[float, typer.Option(help="Tolerance of the NSD, in the unit of the distances.")]
LesionIou = Annotated[float, typer.Option(help="IoU from which two connected objects may be partners.")]
Classes = Annotated[str | None, typer.Option(help="Names: background,polyp; or values: 0=background,#ff0000=polyp.")]
PredClasses = Annotated[
    str | None, typer.Option(help="The values of the predictions, where they are not class indices.")
]
Binary = Annotated[bool, typer.Option("--binary", help="Every value but 0 is foreground, on both sides.")]
Threshold = Annotated[float | None, typer.Option(help="Values of the truth above this are foreground.")]
PredThreshold = Annotated[float | None, typer.Option(help="Values of the predictions above this are foreground.")]
IgnoreLabel = Annotated[int | None, typer.Option(help="Value of the truth whose pixels do not count.")]
Regions = Annotated[str | None, typer.Option(help="Score merged classes instead of single ones: disc=1+2,cup=2.")]
Resample = Annotated[
    str | None,
    typer.Option(help="'nearest' fits predictions of another size or grid; else they fail."),
]
IgnoreHeaders = Annotated[
    bool,
    typer.Option("--ignore-headers", help="Compare volumes voxel by voxel, whatever their headers say."),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default: 1 for a small folder, else up to 4.")]


def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PREDS", help="Folder of predicted masks, or one mask.")],
    truth: Annotated[
        Path, typer.Argument(metavar="TRUTH", help="Folder of true masks, one mask, or a prepared DATA folder.")
    ],
    out: ReportOut = None,
    split: Split = "test",
    metrics: Annotated[
        str,
        typer.Option(
            help="By comma: iou, dice, hd95, hd, asd, assd, nsd, precision, recall, specificity, size_error, "
            "lesion_f1, lesion_recall, lesion_precision; for instance maps are, voi, voi_merge, voi_split."
        ),
    ] = "iou,dice,hd95",
    hd95: Hd95 = None,
    policy: Policy = "guidino",
    spacing: Spacing = None,
    tolerance: Tolerance = 2.0,
    lesion_iou: LesionIou = 0.1,
    classes: Classes = None,
    pred_classes: PredClasses = None,
    binary: Binary = False,
    threshold: Threshold = None,
    pred_threshold: PredThreshold = None,
    ignore_label: IgnoreLabel = None,
    regions: Regions = None,
    resample: Resample = None,
    ignore_headers: IgnoreHeaders = False,
    backend: Annotated[
        str, typer.Option(help="auto, or medpy to have the surface figures recomputed by medpy and compared.")
    ] = "auto",
    pairs: Annotated[Path | None, typer.Option(help="CSV with columns prediction,truth instead of names.")] = None,
    group: Group = None,
    by: Annotated[
        str | None, typer.Option(help="Repeat the summary by a column, TABLE.csv:COLUMN, or pattern.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, for the overlays of the page.")] = None,
    seed: BootstrapSeed = 0,
    workers: Workers = None,
    min_dice: Annotated[
        list[str] | None, typer.Option(metavar="X", help="Gate: exit code 8 below. X or TARGET=X, repeatable.")
    ] = None,
    min_iou: Annotated[list[str] | None, typer.Option(metavar="X", help="Gate, as --min-dice.")] = None,
    max_hd95: Annotated[list[str] | None, typer.Option(metavar="X", help="Gate: exit code 8 above.")] = None,
    gate_on: Annotated[str, typer.Option(help="What gates look at: mean, ci-low or worst.")] = "mean",
    baseline: Annotated[Path | None, typer.Option(help="Gate: an earlier report.json to hold on to.")] = None,
    max_drop: Annotated[float, typer.Option(help="How far a share may fall below the baseline.")] = 0.01,
    overwrite: Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON and nothing else.")] = False,
) -> None:
    """Score predicted masks against the truth: IoU, Dice, HD95 per case and overall.

    Example: guidino evaluate masks/ DATA -o report/ --min-dice 0.85
    """
    from guidino_cli.commands import evaluate as command

    options = command.Options(
        out=out,
        split=split,
        metrics=metrics,
        hd95=hd95,
        policy=policy,
        spacing=spacing,
        tolerance=tolerance,
        lesion_iou=lesion_iou,
        classes=classes,
        pred_classes=pred_classes,
        binary=binary,
        threshold=threshold,
        pred_threshold=pred_threshold,
        ignore_label=ignore_label,
        regions=regions,
        resample=resample,
        ignore_headers=ignore_headers,
        backend=backend,
        workers=workers,
        pairs=pairs,
        group=group,
        by=by,
        images=images,
        seed=seed,
        min_dice=min_dice or (),
        min_iou=min_iou or (),
        max_hd95=max_hd95 or (),
        gate_on=gate_on,
        baseline=baseline,
        max_drop=max_drop,
        overwrite=overwrite,
        as_json=as_json,
    )
    command.run(predictions, truth, options)


def compare(
    predictions: Annotated[list[Path], typer.Argument(metavar="PREDS", help="Two or more folders of masks.")],
    truth: Annotated[Path, typer.Option(metavar="TRUTH", help="Folder of true masks, or a prepared DATA folder.")],
    out: ReportOut = None,
    names: Annotated[str | None, typer.Option(help="Names of the folders in the report, by comma.")] = None,
    split: Split = "test",
    metrics: Annotated[str, typer.Option(help="Figures, by comma, as in evaluate.")] = "dice,iou,hd95",
    hd95: Hd95 = None,
    policy: Policy = "guidino",
    spacing: Spacing = None,
    tolerance: Tolerance = 2.0,
    lesion_iou: LesionIou = 0.1,
    classes: Classes = None,
    pred_classes: PredClasses = None,
    binary: Binary = False,
    threshold: Threshold = None,
    pred_threshold: PredThreshold = None,
    ignore_label: IgnoreLabel = None,
    regions: Regions = None,
    resample: Resample = None,
    ignore_headers: IgnoreHeaders = False,
    pairs: Annotated[
        list[Path] | None, typer.Option(help="CSV as in evaluate instead of names; one for each of PREDS, in order.")
    ] = None,
    group: Group = None,
    seed: BootstrapSeed = 0,
    workers: Workers = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare sets of predictions case by case: differences, intervals, signed-rank tests and a picture.

    Example: guidino compare masks/plain masks/guided --truth DATA -o comparison/
    """
    from guidino_cli.commands import compare as command
    from guidino_cli.commands.evaluate_options import Options

    options = Options(
        out=out,
        split=split,
        metrics=metrics,
        hd95=hd95,
        policy=policy,
        spacing=spacing,
        tolerance=tolerance,
        lesion_iou=lesion_iou,
        classes=classes,
        pred_classes=pred_classes,
        binary=binary,
        threshold=threshold,
        pred_threshold=pred_threshold,
        ignore_label=ignore_label,
        regions=regions,
        resample=resample,
        ignore_headers=ignore_headers,
        group=group,
        seed=seed,
        workers=workers,
        overwrite=overwrite,
    )
    command.run(predictions, truth, options, names=names, tables=tuple(pairs or ()))
