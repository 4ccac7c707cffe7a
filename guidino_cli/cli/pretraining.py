"""What the user types to pretrain a backbone on unlabelled images."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.options import Device, Devices, DryRun, Offline, Resume, StartAnew
from guidino_cli.cli.processes import is_launched
from guidino_cli.cli.words import words


def pretrain(
    images: Annotated[
        Path | None, typer.Argument(metavar="IMAGES", help="Folder of unlabelled images, folders below included.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write: run and backbone.")] = Path("backbone"),
    preset: Annotated[
        str,
        typer.Option(
            "--preset", "-p", help="meddinov3 (GPUs, days), small (one machine), tiny (distils), or a YAML file."
        ),
    ] = "meddinov3",
    distill_from: Annotated[
        str | None,
        typer.Option(metavar="TEACHER", help="Learn from a frozen network: embedded, a folder or a hub id."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="A setting, such as stages.0.steps=5000."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of heads, order, crops and masks.")] = None,
    device: Device = None,
    devices: Devices = None,
    resume: Resume = False,
    overwrite: StartAnew = False,
    offline: Offline = False,
    dry_run: DryRun = False,
) -> None:
    """Pretrain a backbone on unlabelled images, from DINOv3's or DINOv2's weights on, as MedDINOv3 does.

    With --preset tiny --distill-from TEACHER, a small student learns what a large network says of patches.

    The result is a folder that --set model.backbone.options.weights=BACKBONE takes everywhere.

    Example: guidino pretrain images/ -o backbone --preset small --set student.name=dinov2
    """
    if distill_from is not None:
        from guidino_cli.cli.teachers import teacher_setting

        overrides = [*(overrides or []), teacher_setting(distill_from)]
    if not resume:
        from guidino_cli.pretrain_config import load_pretraining

        # A typo is answered at once, before the seconds that importing torch takes.
        load_pretraining(preset, overrides or [])
    if devices is not None and devices > 1 and not is_launched() and not dry_run:
        from guidino_cli.commands.runs.launch import launch

        chosen: dict[str, str | int | Path | list[str] | None] = {
            "out": out,
            "preset": preset,
            "set": overrides,
            "seed": seed,
            "device": device,
        }
        switches = {"resume": resume, "overwrite": overwrite, "offline": offline}
        begin = ["pretrain", *([] if images is None else [str(images)])]
        launch([*begin, *words({**chosen, **switches})], processes=devices, device=device)
        return
    from guidino_cli.commands import pretrain as command

    command.run(
        images=images,
        out=out,
        preset=preset,
        overrides=overrides or [],
        seed=seed,
        device=device,
        resume=resume,
        overwrite=overwrite,
        offline=offline,
        dry_run=dry_run,
    )
