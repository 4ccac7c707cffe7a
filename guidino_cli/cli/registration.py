"""Command line of `guidino register` and `guidino register train`."""

from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.options.registration import RegisterOptions, RegisterTrainOptions


class RegisterCommand(TyperCommand):
    """`guidino register FIXED MOVING`, and `guidino register train ...` if that is the first word."""

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Parse the words after `register`."""
        if args and args[0] in self.subcommands:
            command = self.subcommands[args[0]]
            return command.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)

    @property
    def subcommands(self) -> dict[str, Any]:
        """Further commands by their name; a file of such a name is given as `./NAME`."""
        return {"train": _train_command()}


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

    `guidino register train` trains a network, which --network uses instead of ConvexAdam.

    Example: guidino register fixed.nii.gz moving.nii.gz -o registered/ --features both
    """
    from guidino_cli.commands.register_options import check_options
    from guidino_cli.commands.register_pairs import collect_pairs

    # Report typos before torch is imported, which takes seconds.
    check_options(options)
    collect_pairs(fixed, moving, options)
    from guidino_cli.commands import register as command

    command.run(fixed, moving, options)


@expand_dataclasses
def train(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="PAIRS.csv|FOLDER",
            help="Table with columns fixed and moving, or a folder of images of which any two are a pair.",
        ),
    ],
    *,
    options: RegisterTrainOptions,
) -> None:
    """Train a network that registers in one pass: VoxelMorph's U-Net, on grey values or on features, without labels.

    All images must be on one grid, as for `guidino register`. Needs MONAI: pip install 'guidino[monai]'.

    Example: guidino register train images/ -o runs/voxelmorph; guidino register FIXED MOVING --network runs/voxelmorph
    -o registered/
    """
    from guidino_cli.commands.register_options import check_training_options
    from guidino_cli.commands.register_pairs import collect_training_files

    check_training_options(options)
    collect_training_files(data)
    from guidino_cli.commands import register_train as command

    command.run(data, options)


@cache
def _train_command() -> Any:
    app = typer.Typer(
        add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
    )
    app.command()(train)
    return typer.main.get_command(app)
