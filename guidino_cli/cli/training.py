"""The commands `guidino train`, `lora-tune` and `presets`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.cli.run_checks import check_unlocked
from guidino_cli.cli.workers import launch_workers
from guidino_cli.options.argv import option_values
from guidino_cli.options.completion import complete_any_preset, complete_run
from guidino_cli.options.training import LoraTuneOptions, TrainCommandOptions, TrainOptions


@expand_dataclasses
def train(options: TrainCommandOptions) -> None:
    """Train a network, guided or plain, from a preset and a prepared data folder.

    With --seeds or --folds, -o holds one run each and a table of their scores; --resume skips finished runs.
    --from RUN starts from the weights of another run, as far as they fit, with other data or settings.
    --resume --set train.epochs=200 trains a finished run further.

    Example: guidino train --preset kvasir-nnwnet --data data/kvasir -o runs/kvasir --set train.epochs=100
    """
    if options.preset is not None:
        from guidino_cli.config import load_preset

        # Report typos before torch is imported, which takes seconds.
        load_preset(options.preset, options.overrides or [])
    if _launch("train", options, base_run=options.base_run):
        return
    from guidino_cli.commands import train as command

    command.run(options)


@expand_dataclasses
def lora_tune(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="Trained run with a frozen backbone.", autocompletion=complete_run),
    ] = None,
    *,
    options: LoraTuneOptions,
) -> None:
    """Adapt the backbone of a trained run by LoRA and train its guide and segmenter further; RUN is not changed.

    The new run is used like any other. Its best/adapter/ is in PEFT's own format.

    Example: guidino lora-tune runs/kvasir -o runs/kvasir-lora --set train.epochs=50
    """
    if _launch("lora-tune", options, base_run=run):
        return
    from guidino_cli.commands import lora_tune as command

    command.run(run, options)


def _launch(name: str, options: TrainOptions, *, base_run: Path | None) -> bool:
    """Run the command in child processes, for a set of runs or for several devices; whether that was requested."""
    if not options.dry_run:
        check_unlocked(options.out)
    if options.resume:
        from guidino_cli.commands.runs.resuming import require_resumable

        require_resumable(options, base_run=base_run)
    resumes_set = options.resume and options.out is not None and (options.out / "runs.json").is_file()
    if options.seeds is not None or options.folds is not None or resumes_set:
        from guidino_cli.commands.run_sets import run as run_set

        run_set.run(name, options, base_run=base_run)
        return True
    # Of `train`, it is among the options.
    is_argument = base_run is not None and not isinstance(options, TrainCommandOptions)
    arguments = [name, *([str(base_run)] if is_argument else [])]
    values = option_values(replace(options, devices=None))
    return launch_workers(arguments, values, devices=options.devices, device=options.device, dry_run=options.dry_run)


def presets(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="Preset or YAML file to print, or data set to list.",
            autocompletion=complete_any_preset,
        ),
    ] = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Print every setting, defaults included.")] = False,
    origins: Annotated[
        bool, typer.Option("--origins", help="Print every setting with the preset or base that it comes from.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; for one preset with all its settings.")] = False,
) -> None:
    """List the presets, or print one as a start for your own.

    A preset may inherit: `base: own-unet` in its file, or the path of another file, and below it what differs.

    Example: guidino presets mine.yaml --origins
    """
    from guidino_cli.commands import presets as command

    command.run(name, resolved=resolved, origins=origins, as_json=as_json)


def settings(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="[WORD]...", help="Only settings with one of these words in their name."),
    ] = None,
    pretrain: Annotated[bool, typer.Option("--pretrain", help="The settings of pretrain instead of train.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print all as the page docs/settings.md.")] = False,
) -> None:
    """List all settings with their values, defaults and meanings.

    Example: guidino settings train.lr guide
    """
    from guidino_cli.commands import settings as command

    command.run(words or [], pretrain=pretrain, markdown=markdown)
