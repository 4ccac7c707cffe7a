"""From a preset and a prepared data folder to a run folder."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import PartialState

from guidino_cli.commands.runs import NO_PRESET
from guidino_cli.commands.runs.figures import (
    CURVE_FILE,
    GRID_FILE,
    curve_callback,
    draw_curve,
    draw_validation_grid,
    remove_figures,
)
from guidino_cli.commands.runs.messages import add_resume_hints, explain_determinism_errors, print_run_summary
from guidino_cli.commands.runs.result import FILE_NAME as RESULT
from guidino_cli.commands.runs.result import RunResult, read_result, write_result
from guidino_cli.config import RunConfig, dump_config, load_preset, override
from guidino_cli.data.manifest import MANIFEST_NAME, Manifest, load_manifest, require_cases
from guidino_cli.distributed import run_on_all_ranks, run_on_main_process
from guidino_cli.engine.devices import bf16_emulation_warning
from guidino_cli.engine.environment import describe_environment, fingerprint_files
from guidino_cli.engine.runs.folder import RunFolder, run_facts, with_data_root
from guidino_cli.engine.runs.loading import BaseRun, require_same_backbone
from guidino_cli.engine.training.logging import PROFILE_FILE, TRACE_FILE
from guidino_cli.engine.training.preflight import run_preflight, set_deterministic_algorithms
from guidino_cli.engine.training.trainer import Trainer
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.models import build_model
from guidino_cli.models.composed import Model
from guidino_cli.progress import log_warning, pluralize

_LESS_MEMORY = (
    "begin a run with a lower train.batch_size (and a higher train.accumulate), a lower data.image_size, "
    "train.precision=bf16 or, where the backbone learns, train.checkpointing=true"
)


def run(
    *,
    preset: str | None,
    data: Path | None,
    out: Path | None,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    device: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    offline: bool = False,
    dry_run: bool = False,
) -> None:
    """Train a new run, or go on with one (`resume`)."""
    out = out if out is not None or preset is None else default_run_folder(preset)
    resume, overwrite = resolve_restart(out, resume=resume, overwrite=overwrite)
    if resume:
        folder, config = load_resumable_run(out, overrides, seed)
    else:
        if preset is None or out is None:
            raise ConfigError(NO_PRESET)
        folder = RunFolder(out)
        config = load_preset(preset, [*overrides, *seed_override(seed)])
        folder.require_empty(overwrite=overwrite or dry_run)
        if config.train.freeze_heads:
            raise ConfigError("train.freeze_heads keeps heads as they are, so it needs trained ones: lora-tune RUN")
    build_and_train(folder, config, data=data, device=device, resume=resume, offline=offline, dry_run=dry_run)


def build_and_train(
    folder: RunFolder,
    config: RunConfig,
    *,
    data: Path | None,
    device: str | None,
    resume: bool,
    offline: bool,
    dry_run: bool,
    origin: BaseRun | None = None,
) -> None:
    """Build what is configured, say so, train it and draw it; a new run begins with the heads of `origin`, if any."""
    set_deterministic_algorithms(config.train)
    state = PartialState(cpu=device == "cpu")
    processes = None if dry_run else state.num_processes
    run_on_all_ranks(lambda: run_preflight(config, device, processes=processes))
    result = run_on_all_ranks(lambda: read_result(folder.path)) if resume else None
    if result is not None:
        if state.is_main_process:
            _say_finished(folder, config, result)
        return
    config = with_data_root(config, _data_root(data, config))
    manifest = load_manifest(Path(str(config.data.root)))
    _fix_randomness(config.seed)
    blueprint = folder.blueprint() if resume else None
    model = build_model(config.model, num_classes=len(manifest.classes), offline=offline, blueprint=blueprint)
    if origin is not None:
        origin.fill(model, classes=manifest.classes)
    if state.is_main_process:
        print_run_summary(config, model, manifest)
        if warning := bf16_emulation_warning(config.train.precision, device):
            log_warning(warning)
    if dry_run:
        print(dump_config(config), end="")
        return
    trainer = run_on_all_ranks(lambda: _trainer(folder, config, model, manifest, device))
    if state.process_index:
        # Built alike everywhere; but what dropout leaves out in one process, it need not in another.
        _fix_randomness(config.seed + state.process_index)
    run_on_main_process(lambda: _start(folder, config, model, manifest, resume=resume, origin=origin))
    if resume:
        run_on_all_ranks(trainer.resume)
    advice = add_resume_hints(
        folder.path,
        go_on=f"guidino train --resume -o {folder.path}",
        is_begun=folder.has_state,
        less_memory=_LESS_MEMORY,
    )
    with advice, explain_determinism_errors():
        trainer.fit(after_epoch=curve_callback(folder))
    if state.is_main_process:
        _finish(folder, trainer, offline=offline)


def _say_finished(folder: RunFolder, config: RunConfig, result: RunResult) -> None:
    """Say that there is nothing to go on with, and what to do instead."""
    print(f"{folder.path} is finished: {result.epochs} of {pluralize(config.train.epochs, 'epoch')}")
    print(f"best val Dice {result.val_dice:.4f} in epoch {result.epoch}")
    print(f"to use it: guidino predict {folder.path} IMAGES -o MASKS")
    print("to train longer, train anew with another -o and a higher train.epochs: the learning rate follows it")


def default_run_folder(preset: str) -> Path:
    """Where a run of a preset goes that names no place."""
    return Path("runs") / Path(preset).stem


def seed_override(seed: int | None) -> list[str]:
    """A seed of the command line as an override."""
    return [] if seed is None else [f"seed={seed}"]


def resolve_restart(out: Path | None, *, resume: bool, overwrite: bool) -> tuple[bool, bool]:
    """Whether to resume or overwrite: torchrun starts lost processes again with the words of the first start."""
    if out is None or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) == 0:
        return resume, overwrite
    goes_on = RunFolder(out).has_state()
    # What lies there without a state is of the start that was lost.
    return goes_on, not goes_on


def load_resumable_run(out: Path | None, overrides: Sequence[str], seed: int | None) -> tuple[RunFolder, RunConfig]:
    """The run to go on with, and its settings; `ConfigError` where other ones are asked for."""
    if out is None:
        raise ConfigError("--resume needs the run: add -o RUN")
    folder = RunFolder(out)
    config = folder.config()
    wanted = override(config, overrides)
    if wanted != config or (seed is not None and seed != config.seed):
        raise ConfigError(f"{folder.path}: --resume goes on with the run's own settings; leave out --set and --seed")
    return folder, config


def _data_root(data: Path | None, config: RunConfig) -> Path:
    if data is not None:
        # Absolute, so that a run can go on from another working directory.
        return (data.parent if data.name == MANIFEST_NAME else data).resolve()
    if config.data.root is None:
        raise ConfigError("no data: add --data DATA, a folder made by `guidino prepare`")
    return Path(config.data.root)


def _fix_randomness(seed: int) -> None:
    from accelerate.utils import set_seed

    set_seed(seed)


def _start(
    folder: RunFolder, config: RunConfig, model: Model, manifest: Manifest, *, resume: bool, origin: BaseRun | None
) -> None:
    """Write a new run's first files, or check that an old one can go on with this data and backbone."""
    root = Path(str(config.data.root))
    facts = run_facts(model, classes=manifest.classes, data=root) | describe_environment()
    facts["data"]["files"] = fingerprint_files(manifest.cases, root)
    if not resume:
        # First, or a kill would leave a new run that seems to be finished.
        for name in (RESULT, TRACE_FILE, PROFILE_FILE):
            (folder.path / name).unlink(missing_ok=True)
        folder.create(config, facts if origin is None else facts | {"origin": origin.facts()})
        remove_figures(folder)
        return
    before = folder.facts()
    require_same_backbone(model, before)
    if before["data"]["sha256"] != facts["data"]["sha256"]:
        raise DataError(f"{facts['data']['cases']}: has changed since the run began; train anew with another -o")
    if before["data"].get("files") != facts["data"]["files"]:
        # No refusal: a damaged image may have been put right, and that is no reason to lose what was trained.
        log_warning(f"{root}: images or masks have other sizes than when the run began")


def _trainer(folder: RunFolder, config: RunConfig, model: Model, manifest: Manifest, device: str | None) -> Trainer:
    root = Path(str(config.data.root))
    stride = model.segmenter.stride
    if config.data.image_size % stride:
        size = config.data.image_size
        near = max(stride, round(size / stride) * stride)
        raise ConfigError(f"data.image_size is {size}, but the segmenter needs a multiple of {stride}, such as {near}")
    training = [case for case in manifest.select("train", config.data.fold) if case.mask is not None]
    validation = [case for case in manifest.select("val", config.data.fold) if case.mask is not None]
    return Trainer(
        model,
        config,
        folder,
        num_classes=len(manifest.classes),
        training=require_cases(training, "train", root),
        validation=require_cases(validation, "val", root),
        device=device,
    )


def _finish(folder: RunFolder, trainer: Trainer, *, offline: bool) -> None:
    """Say what came out, and draw the curve and the validation grid."""
    print(f"best val Dice {trainer.state.best_dice:.4f} in epoch {trainer.state.best_epoch}")
    draw_curve(folder, folder.history())
    # A backbone that was in pieces may be too large for one device.
    device = torch.device("cpu") if trainer.config.train.shard_backbone else trainer.accelerator.device
    draw_validation_grid(folder, device=device, offline=offline)
    print(f"pictures {folder.path / CURVE_FILE} and {folder.path / GRID_FILE}")
    write_result(folder.path, _result(folder, trainer))
    print(f"run {folder.path}; next: guidino predict {folder.path} IMAGES -o MASKS")


def _result(folder: RunFolder, trainer: Trainer) -> RunResult:
    history = folder.history()
    seconds = sum(row.get("train_seconds", 0.0) + row.get("val_seconds", 0.0) for row in history)
    return RunResult(trainer.state.best_dice, trainer.state.best_epoch, len(history), round(seconds, 3))
