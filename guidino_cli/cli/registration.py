"""Command line of `guidino register`."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.options.registration import RegisterOptions


@expand_dataclasses
def register(
    fixed: Annotated[
        Path,
        typer.Argument(
            metavar="FIXED|PAIRS.csv",
            help="Image or volume that stays, or a table with columns fixed, moving and, if there are, name, "
            "fixed_mask, moving_mask.",
        ),
    ],
    moving: Annotated[
        Path | None, typer.Argument(metavar="MOVING", help="What is brought to FIXED; not with a table.")
    ] = None,
    *,
    options: RegisterOptions,
) -> None:
    """Register images or volumes by ConvexAdam: a displacement field, the warped image, and scores of warped labels.

    Features are MIND, tokens of a frozen backbone reduced by PCA, or both; nothing is trained. Images must be on one
    grid, or --onto fixed resamples MOVING where its header places it; there is no affine registration.

    Example: guidino register fixed.nii.gz moving.nii.gz -o registered/ --features both
    """
    from guidino_cli.commands.register_options import check_options
    from guidino_cli.commands.register_pairs import collect_pairs

    # Report typos before torch is imported, which takes seconds.
    check_options(options)
    collect_pairs(fixed, moving, options)
    from guidino_cli.commands import register as command

    command.run(fixed, moving, options)
