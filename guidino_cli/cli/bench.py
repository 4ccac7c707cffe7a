"""The command `guidino bench`."""

from typing import Annotated

import typer

from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.options.bench import BenchOptions


@expand_dataclasses
def bench(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="Backbones and tasks: a YAML file, or the name of a packaged recipe."),
    ],
    options: BenchOptions,
) -> None:
    """Compare backbones on tasks in one table: probes, light decoders, registration, each beside its controls.

    The same command resumes an interrupted call, cell by cell; a cell that fails does not stop the others.

    Example: guidino bench recipe.yaml -o bench/ --dry-run
    """
    from guidino_cli.commands.bench.run import run

    run(recipe, options)
