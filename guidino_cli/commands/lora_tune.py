"""From a frozen run, or from a preset, to a run whose backbone is adapted by LoRA."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from accelerate import PartialState

from guidino_cli.commands.train import (
    build_and_train,
    default_run_folder,
    load_resumable_run,
    resolve_restart,
    seed_override,
)
from guidino_cli.config import RunConfig, load_preset, override
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.runs.loading import BaseRun, require_same_model
from guidino_cli.engine.runs.merging import write_merged_backbone
from guidino_cli.errors import ConfigError


def run(
    run_path: Path | None,
    *,
    preset: str | None,
    data: Path | None,
    out: Path | None,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    freeze_heads: bool = False,
    merge: bool = False,
    device: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    offline: bool = False,
    dry_run: bool = False,
) -> None:
    """Train a new run with LoRA, from a frozen run's heads or from scratch, or go on with one (`resume`)."""
    if run_path is not None and preset is not None:
        raise ConfigError("both RUN and --preset: give the run to go on from, or the preset to begin with")
    out = out or _default_out(run_path, preset)
    resume, overwrite = resolve_restart(out, resume=resume, overwrite=overwrite)
    wanted = [*overrides, *seed_override(seed), *(["train.freeze_heads=true"] if freeze_heads else [])]
    origin: BaseRun | None = None
    if resume:
        folder, config = load_resumable_run(out, wanted, seed)
    else:
        folder, config, origin = _new(run_path, preset, out, wanted)
        folder.require_empty(overwrite=overwrite or dry_run)
    build_and_train(
        folder, config, data=data, device=device, resume=resume, offline=offline, dry_run=dry_run, origin=origin
    )
    if merge and not dry_run and PartialState().is_main_process:
        _merge(folder, offline=offline)


def _default_out(run_path: Path | None, preset: str | None) -> Path | None:
    if run_path is not None:
        return run_path.parent / f"{run_path.resolve().name}-lora"
    if preset is None:
        return None
    place = default_run_folder(preset)
    return place if place.name.endswith("-lora") else place.with_name(f"{place.name}-lora")


def _new(
    run_path: Path | None, preset: str | None, out: Path | None, overrides: Sequence[str]
) -> tuple[RunFolder, RunConfig, BaseRun | None]:
    if out is None or (run_path is None and preset is None):
        raise ConfigError("nothing to tune: give RUN, a trained run, or add --preset NAME (see `guidino presets`)")
    if run_path is not None:
        if out.resolve() == run_path.resolve():
            raise ConfigError(f"-o {out}: is RUN itself, which stays as it is; choose another folder")
        return RunFolder(out), _from_run(run_path, overrides), BaseRun(RunFolder(run_path))
    config = load_preset(str(preset))
    config = override(config, [*([] if config.model.lora else ["model.lora={}"]), *overrides])
    if config.model.lora is None:
        raise ConfigError("model.lora is switched off, so there is nothing to tune; use `guidino train`")
    if config.train.freeze_heads:
        raise ConfigError("--freeze-heads keeps heads as they are, so it needs trained ones: give RUN, not --preset")
    return RunFolder(out), config, None


def _from_run(path: Path, overrides: Sequence[str]) -> RunConfig:
    """The settings of a frozen run with LoRA and the user's changes; its heads must stay what they are."""
    frozen = RunFolder(path).config()
    if frozen.model.backbone is None:
        raise ConfigError(f"{path}: has no backbone to adapt; train one with a guide, such as --preset kvasir-nnwnet")
    if frozen.model.lora is not None:
        raise ConfigError(f"{path}: is adapted by LoRA already; give the frozen run that it came from")
    if frozen.model.finetune is not None:
        raise ConfigError(
            f"{path}: its backbone was trained whole (model.finetune), but LoRA adapts one that keeps its weights; "
            "give a run with a frozen backbone"
        )
    config = override(frozen, ["model.lora={}", *overrides])
    if config.model.lora is None:
        raise ConfigError("model.lora is switched off, so there is nothing to tune")
    require_same_model(path, frozen.model, replace(config.model, lora=None))
    name = frozen.description or frozen.model.segmenter.name
    return config if config.description != frozen.description else replace(config, description=f"{name}, with LoRA")


def _merge(folder: RunFolder, *, offline: bool) -> None:
    """Write the merged backbone and say how to use it."""
    result = write_merged_backbone(folder, offline=offline)
    use = yaml.safe_dump(result.backbone, default_flow_style=True, sort_keys=False, width=10_000).strip()
    print(f"merged backbone {folder.merged} (SHA-256 {result.sha256[:12]}...)")
    print(f"use it with: --set 'model.backbone={use}'")
