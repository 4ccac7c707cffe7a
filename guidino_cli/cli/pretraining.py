"""Commands `pretrain` and `slices`: backbones from unlabelled images, and such images from volumes."""

import json
from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.run_checks import check_unlocked
from guidino_cli.cli.workers import launch_workers
from guidino_cli.errors import ConfigError
from guidino_cli.json_files import read_json_object
from guidino_cli.options.argv import OptionValue
from guidino_cli.options.completion import complete_pretraining_preset, complete_setting
from guidino_cli.options.parsing import parse_grey_window, parse_shard
from guidino_cli.options.shared import Device, Devices, DryRun, Offline, OverwriteRun, Resume


def pretrain(
    images: Annotated[
        Path | None, typer.Argument(metavar="IMAGES", help="Folder of unlabelled images, searched recursively.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write: the run and its backbone.")] = Path(
        "backbone"
    ),
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            "-p",
            help="meddinov3 (GPUs, days), small (one machine), tiny (distillation), or a YAML file. "
            "[default: meddinov3]",
            autocompletion=complete_pretraining_preset,
        ),
    ] = None,
    distill_from: Annotated[
        str | None,
        typer.Option(metavar="TEACHER", help="Distil from a frozen network: embedded, a folder or a hub id."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            "-s",
            metavar="KEY=VALUE",
            help="A setting, such as stages.0.steps=5000.",
            autocompletion=complete_setting,
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed of heads, image order, crops and masks.")] = None,
    device: Device = None,
    devices: Devices = None,
    resume: Resume = False,
    overwrite: OverwriteRun = False,
    offline: Offline = False,
    dry_run: DryRun = False,
) -> None:
    """Pretrain a backbone on unlabelled images, starting from weights of DINOv3 or DINOv2, as MedDINOv3 does.

    With --preset tiny --distill-from TEACHER, a small student learns the patch features of a large network.

    Use the resulting folder with --set model.backbone.options.weights=BACKBONE.

    Example: guidino pretrain images/ -o backbone --preset small --set student.name=dinov2
    """
    if distill_from is not None:
        # First, so that --set can still change the options of the teacher.
        overrides = [teacher_setting(distill_from), *(overrides or [])]
    if resume and overwrite:
        from guidino_cli.commands.runs.resuming import CONTRADICTION

        raise ConfigError(CONTRADICTION)
    if not dry_run:
        check_unlocked(out)
    if not resume:
        from guidino_cli.pretrain_config import load_pretrain_preset

        preset = preset or "meddinov3"
        # Report typos before torch is imported, which takes seconds.
        load_pretrain_preset(preset, overrides or [])
    chosen: dict[str, OptionValue] = {"out": out, "preset": preset, "set": overrides, "seed": seed}
    switches = {"resume": resume, "overwrite": overwrite, "offline": offline}
    command_words = ["pretrain", *([] if images is None else [str(images)])]
    if launch_workers(command_words, {**chosen, **switches}, devices=devices, device=device, dry_run=dry_run):
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


def slices(
    volumes: Annotated[
        Path, typer.Argument(metavar="VOLUMES", help="Folder of .nii and .nii.gz files, searched recursively.")
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to write; the same command continues an interrupted run.")
    ],
    window: Annotated[
        str, typer.Option(help="Level,width in HU: 40,400 soft tissue, -600,1500 lung; auto for MR.")
    ] = "40,400",
    size: Annotated[int, typer.Option(min=0, help="Side of the slices in pixels; 0 resamples to --spacing.")] = 256,
    spacing: Annotated[float, typer.Option(min=0.01, help="Pixel size in mm, with --size 0.")] = 0.45,
    every: Annotated[int, typer.Option(min=1, help="Keep every N-th slice.")] = 1,
    least: Annotated[
        float, typer.Option(min=0, max=1, help="Skip slices in which the body covers a smaller share.")
    ] = 0.05,
    shard: Annotated[
        str, typer.Option(metavar="K/N", help="Only the K-th of N shares, for job arrays: 1/8 to 8/8.")
    ] = "1/1",
    keep_label_maps: Annotated[
        bool, typer.Option("--keep-label-maps", help="Also cut volumes that look like label maps.")
    ] = False,
    orientation: Annotated[
        str | None, typer.Option(metavar="RAS", help="Orientation of the axes of volumes whose headers state none.")
    ] = None,
) -> None:
    """Cut CT or MR volumes into axial slices for pretraining, one volume in memory at a time; label maps are left out.

    Example: guidino slices ct/ -o slices --window 40,400
    """
    chosen = parse_grey_window("--window", window)
    part, parts = parse_shard("--shard", shard)
    from guidino_cli.commands import slices as command
    from guidino_cli.data.volumes.slices import SliceSettings, parse_orientation

    axes = None if orientation is None else parse_orientation(orientation)
    settings = SliceSettings(
        window=chosen, size=size or None, spacing_mm=spacing, every=every, least=least, orientation=axes
    )
    command.run(volumes, out=out, settings=settings, shard=(part - 1, parts), keep_label_maps=keep_label_maps)


def teacher_setting(teacher: str) -> str:
    """The setting for --distill-from.

    Args:
        teacher: Name of a backbone, such as "embedded"; a folder in Hugging Face layout, whose `config.json` names the
            architecture; or a hub id, of DINOv2 if it contains "dinov2" and of DINOv3 otherwise.

    Raises:
        ConfigError: A folder without a readable `config.json`.
    """
    from guidino_cli.models import BACKBONES

    if teacher in BACKBONES:
        return f"distill.teacher={json.dumps({'name': teacher})}"
    return f"distill.teacher={json.dumps({'name': _family(teacher), 'options': {'weights': teacher}})}"


def _family(weights: str) -> str:
    if not Path(weights).exists():
        return "dinov2" if "dinov2" in weights.lower() else "dinov3"
    path = Path(weights) / "config.json"
    hint = "give a folder in Hugging Face layout, or set the teacher with --set distill.teacher=..."
    kind = read_json_object(path, error=ConfigError, hint=hint).get("model_type")
    if not isinstance(kind, str):
        raise ConfigError(f"{path}: does not name the architecture (model_type); {hint}")
    return next((family for family in ("dinov3", "dinov2") if kind.startswith(family)), "vit")
