"""Command line of `guidino fewshot` and `guidino next-to-label`."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.options.completion import complete_run
from guidino_cli.options.fewshot import FewShotOptions, NextToLabelOptions


@expand_dataclasses
def fewshot(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="Folder of images or volumes, or DATA made by `guidino prepare`.")
    ],
    masks: Annotated[
        Path | None, typer.Argument(metavar="MASKS", help="Folder of masks of some of them; not with DATA.")
    ] = None,
    *,
    options: FewShotOptions,
) -> None:
    """Make a run from 1, 5 or 20 labelled images in seconds: a frozen backbone, and the rest solved in closed form.

    Images of IMAGES without a mask help to find the threshold. The run is used like any other: predict, evaluate,
    visualize-guide, export, lora-tune. Label five images or more; with one, results vary a lot. Volumes are segmented
    slice by slice.

    Example: guidino fewshot images/ masks/ -o runs/polyps --classes background,polyp
    """
    if options.preset != "fewshot" or options.overrides:
        from guidino_cli.config import load_preset

        # Report typos before torch is imported, which takes seconds.
        load_preset(options.preset, options.overrides or [])
    from guidino_cli.commands import fewshot as command

    command.run(images, masks, options)


@expand_dataclasses
def next_to_label(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="Run made by `guidino fewshot` from two labelled images or more.",
            autocompletion=complete_run,
        ),
    ],
    pool: Annotated[Path, typer.Argument(metavar="POOL", help="Folder of images; labelled ones are left out.")],
    options: NextToLabelOptions,
) -> None:
    """Rank unlabelled images by how uncertain the run is: first those on which parts of its labels disagree most.

    It finds images that the run does badly on. As a choice of labels it was not better than a random one.

    Example: guidino next-to-label runs/polyps images/ -o next.csv
    """
    from guidino_cli.commands import next_to_label as command

    command.run(run, pool, options)
