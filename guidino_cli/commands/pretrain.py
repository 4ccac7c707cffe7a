"""From a folder of unlabelled images to a backbone that has learned from them."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import set_seed
from rich.console import Console
from rich.table import Table

from guidino_cli import __version__
from guidino_cli.commands.inputs import require_writable
from guidino_cli.commands.runs.messages import add_resume_hints
from guidino_cli.commands.runs.pretraining_figures import (
    PRETRAIN_CURVE_FILE,
    TOKENS_FILE,
    pretrain_curve_callback,
    remove_pretrain_figures,
    save_pretrain_curve,
    snapshot_callback,
)
from guidino_cli.data.unlabelled import find_unlabelled_images
from guidino_cli.distributed import run_on_all_ranks, run_on_main_process
from guidino_cli.engine.devices import bf16_emulation_warning
from guidino_cli.engine.environment import describe_environment
from guidino_cli.engine.pretraining.checkpoint import save_backbone
from guidino_cli.engine.pretraining.data import ImageFingerprint, fingerprint_images
from guidino_cli.engine.pretraining.folder import PretrainFolder
from guidino_cli.engine.pretraining.loop import Pretrainer
from guidino_cli.engine.pretraining.student import Student, build_objective, build_student
from guidino_cli.errors import ConfigError, DataError, WeightsError
from guidino_cli.pretrain_config import (
    PretrainConfig,
    dump_pretrain_config,
    load_pretrain_preset,
    override_pretrain_config,
)
from guidino_cli.progress import log_warning, pluralize

# What another network says of the views, while the run needs it.
_TEACHER = "teacher"
_LESS_MEMORY = (
    "begin anew with a lower train.batch_size (and a higher train.accumulate), train.checkpointing=true, fewer "
    "dino.local_count or smaller crops"
)


def run(
    *,
    images: Path | None,
    out: Path,
    preset: str,
    overrides: Sequence[str] = (),
    seed: int | None = None,
    device: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    offline: bool = False,
    dry_run: bool = False,
) -> None:
    """Pretrain a backbone, or go on with it (`resume`)."""
    folder = PretrainFolder(out)
    if resume:
        config = _to_resume(folder, overrides, seed)
    else:
        config = load_pretrain_preset(preset, [*overrides, *([] if seed is None else [f"seed={seed}"])])
        folder.require_empty(overwrite=overwrite or dry_run)
    place = _images(images, folder, resume=resume)
    paths = find_unlabelled_images(place)
    require_writable(out)
    set_seed(config.seed)
    student = build_student(config, offline=offline)
    set_seed(config.seed)
    objective = build_objective(student, config, paths=paths, features=out / _TEACHER)
    state = PartialState(cpu=device == "cpu")
    if state.is_main_process:
        _describe(config, student, images=len(paths))
        if warning := bf16_emulation_warning(config.train.precision, device):
            log_warning(warning)
    if dry_run:
        print(dump_pretrain_config(config), end="")
        return
    if config.train.drop_path:
        # What one process leaves out, another need not.
        set_seed(config.seed + state.process_index)
    sources = run_on_all_ranks(lambda: fingerprint_images(place, paths))
    trainer = run_on_all_ranks(lambda: Pretrainer(objective, config, folder, paths=paths, device=device))
    run_on_main_process(lambda: _start(folder, config, student, sources, resume=resume))
    if resume:
        run_on_all_ranks(trainer.resume)
    keeper = snapshot_callback(folder, _looked_through(trainer), paths)
    go_on = f"guidino pretrain --resume -o {out}"
    with add_resume_hints(out, go_on=go_on, is_begun=folder.has_state, less_memory=_LESS_MEMORY):
        trainer.fit(after_row=pretrain_curve_callback(folder), look=keeper)
        run_on_main_process(lambda: _finish(folder, trainer, student))


def _to_resume(folder: PretrainFolder, overrides: Sequence[str], seed: int | None) -> PretrainConfig:
    """The run's settings; `ConfigError` where other ones are asked for."""
    config = folder.config()
    wanted = override_pretrain_config(config, overrides)
    if wanted != config or (seed is not None and seed != config.seed):
        raise ConfigError(f"{folder.path}: --resume goes on with the run's own settings; leave out --set and --seed")
    return config


def _images(images: Path | None, folder: PretrainFolder, *, resume: bool) -> Path:
    if images is not None:
        return images
    if not resume:
        raise ConfigError("no images: name a folder of them, such as `guidino pretrain images/ -o backbone`")
    return Path(folder.facts()["images"]["folder"])


def _start(
    folder: PretrainFolder, config: PretrainConfig, student: Student, sources: ImageFingerprint, *, resume: bool
) -> None:
    """Write a new run's first files, or check that an old one can go on with these images and weights."""
    if not resume:
        facts = {
            "guidino": __version__,
            "student": student.identity,
            "images": sources.facts(),
            **describe_environment(),
        }
        if student.master is not None:
            facts["teacher"] = student.master.backbone.identity
        remove_pretrain_figures(folder)
        folder.create(config, facts)
        return
    before = folder.facts()
    if before["student"].get("sha256") != student.identity.get("sha256"):
        raise WeightsError(
            f"{folder.path}: began with weights of SHA-256 {before['student'].get('sha256')}, but student names those "
            f"of {student.identity.get('sha256')}; put the original ones back, or begin anew"
        )
    if before["images"]["names_sha256"] != sources.names_sha256:
        raise DataError(
            f"{sources.folder}: holds other images than when the run began ({before['images']['images']} then, "
            f"{sources.images} now); put them back, or begin anew with another -o"
        )
    if before["images"]["sizes_sha256"] != sources.sizes_sha256:
        # No refusal: a damaged image may have been put right, and that is no reason to lose what was learned.
        log_warning(f"{sources.folder}: some images have other sizes than when the run began")


def _looked_through(trainer: Pretrainer):  # type: ignore[no-untyped-def]
    """The trunk that will be written: the teacher's where the objective has one."""
    return getattr(trainer.bare, "teacher", trainer.bare.student)


def _describe(config: PretrainConfig, student: Student, *, images: int) -> None:
    """Say on stderr what is about to be learned."""
    count = sum(parameter.numel() for parameter in student.trunk.parameters())
    batch = config.train.batch_size * config.train.accumulate
    epochs = config.steps * batch / images
    stages = ", ".join(f"{stage.name}: {pluralize(stage.steps, 'step')} at lr {stage.lr:g}" for stage in config.stages)
    rows = {
        "student": f"{student.identity['weights']}, {count:,} parameters",
        **({} if student.master is None else {"teacher": student.master.backbone.identity["weights"]}),
        "images": f"{images:,}, squeezed to {config.data.side} px, light {config.data.light}",
        "stages": stages,
        "schedule": f"batch {batch} on each process, {pluralize(config.steps, 'step')}, {epochs:.1f} times every image",
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows.items():
        table.add_row(name, value)
    Console(stderr=True, highlight=False).print(table)


def _finish(folder: PretrainFolder, trainer: Pretrainer, student: Student) -> None:
    """Write the backbone, draw the curve, and say how to use it."""
    sha256 = save_backbone(trainer.bare.result(), folder.path, trunk=trainer.bare.student, identity=student.identity)
    result = {"sha256": sha256, "steps": trainer.at.step, "seconds": round(trainer.at.seconds, 3)}
    folder.write_facts({**folder.facts(), "result": result})
    shutil.rmtree(folder.path / _TEACHER, ignore_errors=True)
    if trainer.journal.rows:  # their file may have been removed from a run that was done
        save_pretrain_curve(folder, trainer.journal.rows)
    print(f"backbone {folder.path}, SHA-256 {sha256}")
    print(f"pictures {folder.path / PRETRAIN_CURVE_FILE} and {folder.path / TOKENS_FILE}")
    name = "dinov3" if trainer.bare.student.network.config.model_type.startswith("dinov3") else "dinov2"
    print(f"use: --set model.backbone.name={name} --set model.backbone.options.weights={folder.path}")
