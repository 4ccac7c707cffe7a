"""From a preset and a prepared data folder to a run folder."""

import errno
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from accelerate import PartialState
from rich.console import Console
from rich.table import Table

from guidino_cli.commands.run_pictures import (
    CURVE,
    GRID,
    curve_keeper,
    draw_curve,
    draw_validation,
    remove_pictures,
)
from guidino_cli.config import RunConfig, dump, load_preset, override
from guidino_cli.data.manifest import FILE_NAME, Manifest, load_manifest, require
from guidino_cli.engine.run_folder import RunFolder, check_backbone, run_facts, with_root
from guidino_cli.engine.trainer import Trainer
from guidino_cli.errors import ConfigError, DataError, ResourceError
from guidino_cli.models import build_model
from guidino_cli.models.composed import Model


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
    if resume:
        folder, config = _to_resume(out, preset, overrides, seed)
    else:
        if preset is None:
            raise ConfigError("no preset: add --preset NAME (list them with `guidino presets`)")
        folder = RunFolder(out or Path("runs") / Path(preset).stem)
        config = load_preset(preset, [*overrides, *([] if seed is None else [f"seed={seed}"])])
        folder.require_empty(overwrite=overwrite or dry_run)
    config = with_root(config, _data_root(data, config))
    manifest = load_manifest(Path(str(config.data.root)))
    _fix_randomness(config.seed)
    model = build_model(config.model, num_classes=len(manifest.classes), offline=offline)
    state = PartialState(cpu=device == "cpu")
    if state.is_main_process:
        _describe(config, model, manifest)
    if dry_run:
        print(dump(config), end="")
        return
    trainer = _trainer(folder, config, model, manifest, device)
    if state.is_main_process:
        _start(folder, config, model, manifest, resume=resume)
    state.wait_for_everyone()
    if resume:
        trainer.resume()
    with _errors_with_advice(folder):
        trainer.fit(after_epoch=curve_keeper(folder))
    if state.is_main_process:
        _finish(folder, trainer, offline=offline)


def _to_resume(
    out: Path | None, preset: str | None, overrides: Sequence[str], seed: int | None
) -> tuple[RunFolder, RunConfig]:
    if out is None and preset is None:
        raise ConfigError("--resume needs the run: add -o RUN")
    folder = RunFolder(out or Path("runs") / Path(str(preset)).stem)
    config = folder.config()
    wanted = override(config, overrides)
    if wanted != config or (seed is not None and seed != config.seed):
        raise ConfigError(f"{folder.path}: --resume goes on with the run's own settings; leave out --set and --seed")
    return folder, config


def _data_root(data: Path | None, config: RunConfig) -> Path:
    if data is not None:
        # Absolute, so that a run can go on from another working directory.
        return (data.parent if data.name == FILE_NAME else data).resolve()
    if config.data.root is None:
        raise ConfigError("no data: add --data DATA, a folder made by `guidino prepare`")
    return Path(config.data.root)


def _fix_randomness(seed: int) -> None:
    from accelerate.utils import set_seed

    set_seed(seed)


def _start(folder: RunFolder, config: RunConfig, model: Model, manifest: Manifest, *, resume: bool) -> None:
    """Write a new run's first files, or check that an old one can go on with this data and backbone."""
    facts = run_facts(model, classes=manifest.classes, data=Path(str(config.data.root)))
    if not resume:
        folder.create(config, facts)
        remove_pictures(folder)
        return
    before = folder.facts()
    check_backbone(model, before)
    if before["data"]["sha256"] != facts["data"]["sha256"]:
        raise DataError(f"{facts['data']['cases']}: has changed since the run began; train anew with another -o")


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
        training=require(training, "train", root),
        validation=require(validation, "val", root),
        device=device,
    )


def _describe(config: RunConfig, model: Model, manifest: Manifest) -> None:
    """Say on stderr what is about to be trained."""
    parameters = list(model.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    counts = {split: len(manifest.select(split, config.data.fold)) for split in ("train", "val")}
    size, resize = config.data.image_size, config.data.resize
    rows = {
        "model": config.description or config.model.segmenter.name,
        "parameters": f"{trainable:,} trainable of {sum(p.numel() for p in parameters):,}",
        "backbone": "none" if model.backbone is None else model.backbone.identity["weights"],
        "data": f"{manifest.name}: {counts['train']} train, {counts['val']} val; {', '.join(manifest.classes)}",
        "grid": f"{size} x {size} px, resize {resize}, augmentation {config.data.augment}",
        "schedule": f"{config.train.epochs} epochs, batch {config.train.batch_size}, lr {config.train.lr:g}",
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows.items():
        table.add_row(name, value)
    Console(stderr=True, highlight=False).print(table)


@contextmanager
def _errors_with_advice(folder: RunFolder) -> Iterator[None]:
    """Turn out-of-memory and interruption into a line that says how to go on."""
    go_on = f"guidino train --resume -o {folder.path}"
    try:
        yield
    except KeyboardInterrupt:
        way = f"finished epochs are saved, go on with: {go_on}"
        if not folder.state.is_file():
            way = "no epoch was finished, start again with --overwrite"
        print(f"guidino: interrupted; {way}", file=sys.stderr)
        raise
    except (MemoryError, RuntimeError, OSError) as error:
        if "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower():
            advice = "lower train.batch_size (raise train.accumulate), data.image_size, or use train.precision=bf16"
            raise ResourceError(f"out of memory ({error}); {advice}; finished epochs are in {folder.path}") from error
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise ResourceError(f"{folder.path}: disk full; free some space, then {go_on}") from error
        raise


def _finish(folder: RunFolder, trainer: Trainer, *, offline: bool) -> None:
    """Say what came out, and draw the curve and the validation grid."""
    print(f"best val Dice {trainer.at.best_dice:.4f} in epoch {trainer.at.best_epoch}")
    draw_curve(folder, folder.history())
    draw_validation(folder, device=trainer.accelerator.device, offline=offline)
    print(f"pictures {folder.path / CURVE} and {folder.path / GRID}")
    print(f"run {folder.path}; next: guidino predict {folder.path} IMAGES -o MASKS")
