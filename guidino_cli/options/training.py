"""Options of `train` and `lora-tune`: type, help text and default of each, in one place."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.options.completion import complete_preset, complete_run, complete_setting
from guidino_cli.options.shared import Device, Devices, DryRun, Offline, OverwriteRun, Resume


@dataclass(frozen=True)
class TrainOptions:
    """Options that `train` and `lora-tune` share, for one run or a set of runs."""

    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            "-p",
            help="Name (see `guidino presets`) or path of a YAML file.",
            autocompletion=complete_preset,
        ),
    ] = None
    data: Annotated[Path | None, typer.Option("--data", "-d", help="Folder made by `guidino prepare`.")] = None
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder to write; default: runs/PRESET.")] = None
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="KEY=VALUE",
            help="A setting, such as train.epochs=3.",
            autocompletion=complete_setting,
        ),
    ] = None
    seed: Annotated[
        int | None, typer.Option(help="Random seed of weights, order of cases, crops and augmentation.")
    ] = None
    seeds: Annotated[str | None, typer.Option(help="Train one run per seed in -o: how many (3), or which (0,1,2).")] = (
        None
    )
    folds: Annotated[str | None, typer.Option(help="Train one run per fold of the data in -o: how many, or which.")] = (
        None
    )
    device: Device = None
    devices: Devices = None
    resume: Resume = False
    overwrite: OverwriteRun = False
    offline: Offline = False
    dry_run: DryRun = False


@dataclass(frozen=True)
class TrainCommandOptions(TrainOptions):
    """Options of `train`."""

    base_run: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="RUN",
            autocompletion=complete_run,
            help="Start from the weights of RUN, which is not changed; without --preset with its settings and data.",
        ),
    ] = None


@dataclass(frozen=True)
class LoraTuneOptions(TrainOptions):
    """Options of `lora-tune`."""

    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            "-p",
            help="Instead of RUN: train from scratch, with LoRA.",
            autocompletion=complete_preset,
        ),
    ] = None
    data: Annotated[Path | None, typer.Option("--data", "-d", help="Prepared folder; default: that of RUN.")] = None
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder to write; default: RUN-lora.")] = None
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="KEY=VALUE",
            help="A setting, such as model.lora.rank=4.",
            autocompletion=complete_setting,
        ),
    ] = None
    seed: Annotated[
        int | None, typer.Option(help="Random seed of the adapter, order of cases, crops and augmentation.")
    ] = None
    freeze_heads: Annotated[
        bool, typer.Option("--freeze-heads", help="Train the adapter only; keep guide and segmenter of RUN.")
    ] = False
    merge: Annotated[
        bool, typer.Option("--merge", help="Also write merged/: the backbone with the adapter merged into it.")
    ] = False
