"""The commands `guidino features` and `guidino probe`."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.options.probing import BagProbeOptions, FeatureOptions, LinearProbeOptions, NeighbourProbeOptions


@expand_dataclasses
def features(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Folder of classes, CSV with image,label, MedMNIST .npz, or a prepared folder."
        ),
    ],
    options: FeatureOptions,
) -> None:
    """Write vectors of images, tiles or slices from a frozen backbone, once, for `guidino probe`.

    The same command resumes a killed call; a second one computes nothing. A random network of the same shape and
    the pixels themselves are written beside them as controls.

    Example: guidino features chest.csv -o feats/chest --backbone guidino-tiny --px 224
    """
    from guidino_cli.commands import features as command

    command.run(data, options)


app = typer.Typer(
    help="""Ask what frozen features are worth: simple classifiers on the vectors of `guidino features`, with controls.

    Example: guidino probe linear feats/chest -o report/""",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_Features = Annotated[
    list[Path],
    typer.Argument(metavar="FEATURES", help="Folders of `guidino features`, several of one DATA to compare backbones."),
]


@app.command(short_help="Logistic regression, solved exactly and by two recipes.")
@expand_dataclasses
def linear(features: _Features, options: LinearProbeOptions) -> None:
    """Fit a linear classifier: exactly, by the DINOv3 benchmark's recipe, and by DINOv2's sweep of rates.

    Rows of a random network and of the pixels stand beside it, and each says whether its solver converged.

    Example: guidino probe linear feats/chest -o report/ --min-auc 0.9
    """
    from guidino_cli.commands import probe as command

    command.run_linear(features, options)


@app.command(short_help="Nearest neighbours, as DINOv2 does.")
@expand_dataclasses
def knn(features: _Features, options: NeighbourProbeOptions) -> None:
    """Let the nearest training samples vote: cosine similarity, softmax at temperature .07, k of 10 to 200.

    Example: guidino probe knn feats/chest -o report/ --k 5,10,20
    """
    from guidino_cli.commands import probe as command

    command.run_neighbours(features, options)


@app.command(short_help="Attention over the tiles of a bag or slices of a volume.")
@expand_dataclasses
def abmil(features: _Features, options: BagProbeOptions) -> None:
    """Train gated attention over the tiles of each bag or the slices of each volume; write and draw the attention.

    Example: guidino probe abmil feats/slides -o report/
    """
    from guidino_cli.commands import probe as command

    command.run_abmil(features, options)
