"""What the user types to train, and to see the presets."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.options import Devices, DryRun, Folds, OptionValue, OverwriteRun, Resume, Seeds, to_argv
from guidino_cli.cli.workers import launch_workers
from guidino_cli.options.shared import Device, Offline


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
    seeds: Seeds = None,
    folds: Folds = None,
    device: Device = None,
    devices: Devices = None,
    resume: Resume = False,
    overwrite: OverwriteRun = False,
    offline: Offline = False,
    dry_run: DryRun = False,
) -> None:
    """Train a network, guided or plain, from a preset and a prepared data folder.

    With --seeds or --folds, -o holds a run each, and a table of their scores; --resume leaves out what is finished.

    Example: guidino train --preset kvasir-nnwnet --data data/kvasir -o runs/kvasir --set train.epochs=100
    """
    if preset is not None:
        from guidino_cli.config import load_preset

        # A typo is answered at once, before the seconds that importing torch takes.
        load_preset(preset, overrides or [])
    if _is_set(seeds, folds, out, resume=resume):
        from guidino_cli.commands.run_sets import run as run_set

        run_set.run(
            "train",
            seeds=seeds,
            folds=folds,
            preset=preset,
            data=data,
            out=out,
            overrides=overrides or [],
            seed=seed,
            place=to_argv({"device": device, "devices": devices, "offline": offline}),
            resume=resume,
            overwrite=overwrite,
            dry_run=dry_run,
        )
        return
    chosen: dict[str, OptionValue] = {"preset": preset, "data": data, "out": out, "set": overrides, "seed": seed}
    switches = {"resume": resume, "overwrite": overwrite, "offline": offline}
    if launch_workers(["train"], {**chosen, **switches}, devices=devices, device=device, dry_run=dry_run):
        return
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
    seeds: Seeds = None,
    folds: Folds = None,
    device: Device = None,
    devices: Devices = None,
    resume: Resume = False,
    overwrite: OverwriteRun = False,
    offline: Offline = False,
    dry_run: DryRun = False,
) -> None:
    """Adapt the backbone of a trained run by LoRA, its guide and segmenter trained along; RUN is left as it is.

    The new run is used like any other. Its best/adapter/ is in PEFT's own format.

    Example: guidino lora-tune runs/kvasir -o runs/kvasir-lora --set train.epochs=50
    """
    if _is_set(seeds, folds, out, resume=resume):
        from guidino_cli.commands.run_sets import run as run_set

        run_set.run(
            "lora-tune",
            seeds=seeds,
            folds=folds,
            origin=run,
            preset=preset,
            data=data,
            out=out,
            overrides=overrides or [],
            seed=seed,
            flags=to_argv({"freeze-heads": freeze_heads}),
            place=to_argv({"device": device, "devices": devices, "offline": offline, "merge": merge}),
            resume=resume,
            overwrite=overwrite,
            dry_run=dry_run,
        )
        return
    chosen: dict[str, OptionValue] = {"preset": preset, "data": data, "out": out, "set": overrides, "seed": seed}
    switches = {"freeze-heads": freeze_heads, "merge": merge, "resume": resume, "overwrite": overwrite}
    begin = ["lora-tune", *([] if run is None else [str(run)])]
    options = {**chosen, **switches, "offline": offline}
    if launch_workers(begin, options, devices=devices, device=device, dry_run=dry_run):
        return
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


def _is_set(seeds: str | None, folds: str | None, out: Path | None, *, resume: bool) -> bool:
    """Whether several runs are meant: asked for, or found where to go on."""
    return seeds is not None or folds is not None or (resume and out is not None and (out / "runs.json").is_file())


def presets(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Preset to print, or data set to list.")] = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="With every default spelled out.")] = False,
) -> None:
    """List the presets, or print one: the start of a preset of your own.

    Example: guidino presets kvasir-nnwnet > mine.yaml
    """
    from guidino_cli.commands import presets as command

    command.run(name, resolved=resolved)
