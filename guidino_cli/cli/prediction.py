"""What the user types to segment images and to look at guides."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.options.shared import Device, Offline, Overwrite, PredictOverrides, Split


def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES", help="Images, folders of images, or a prepared DATA folder.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the masks.")],
    split: Split = "test",
    save_guide: Annotated[
        bool, typer.Option("--save-guide", help="Also guides/NAME.png, 0..255 for 0..1; one map a class in class_K/.")
    ] = False,
    save_probabilities: Annotated[
        bool, typer.Option("--save-probabilities", help="Also probabilities/NAME.npz, (class, row, column).")
    ] = False,
    overlay: Annotated[bool, typer.Option("--overlay", help="Also overlays/NAME.png: outlines on the image.")] = False,
    values: Annotated[
        str, typer.Option(help="index (0, 1, 2, ...) or 255 (two classes, seen in any viewer).")
    ] = "index",
    post: Annotated[
        str, typer.Option(help="Clean masks: none, auto (see tune-post), or some of largest,fill,min=SHARE.")
    ] = "none",
    ensemble: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="Average with this run too; may be given again.")
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Also images in folders below; masks keep their folders.")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="K/N", help="Only the K-th of N shares, for job arrays: 1/8 to 8/8.")
    ] = None,
    overrides: PredictOverrides = None,
    device: Device = None,
    offline: Offline = False,
    overwrite: Overwrite = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="Leave masks that are there already.")] = False,
) -> None:
    """Segment images with a trained run; masks have the grid and the names of their images.

    Several processes may share one folder of masks: give each its --shard, or start all with torchrun.

    Example: guidino predict runs/kvasir new-images/ -o masks/ --overlay
    """
    from guidino_cli.commands import predict as command

    request = command.PredictOptions(
        extras=command.ExtraOutputs(save_guide, save_probabilities, overlay),
        values=values,
        post=post,
        ensemble=tuple(ensemble or ()),
        split=split,
        recursive=recursive,
        shard=shard,
        overwrite=overwrite,
        skip_existing=skip_existing,
    )
    command.run(run, images, out=out, request=request, overrides=tuple(overrides or ()), device=device, offline=offline)


def tune_post(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    data: Annotated[Path | None, typer.Option("--data", "-d", help="Prepared folder; default: RUN's own.")] = None,
    ensemble: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="Choose for the mean with this run; may be given again.")
    ] = None,
    overrides: PredictOverrides = None,
    device: Device = None,
    offline: Offline = False,
) -> None:
    """Choose post-processing of masks on a run's validation cases, for `predict --post auto`.

    Largest piece, filled holes and a smallest size are tried for every class; what does not help is not chosen. The
    choice is for masks of these runs with these settings: `predict` must be given the same.

    Example: guidino tune-post runs/kvasir
    """
    from guidino_cli.commands import tune_post as command

    command.run(
        run,
        ensemble=tuple(ensemble or ()),
        data=data,
        overrides=tuple(overrides or ()),
        device=device,
        offline=offline,
    )


def visualize_guide(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGES", help="Images, folders of images, or a prepared DATA folder.")
    ],
    run: Annotated[
        Path | None, typer.Option("--run", "-r", help="Run folder; without it, a frozen backbone is looked at.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for one PNG an image.")] = Path("guides"),
    truth: Annotated[
        Path | None, typer.Option(help="Folder of true masks, one mask, or a prepared DATA folder (its own truth).")
    ] = None,
    split: Split = "test",
    compare: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Another run's guide beside it; LoRA is compared by itself.")
    ] = None,
    limits: Annotated[
        str, typer.Option("--range", metavar="RANGE", help="Colours: all (images alike), image (each its own) or 0,1.")
    ] = "all",
    spacing: Annotated[
        float | None, typer.Option(min=1e-9, metavar="MM", help="Width of a pixel in mm, for scale bars.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option(help="Without --run: guidino-tiny; dinov3 (with --weights), dinov2, embedded, ...")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights of the backbone: folder in Hugging Face layout, or hub id.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="X,Y", help="Compare the patch at this pixel; else a salient one.")
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="With --run: its tokens too, as --at does.")] = False,
    layer: Annotated[int | None, typer.Option(min=1, help="Block of the backbone; default: its own choice.")] = None,
    scale: Annotated[
        float | None,
        typer.Option(min=0.1, max=8, help="For tokens: times 672 px on the longer side, or a run's own size."),
    ] = None,
    overrides: PredictOverrides = None,
    device: Device = None,
    offline: Offline = False,
    overwrite: Overwrite = False,
) -> None:
    """Draw the guide of a run over images and score it, or without a run draw what a frozen backbone sees in them.

    With a run: image, prediction, guide, and with truth the guide at several thresholds, IoU and AUROC of the guide
    alone. Without: principal components of the tokens as colours, and the cosine of every token with one patch.
    Several images get a contact sheet, prototypes.png and one page, guides.html, too.

    Example: guidino visualize-guide DATA --run runs/kvasir -o guides
    """
    from guidino_cli.commands import visualize_guide as command

    command.run(
        images,
        run_path=run,
        out=out,
        truth=truth,
        compare=compare,
        view=command.TokenOptions(backbone, weights, layer, at, scale, tokens),
        drawing=command.DrawingOptions(limits, spacing),
        split=split,
        overrides=tuple(overrides or ()),
        device=device,
        offline=offline,
        overwrite=overwrite,
    )
