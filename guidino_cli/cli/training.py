"""What the user types to train, and to see the presets."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.options import Device, Offline


def train(
    preset: Annotated[
        str | None, typer.Option("--preset", "-p", help="Name (see `guidino presets`) or path of a YAML file.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", "-d", help="Folder made by `guidino prepare`.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder to write; default: runs/PRESET.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="A setting, such as train.epochs=3.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, order, crops and augmentation.")] = None,
    device: Device = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on behind the last finished epoch of -o.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew in a folder that is not empty.")] = False,
    offline: Offline = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, print the settings, stop.")] = False,
) -> None:
    """Train a network, guided or plain, from a preset and a prepared data folder.

    Example: guidino train --preset kvasir-nnwnet --data data/kvasir -o runs/kvasir --set train.epochs=100
    """
    if preset is not None:
        from guidino_cli.config import load_preset

        # A typo is answered at once, before the seconds that importing torch takes.
        load_preset(preset, overrides or [])
    from guidino_cli.commands import train as command

    command.run(
        preset=preset,
        data=data,
        out=out,
        overrides=overrides or [],
        seed=seed,
        device=device,
        resume=resume,
        overwrite=overwrite,
        offline=offline,
        dry_run=dry_run,
    )


def lora_tune(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="Trained run with a frozen backbone.")] = None,
    preset: Annotated[
        str | None, typer.Option("--preset", "-p", help="Instead of RUN: train from scratch, with LoRA.")
    ] = None,
    data: Annotated[Path | None, typer.Option("--data", "-d", help="Prepared folder; default: RUN's own.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Run folder to write; default: RUN-lora.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="A setting, such as model.lora.rank=4.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the adapter, order, crops and augmentation.")] = None,
    freeze_heads: Annotated[
        bool, typer.Option("--freeze-heads", help="Train the adapter alone; guide and segmenter stay RUN's.")
    ] = False,
    merge: Annotated[
        bool, typer.Option("--merge", help="Also merged/: the backbone with the adapter folded in.")
    ] = False,
    device: Device = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on behind the last finished epoch of -o.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew in a folder that is not empty.")] = False,
    offline: Offline = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, print the settings, stop.")] = False,
) -> None:
    """Adapt the backbone of a trained run by LoRA, its guide and segmenter trained along; RUN is left as it is.

    The new run is used like any other. Its best/adapter/ is in PEFT's own format.

    Example: guidino lora-tune runs/kvasir -o runs/kvasir-lora --set train.epochs=50
    """
    from guidino_cli.commands import lora_tune as command

    command.run(
        run,
        preset=preset,
        data=data,
        out=out,
        overrides=overrides or [],
        seed=seed,
        freeze_heads=freeze_heads,
        merge=merge,
        device=device,
        resume=resume,
        overwrite=overwrite,
        offline=offline,
        dry_run=dry_run,
    )


def presets(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Preset to print.")] = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="With every default spelled out.")] = False,
) -> None:
    """List the presets, or print one: the start of a preset of your own.

    Example: guidino presets kvasir-nnwnet > mine.yaml
    """
    from guidino_cli.commands import presets as command

    command.run(name, resolved=resolved)
