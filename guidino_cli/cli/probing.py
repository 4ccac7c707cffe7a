"""The commands `guidino features` and `guidino probe`."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.options.probing import FeatureOptions


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

    A killed call is gone on with by the same one; a second one computes nothing. A random network of the same shape and
    the pixels themselves are written beside them as controls.

    Example: guidino features chest.csv -o feats/chest --backbone guidino-tiny --px 224
    """
    from guidino_cli.commands import features as command

    command.run(data, options)
