"""`guidino lora-tune`: adapt the backbone of a trained run, or of a preset, by LoRA."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml
from accelerate import PartialState

from guidino_cli.commands.runs.starting import (
    default_run_folder,
    load_resumable_run,
    requested_overrides,
    resolve_restart,
)
from guidino_cli.commands.train import build_and_train
from guidino_cli.config import RunConfig, load_preset, override
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.runs.loading import BaseRun
from guidino_cli.engine.runs.merging import write_merged_backbone
from guidino_cli.engine.runs.settings import require_same_model
from guidino_cli.errors import ConfigError
from guidino_cli.options.training import LoraTuneOptions, TrainOptions


def run(run_path: Path | None, options: LoraTuneOptions) -> None:
    """Train a new run with LoRA, from the heads of a frozen run or from scratch, or resume one."""
    if run_path is not None and options.preset is not None:
        raise ConfigError("both RUN and --preset: give the run to continue from, or the preset to start with")
    resolved = resolve_restart(replace(options, out=options.out or _default_out(run_path, options.preset)))
    base_run: BaseRun | None = None
    if resolved.resume:
        folder, config = load_resumable_run(resolved)
        if config.model.lora is None:
            raise ConfigError(
                f"{folder.path}: its backbone is not adapted by LoRA; resume it with `guidino train --resume`"
            )
    else:
        folder, config, base_run = _new_run(run_path, resolved)
        folder.require_empty(overwrite=resolved.overwrite or resolved.dry_run)
    build_and_train(folder, config, resolved, base_run=base_run)
    if options.merge and not options.dry_run and PartialState().is_main_process:
        _merge(folder, offline=options.offline)


def _default_out(run_path: Path | None, preset: str | None) -> Path | None:
    if run_path is not None:
        return run_path.parent / f"{run_path.resolve().name}-lora"
    if preset is None:
        return None
    folder = default_run_folder(preset)
    return folder if folder.name.endswith("-lora") else folder.with_name(f"{folder.name}-lora")


def _new_run(run_path: Path | None, options: TrainOptions) -> tuple[RunFolder, RunConfig, BaseRun | None]:
    out, overrides = options.out, requested_overrides(options)
    if out is None or (run_path is None and options.preset is None):
        raise ConfigError("nothing to tune: give RUN, a trained run, or add --preset NAME (see `guidino presets`)")
    if run_path is not None:
        if out.resolve() == run_path.resolve():
            raise ConfigError(f"-o {out}: is RUN itself, which is not changed; choose another folder")
        return RunFolder(out), _config_from_run(run_path, overrides), BaseRun(RunFolder(run_path))
    config = load_preset(str(options.preset))
    config = override(config, [*([] if config.model.lora else ["model.lora={}"]), *overrides])
    if config.model.lora is None:
        raise ConfigError("model.lora is switched off, so there is nothing to tune; use `guidino train`")
    if config.train.freeze_heads:
        raise ConfigError("--freeze-heads keeps the heads as they are, so they must be trained: give RUN, not --preset")
    return RunFolder(out), config, None


def _config_from_run(path: Path, overrides: Sequence[str]) -> RunConfig:
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
