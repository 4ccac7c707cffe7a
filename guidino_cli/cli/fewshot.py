"""Command line of `guidino fewshot`."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.options.fewshot import FewShotOptions


@expand_dataclasses
def fewshot(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="Folder of images, or DATA made by `guidino prepare`.")
    ],
    masks: Annotated[
        Path | None, typer.Argument(metavar="MASKS", help="Folder of masks of some of them; not with DATA.")
    ] = None,
    *,
    options: FewShotOptions,
) -> None:
    """Make a run from 1, 5 or 20 labelled images in seconds: a frozen backbone, and the rest solved in closed form.

    Images of IMAGES without a mask help to find the threshold. The run is used like any other: predict, evaluate,
    visualize-guide, export, lora-tune. One label is a lottery; five are where it begins to work.

    Example: guidino fewshot images/ masks/ -o runs/polyps --classes background,polyp
    """
    if options.preset != "fewshot" or options.overrides:
        from guidino_cli.config import load_preset

        # Report typos before torch is imported, which takes seconds.
        load_preset(options.preset, options.overrides or [])
    from guidino_cli.commands import fewshot as command

    command.run(images, masks, options)
