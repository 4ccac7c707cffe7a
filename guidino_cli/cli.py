"""The commands: words become values here, and errors become one line and an exit code."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from guidino_cli import __version__
from guidino_cli.errors import EXIT_CODES, UserError

_EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + "."

app = typer.Typer(
    help="Medical image segmentation guided by a frozen vision foundation model.",
    epilog=_EPILOG,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command line; a `UserError` becomes one line on stderr and its exit code."""
    # Threads that wait for each other by spinning make torch ten times slower on a CPU that has other work too.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        # An ASCII locale must not turn a report into a UnicodeEncodeError.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        app(prog_name="guidino")
    except Exception as error:
        if os.environ.get("GUIDINO_DEBUG"):
            raise
        code = error.exit_code if isinstance(error, UserError) else 1
        hint = "" if isinstance(error, UserError) else " (a bug: please report it with the output of GUIDINO_DEBUG=1)"
        kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
        print(f"guidino: {kind}{error}{hint}", file=sys.stderr)
        sys.exit(code)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"guidino {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Argument(metavar="PREDS", help="Folder of predicted masks, or one mask.")],
    truth: Annotated[
        Path, typer.Argument(metavar="TRUTH", help="Folder of true masks, one mask, or a prepared DATA folder.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the report files.")] = None,
    split: Annotated[str, typer.Option(help="Split of a prepared DATA folder: train, val, test or all.")] = "test",
    metrics: Annotated[
        str,
        typer.Option(
            help="By comma: iou, dice, hd95, hd, asd, assd, nsd, precision, recall, specificity, size_error, "
            "lesion_f1, lesion_recall, lesion_precision; for instance maps are, voi, voi_merge, voi_split."
        ),
    ] = "iou,dice,hd95",
    hd95: Annotated[
        str | None, typer.Option(help="Definition of HD95: pooled (medpy; the default) or max (MONAI).")
    ] = None,
    policy: Annotated[
        str, typer.Option(help="Rules for empty and missing masks: guidino, nnunet, monai or guidino-paper.")
    ] = "guidino",
    spacing: Annotated[str | None, typer.Option(help="Pixel size in mm along rows,columns; else px.")] = None,
    tolerance: Annotated[float, typer.Option(help="Tolerance of the NSD, in the unit of the distances.")] = 2.0,
    lesion_iou: Annotated[float, typer.Option(help="IoU from which two connected objects may be partners.")] = 0.1,
    classes: Annotated[
        str | None, typer.Option(help="Names: background,polyp; or values: 0=background,#ff0000=polyp.")
    ] = None,
    pred_classes: Annotated[
        str | None, typer.Option(help="The values of the predictions, where they are not class indices.")
    ] = None,
    binary: Annotated[bool, typer.Option("--binary", help="Every value but 0 is foreground, on both sides.")] = False,
    threshold: Annotated[float | None, typer.Option(help="Values of the truth above this are foreground.")] = None,
    pred_threshold: Annotated[
        float | None, typer.Option(help="Values of the predictions above this are foreground.")
    ] = None,
    ignore_label: Annotated[int | None, typer.Option(help="Value of the truth whose pixels do not count.")] = None,
    regions: Annotated[
        str | None, typer.Option(help="Score merged classes instead of single ones: disc=1+2,cup=2.")
    ] = None,
    resample: Annotated[
        str | None, typer.Option(help="'nearest' fits predictions of another size to the truth; else they fail.")
    ] = None,
    backend: Annotated[
        str, typer.Option(help="auto, or medpy to have the surface figures recomputed by medpy and compared.")
    ] = "auto",
    pairs: Annotated[Path | None, typer.Option(help="CSV with columns prediction,truth instead of names.")] = None,
    group: Annotated[
        str | None,
        typer.Option(help="What the interval draws together (patients): a column, a CSV case,group, or a pattern."),
    ] = None,
    by: Annotated[str | None, typer.Option(help="Repeat the summary by a column, a CSV or a pattern.")] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, for the overlays of the page.")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; default: 1 for a small folder, else up to 4.")
    ] = None,
    min_dice: Annotated[
        list[str] | None, typer.Option(metavar="X", help="Gate: exit code 8 below. X or TARGET=X, repeatable.")
    ] = None,
    min_iou: Annotated[list[str] | None, typer.Option(metavar="X", help="Gate, as --min-dice.")] = None,
    max_hd95: Annotated[list[str] | None, typer.Option(metavar="X", help="Gate: exit code 8 above.")] = None,
    gate_on: Annotated[str, typer.Option(help="What gates look at: mean, ci-low or worst.")] = "mean",
    baseline: Annotated[Path | None, typer.Option(help="Gate: an earlier report.json to hold on to.")] = None,
    max_drop: Annotated[float, typer.Option(help="How far a share may fall below the baseline.")] = 0.01,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")] = False,
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


@app.command()
def compare(
    predictions: Annotated[list[Path], typer.Argument(metavar="PREDS...", help="Two or more folders of masks.")],
    truth: Annotated[Path, typer.Option(metavar="TRUTH", help="Folder of true masks, or a prepared DATA folder.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the report files.")] = None,
    names: Annotated[str | None, typer.Option(help="Names of the folders in the report, by comma.")] = None,
    split: Annotated[str, typer.Option(help="Split of a prepared DATA folder: train, val, test or all.")] = "test",
    metrics: Annotated[str, typer.Option(help="Figures, by comma, as in evaluate.")] = "dice,iou,hd95",
    policy: Annotated[str, typer.Option(help="Rules for empty and missing masks, as in evaluate.")] = "guidino",
    group: Annotated[
        str | None,
        typer.Option(help="What the interval draws together (patients): a column, a CSV case,group, or a pattern."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Compare sets of predictions case by case: differences, intervals, signed-rank tests and a picture.

    Example: guidino compare masks/plain masks/guided --truth DATA -o comparison/
    """
    from guidino_cli.commands import compare as command

    command.run(
        predictions,
        truth,
        out=out,
        names=names,
        split=split,
        metrics=metrics,
        policy=policy,
        group=group,
        seed=seed,
        overwrite=overwrite,
    )


@app.command()
def prepare(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of images and masks, or a CSV of pairs.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write.")] = None,
    layout: Annotated[
        str,
        typer.Option(help="auto, csv, nnunet, tn3k, busi, drive, isic, kvasir, siblings (images/, masks/) or suffix."),
    ] = "auto",
    classes: Annotated[
        str | None, typer.Option(help="Names: background,polyp; or mask values: 0=background,#ff0000=polyp.")
    ] = None,
    binary: Annotated[bool, typer.Option("--binary", help="Every mask value but 0 is foreground.")] = False,
    threshold: Annotated[float | None, typer.Option(help="Mask values above this are foreground.")] = None,
    split: Annotated[
        str | None, typer.Option(help="Shares of train/val/test; default: official parts, else 70/10/20.")
    ] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="Also make cross-validation folds of train and val.")] = None,
    group_by: Annotated[
        str | None, typer.Option(help="What a split must not tear apart: a pattern on case ids, or a CSV (case,group).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Decides which groups go where.")] = 0,
    normal: Annotated[str, typer.Option(help="BUSI's normal images: include or exclude.")] = "exclude",
    allow_unpaired: Annotated[
        bool, typer.Option("--allow-unpaired", help="Leave out images without mask and masks without image.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out cases that cannot be used; ends with exit code 6.")
    ] = False,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the images too; else they stay where they are.")] = False,
    export: Annotated[str | None, typer.Option(help="nnunet, or nnunet:27: also write an nnU-Net raw folder.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the data set; default: that of the folder.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a prepared folder.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what is found and write nothing.")] = False,
) -> None:
    """Check image-mask pairs and write class-index masks, splits, a contact sheet and cases.json.

    Example: guidino prepare Kvasir-SEG -o data/kvasir --classes background,polyp
    """
    from guidino_cli.commands import prepare as command

    command.run(
        source,
        out=out,
        layout=layout,
        classes=classes,
        binary=binary,
        threshold=threshold,
        split_ratios=split,
        folds=folds,
        group_by=group_by,
        seed=seed,
        normal=normal,
        allow_unpaired=allow_unpaired,
        skip_bad=skip_bad,
        copy=copy,
        export_to=export,
        name=name,
        overwrite=overwrite,
        dry_run=dry_run,
    )


@app.command()
def train(
    preset: Annotated[
        str | None, typer.Option("--preset", "-p", help="Name (see `guidino presets`) or path of a YAML file.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", "-d", help="Folder made by `guidino prepare`.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder to write; default: runs/PRESET.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="A setting, such as train.epochs=3.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order, crops and augmentation.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: the best there is.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on behind the last finished epoch of -o.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew in a folder that is not empty.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask a model hub.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, print the settings, stop.")] = False,
) -> None:
    """Train a network, guided or plain, from a preset and a prepared data folder.

    Example: guidino train --preset kvasir-nnwnet --data data/kvasir -o runs/kvasir --set train.epochs=100
    """
    if preset is not None:
        from guidino_cli.config import load_preset

        # A typo is answered at once, before the seconds that importing torch takes.
        load_preset(preset, overrides or [])
    from guidino_cli.commands import train as command

    command.run(
        preset=preset,
        data=data,
        out=out,
        overrides=overrides or [],
        seed=seed,
        device=device,
        resume=resume,
        overwrite=overwrite,
        offline=offline,
        dry_run=dry_run,
    )


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES...", help="Images, folders of images, or a prepared DATA folder.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the masks.")],
    split: Annotated[str, typer.Option(help="Split of a prepared DATA folder: train, val, test or all.")] = "test",
    save_guide: Annotated[bool, typer.Option("--save-guide", help="Also guides/NAME.png, 0..255 for 0..1.")] = False,
    save_probabilities: Annotated[
        bool, typer.Option("--save-probabilities", help="Also probabilities/NAME.npz, (class, row, column).")
    ] = False,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also overlays/NAME.png: outlines on the image.")] = False,
    values: Annotated[
        str, typer.Option(help="index (0, 1, 2, ...) or 255 (two classes, seen in any viewer).")
    ] = "index",
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="A setting, such as predict.mirror=false."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: the best there is.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask a model hub.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave masks that are there already.")] = False,
) -> None:
    """Segment images with a trained run; masks have the grid and the names of their images.

    Example: guidino predict runs/kvasir new-images/ -o masks/ --overlay
    """
    from guidino_cli.commands import predict as command

    command.run(
        run,
        images,
        out=out,
        extras=command.Extras(save_guide, save_probabilities, overlay),
        split=split,
        values=values,
        overrides=tuple(overrides or ()),
        device=device,
        offline=offline,
        overwrite=overwrite,
        skip_existing=skip_existing,
    )


@app.command("visualize-guide")
def visualize_guide(
    images: Annotated[list[Path], typer.Argument(metavar="IMG...", help="Images, or folders of images.")],
    run: Annotated[
        Path | None, typer.Option("--run", "-r", help="Run folder; without it, a frozen backbone is looked at.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for one PNG an image.")] = Path("guides"),
    truth: Annotated[
        Path | None, typer.Option(help="Folder of true masks, one mask, or a prepared DATA folder, to draw them too.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Without --run: dinov3 (default), dinov2, embedded or random.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights of the backbone: folder in Hugging Face layout, or hub id.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="X,Y", help="Compare the patch at this pixel; else a salient one.")
    ] = None,
    layer: Annotated[int | None, typer.Option(min=1, help="Block of the backbone; default: its own choice.")] = None,
    scale: Annotated[
        float | None, typer.Option(min=0.1, max=8, help="Times 672 px on the longer side; 2: four times the tokens.")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="A setting, such as predict.mirror=false."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: the best there is.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Never ask a model hub.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Write into a folder that is not empty.")] = False,
) -> None:
    """Draw the guide of a run over images, or without a run what a frozen backbone sees in them.

    With a run: image, guide, prediction and, if given, truth. Without: image, the first three principal components of
    the tokens (computed an image at a time) as colours, and the cosine of every token with one patch.

    Example: guidino visualize-guide polyp.jpg --run runs/kvasir --truth masks/polyp.png -o guides
    """
    from guidino_cli.commands import visualize_guide as command

    command.run(
        images,
        run_path=run,
        out=out,
        truth=truth,
        view=command.BackboneView(backbone, weights, layer, at, scale),
        overrides=tuple(overrides or ()),
        device=device,
        offline=offline,
        overwrite=overwrite,
    )


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Preset to print.")] = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="With every default spelled out.")] = False,
) -> None:
    """List the presets, or print one: the start of a preset of your own.

    Example: guidino presets kvasir-nnwnet > mine.yaml
    """
    from guidino_cli.commands import presets as command

    command.run(name, resolved=resolved)
