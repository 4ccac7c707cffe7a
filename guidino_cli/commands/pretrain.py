"""`guidino pretrain`: from a folder of unlabelled images to a pretrained backbone."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import set_seed
from rich.console import Console
from rich.table import Table

from guidino_cli import __version__
from guidino_cli.commands.runs.figures import CURVE_FILE
from guidino_cli.commands.runs.messages import add_resume_hints, describe_batch
from guidino_cli.commands.runs.pretraining_figures import (
    TOKENS_FILE,
    pretrain_curve_callback,
    remove_pretrain_figures,
    save_pretrain_curve,
    snapshot_callback,
)
from guidino_cli.data.unlabelled import find_unlabelled_images
from guidino_cli.distributed import enter_on_main_process, run_on_all_ranks, run_on_main_process
from guidino_cli.engine.devices import bf16_emulation_warning
from guidino_cli.engine.environment import describe_environment
from guidino_cli.engine.pretraining.checkpoint import save_backbone
from guidino_cli.engine.pretraining.data import ImageFingerprint, fingerprint_images
from guidino_cli.engine.pretraining.folder import PretrainFolder
from guidino_cli.engine.pretraining.loop import Pretrainer
from guidino_cli.engine.pretraining.student import Student, build_objective, build_student
from guidino_cli.engine.ranks import start_ranks
from guidino_cli.engine.run_folders import lock_run_folder
from guidino_cli.errors import ConfigError, DataError, WeightsError
from guidino_cli.outputs import require_writable
from guidino_cli.pretrain_config import (
    PretrainConfig,
    dump_pretrain_config,
    load_pretrain_preset,
    override_pretrain_config,
)
from guidino_cli.progress import log_warning, pluralize
from guidino_cli.types import LARGEST_SEED

# Cached features of a loaded teacher; removed at the end of the run.
_FEATURES_FOLDER = "teacher"
_MEMORY_HINT = (
    "start again with a lower train.batch_size (and a higher train.accumulate), train.checkpointing=true, fewer "
    "dino.local_count or smaller crops"
)


def run(
    *,
    images: Path | None,
    out: Path,
    preset: str | None,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    device: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    offline: bool = False,
    dry_run: bool = False,
) -> None:
    """Pretrain a backbone, or resume a run."""
    folder = PretrainFolder(out)
    if resume:
        config = _require_same_settings(folder, preset, overrides, seed)
    else:
        config = load_pretrain_preset(str(preset), [*overrides, *([] if seed is None else [f"seed={seed}"])])
        folder.require_empty(overwrite=overwrite or dry_run)
    image_folder = _resolve_images(images, folder, resume=resume)
    paths = find_unlabelled_images(image_folder)
    require_writable(out)
    set_seed(config.seed)
    student = build_student(config, offline=offline)
    set_seed(config.seed)
    objective = build_objective(student, config, paths=paths, features=out / _FEATURES_FOLDER)
    state = start_ranks(cpu=device == "cpu")
    if state.is_main_process:
        _print_summary(config, student, images=len(paths))
        if warning := bf16_emulation_warning(config.train.precision, device):
            log_warning(warning)
    if dry_run:
        print(dump_pretrain_config(config), end="")
        return
    if config.train.drop_path:
        # Stochastic depth is drawn independently in each process.
        set_seed((config.seed + state.process_index) % (LARGEST_SEED + 1))
    fingerprint = run_on_all_ranks(lambda: fingerprint_images(image_folder, paths))
    trainer = run_on_all_ranks(lambda: Pretrainer(objective, config, folder, paths=paths, device=device))
    with enter_on_main_process(lock_run_folder(out)):
        run_on_main_process(lambda: _start(folder, config, student, fingerprint, resume=resume))
        if resume:
            run_on_all_ranks(trainer.resume)
        _fit(folder, trainer, student)


def _fit(folder: PretrainFolder, trainer: Pretrainer, student: Student) -> None:
    """Pretrain to the last step and write the backbone."""
    on_snapshot = snapshot_callback(folder, trainer.bare_objective.exported_encoder(), trainer.paths)
    hints = add_resume_hints(
        folder.path,
        resume_command=f"guidino pretrain --resume -o {folder.path}",
        can_resume=folder.has_state,
        memory_hint=_MEMORY_HINT,
    )
    with hints:
        trainer.fit(after_row=pretrain_curve_callback(folder), snapshot=on_snapshot)
        run_on_main_process(lambda: _finish(folder, trainer, student))


def _require_same_settings(
    folder: PretrainFolder, preset: str | None, overrides: Sequence[str], seed: int | None
) -> PretrainConfig:
    """Settings of a run that is resumed; `ConfigError` if others are requested."""
    config = folder.config()
    given = [*overrides, *([] if seed is None else [f"seed={seed}"])]
    if preset is not None and load_pretrain_preset(preset, given) != config:
        raise ConfigError(
            f"{folder.path}: --resume continues with the run's own settings, which differ from preset {preset}; leave "
            "out --preset, or give all --set that the run was started with"
        )
    requested = override_pretrain_config(config, overrides)
    if requested != config or (seed is not None and seed != config.seed):
        raise ConfigError(f"{folder.path}: --resume continues with the run's own settings; leave out --set and --seed")
    return config


def _resolve_images(images: Path | None, folder: PretrainFolder, *, resume: bool) -> Path:
    if images is not None:
        return images
    if not resume:
        raise ConfigError("no images: pass their folder, such as `guidino pretrain images/ -o backbone`")
    return Path(folder.facts()["images"]["folder"])


def _start(
    folder: PretrainFolder, config: PretrainConfig, student: Student, images: ImageFingerprint, *, resume: bool
) -> None:
    """Write a new run's first files, or check that a run can resume with these images and weights."""
    if not resume:
        facts = {
            "guidino": __version__,
            "student": student.identity,
            "images": asdict(images),
            **describe_environment(),
        }
        if student.loaded_teacher is not None:
            facts["teacher"] = student.loaded_teacher.backbone.identity
        remove_pretrain_figures(folder)
        folder.create(config, facts)
        return
    before = folder.facts()
    if before["student"].get("sha256") != student.identity.get("sha256"):
        raise WeightsError(
            f"{folder.path}: started from weights of SHA-256 {before['student'].get('sha256')}, but student names "
            f"those of {student.identity.get('sha256')}; restore the original ones, or start again"
        )
    if before["images"]["names_sha256"] != images.names_sha256:
        raise DataError(
            f"{images.folder}: contains other images than when the run started ({before['images']['images']} then, "
            f"{images.images} now); restore them, or start again with another -o"
        )
    if before["images"]["sizes_sha256"] != images.sizes_sha256:
        # No error: a damaged image may have been repaired, which is no reason to lose the run.
        log_warning(f"{images.folder}: some images have other sizes than when the run started")


def _print_summary(config: PretrainConfig, student: Student, *, images: int) -> None:
    """Print student, images and schedule to stderr."""
    count = sum(parameter.numel() for parameter in student.encoder.parameters())
    batch = config.train.batch_size * config.train.accumulate * PartialState().num_processes
    epochs = config.steps * batch / images
    batch_text = describe_batch(config.train.batch_size, config.train.accumulate)
    stages = ", ".join(f"{stage.name}: {pluralize(stage.steps, 'step')} at lr {stage.lr:g}" for stage in config.stages)
    rows = {
        "student": f"{student.identity['weights']}, {count:,} parameters",
        **({} if student.loaded_teacher is None else {"teacher": student.loaded_teacher.backbone.identity["weights"]}),
        "images": f"{images:,}, squeezed to {config.data.side} px, light {config.data.light}",
        "stages": stages,
        "schedule": f"{batch_text}, {pluralize(config.steps, 'step')}, {epochs:.1f} epochs",
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows.items():
        table.add_row(name, value)
    Console(stderr=True, highlight=False).print(table)


def _finish(folder: PretrainFolder, trainer: Pretrainer, student: Student) -> None:
    """Write the backbone and the curve, and print how to use them."""
    encoder = trainer.bare_objective.exported_encoder()
    sha256 = save_backbone(encoder, folder.path, identity=student.identity)
    result = {"sha256": sha256, "steps": trainer.state.step, "seconds": round(trainer.state.seconds, 3)}
    folder.write_facts({**folder.facts(), "result": result})
    shutil.rmtree(folder.path / _FEATURES_FOLDER, ignore_errors=True)
    if trainer.metrics.rows:  # the history may have been removed from a finished run
        save_pretrain_curve(folder, trainer.metrics.rows)
    print(f"backbone {folder.path}, SHA-256 {sha256}")
    print(f"figures {folder.path / CURVE_FILE} and {folder.path / TOKENS_FILE}")
    name = "dinov3" if encoder.network.config.model_type.startswith("dinov3") else "dinov2"
    print(f"use: --set model.backbone.name={name} --set model.backbone.options.weights={folder.path}")
