"""`guidino train`: train a run from a preset and a prepared data folder, or resume one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed

from guidino_cli.commands.runs.figures import (
    CURVE_FILE,
    GRID_FILE,
    curve_callback,
    draw_curve,
    draw_or_warn,
    draw_validation_grid,
    remove_figures,
)
from guidino_cli.commands.runs.instances import finish_instances, remove_instance_files
from guidino_cli.commands.runs.messages import add_resume_hints, explain_determinism_errors, print_run_summary
from guidino_cli.commands.runs.result import RESULT_FILE, RunResult, read_result, write_result
from guidino_cli.commands.runs.starting import default_run_folder, load_resumable_run, make_new_run, resolve_restart
from guidino_cli.config import RunConfig, dump_config
from guidino_cli.config_checks import require_reachable_patience
from guidino_cli.data.file_records import require_unchanged_files
from guidino_cli.data.instances.labelling import require_method
from guidino_cli.data.manifest import MANIFEST_NAME, Manifest, count_empty, ignore_label, load_manifest, require_cases
from guidino_cli.distributed import enter_on_main_process, rank, run_on_all_ranks, run_on_main_process
from guidino_cli.engine.devices import bf16_emulation_warning, use_fast_kernels
from guidino_cli.engine.environment import describe_environment, fingerprint_files
from guidino_cli.engine.prediction.shapes import aspect_ratios
from guidino_cli.engine.ranks import start_ranks
from guidino_cli.engine.run_folders import lock_run_folder
from guidino_cli.engine.runs.augmentation import keep_augmentation
from guidino_cli.engine.runs.folder import RunFolder, run_facts, with_data_root
from guidino_cli.engine.runs.guide_source import fix_guide, is_fixed, take_guide
from guidino_cli.engine.runs.inputs import NetworkInput, count_outputs, require_fitting_target
from guidino_cli.engine.runs.loading import BaseRun, require_same_backbone, require_same_segmenter
from guidino_cli.engine.runs.precision import keep_full_validation, precision_facts, warn_of_other_precision
from guidino_cli.engine.training.length import with_enough_epochs
from guidino_cli.engine.training.logging import PROFILE_FILE, TRACE_FILE
from guidino_cli.engine.training.preflight import run_preflight, set_deterministic_algorithms
from guidino_cli.engine.training.trainer import Trainer
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.models import build_model, find_strides
from guidino_cli.models.composed import Model
from guidino_cli.options.training import TrainCommandOptions, TrainOptions
from guidino_cli.progress import log_warning, pluralize
from guidino_cli.types import LARGEST_SEED, Case

_MEMORY_HINT = (
    "start a run with a lower train.batch_size (and a higher train.accumulate), a lower data.image_size, "
    "train.precision=bf16 or, where the backbone learns, train.checkpointing=true"
)


def run(options: TrainCommandOptions) -> None:
    """Train a new run, perhaps from the weights of another one, or resume one."""
    if options.out is None and options.preset is not None:
        options = replace(options, out=default_run_folder(options.preset))
    resolved = resolve_restart(options)
    base_run: BaseRun | None = None
    if resolved.resume:
        folder, config = load_resumable_run(resolved)
    else:
        folder, config, base_run = make_new_run(options)
        folder.require_empty(overwrite=resolved.overwrite or resolved.dry_run)
        if config.train.freeze_heads:
            raise ConfigError("train.freeze_heads keeps the heads as they are, so they must be trained: lora-tune RUN")
    build_and_train(folder, config, resolved, base_run=base_run)


def build_and_train(
    folder: RunFolder, config: RunConfig, options: TrainOptions, *, base_run: BaseRun | None = None
) -> None:
    """Build the configured model, train it and draw its figures; a new run starts with the weights of `base_run`."""
    device, resume = options.device, options.resume
    set_deterministic_algorithms(config.train)
    state = start_ranks(cpu=device == "cpu")
    processes = None if options.dry_run else state.num_processes
    run_on_all_ranks(lambda: run_preflight(config, device, processes=processes))
    result = run_on_all_ranks(lambda: read_result(folder.path)) if resume else None
    is_extended = resume and folder.config() != config
    if result is not None and not is_extended:
        if state.is_main_process:
            _print_finished(folder, config, result)
        return
    config = with_data_root(config, _data_root(options.data, config))
    if resume:
        config = run_on_all_ranks(lambda: keep_augmentation(folder, config))
    manifest = ignore_label(
        load_manifest(Path(str(config.data.root)), takes_instances=True),
        config.data.ignore_label,
        source="data.ignore_label",
    )
    labelled = run_on_all_ranks(lambda: _labelled_cases(manifest, config))
    # Only a warning when a run is resumed: replacing a damaged image is no reason to lose it.
    used, root = [*labelled[0], *labelled[1]], Path(str(config.data.root))
    run_on_main_process(lambda: require_unchanged_files(used, root, only_warn=resume))
    run_on_all_ranks(lambda: require_fitting_target(manifest, config))
    if config.model.target == "affinities":
        require_method(config.predict.instances)
    network_input = run_on_all_ranks(lambda: NetworkInput.from_manifest(manifest, config))
    if not resume and network_input.volumes is None:
        config = with_enough_epochs(config, images=len(labelled[0]), processes=state.num_processes)
    if not resume:
        require_reachable_patience(config, str(folder.path))
    outputs = count_outputs(config, manifest.classes)
    run_on_all_ranks(lambda: _require_fitting_size(config, network_input, class_count=outputs))
    run_on_all_ranks(lambda: _require_fitting_class_weights(config, manifest))
    set_seed(config.seed)
    spec = folder.backbone_spec() if resume else None if base_run is None else base_run.backbone_spec(config.model)
    model = build_model(
        config.model,
        num_classes=outputs,
        **network_input.model_arguments(),
        offline=options.offline,
        backbone_spec=spec,
        is_sharded=config.train.shard_backbone and not options.dry_run,
    )
    origin = None if base_run is None else base_run.fill(model, classes=manifest.classes)
    guide_origin = None
    if is_fixed(config.model.guide):
        # Of a run that is resumed, the state has it.
        guide_origin = None if resume else run_on_all_ranks(lambda: take_guide(model, config.model))
        fix_guide(model)
    if state.is_main_process:
        print_run_summary(config, model, manifest, network_input)
        if warning := bf16_emulation_warning(config.train.precision, device):
            log_warning(warning)
    if resume:
        config = keep_full_validation(config, folder.facts())
    precision = precision_facts(config, device=device, used=state.device)
    use_fast_kernels(state.device, precision["training"])
    facts = run_on_all_ranks(lambda: _facts(config, model, manifest, network_input)) | {"precision": precision}
    if origin is not None:
        facts["origin"] = origin
    if guide_origin is not None:
        facts["guide_origin"] = guide_origin
    if resume:
        run_on_all_ranks(lambda: _require_same_facts(folder, model, facts))
    if options.dry_run:
        print(dump_config(config), end="")
        return
    training, validation = labelled
    trainer = run_on_all_ranks(
        lambda: Trainer(
            model,
            config,
            folder,
            num_classes=outputs,
            training=training,
            validation=validation,
            device=device,
            network_input=network_input,
        )
    )
    if state.process_index:
        # The weights are the same in all processes, but dropout is drawn independently in each.
        set_seed((config.seed + state.process_index) % (LARGEST_SEED + 1))
    with enter_on_main_process(lock_run_folder(folder.path)):
        if resume:
            if is_extended:
                run_on_main_process(lambda: _extend(folder, config))
            run_on_all_ranks(trainer.resume)
        else:
            run_on_main_process(lambda: _create(folder, config, facts))
        _fit(folder, trainer, offline=options.offline)


def _fit(folder: RunFolder, trainer: Trainer, *, offline: bool) -> None:
    """Train to the last epoch and draw the figures."""
    hints = add_resume_hints(
        folder.path,
        resume_command=f"guidino train --resume -o {folder.path}",
        can_resume=folder.has_state,
        memory_hint=_MEMORY_HINT,
    )
    with hints, explain_determinism_errors():
        trainer.fit(after_epoch=curve_callback(folder), after_guide=folder.add_facts)
    if trainer.accelerator.is_main_process:
        _finish(folder, trainer, offline=offline)


def _print_finished(folder: RunFolder, config: RunConfig, result: RunResult) -> None:
    """Say that the run has nothing left to do, and what to do with it."""
    early = ", stopped early" if result.stopped_early else ""
    print(f"{folder.path} is finished: {result.epochs} of {pluralize(config.train.epochs, 'epoch')}{early}")
    print(result.score)
    print(f"to use it: guidino predict {folder.path} IMAGES -o MASKS")
    setting = "patience=0" if result.stopped_early else f"epochs={2 * config.train.epochs}"
    print(f"to train longer: guidino train --resume -o {folder.path} --set train.{setting}")


def _data_root(data: Path | None, config: RunConfig) -> Path:
    if data is not None:
        # Absolute, so that the run can be resumed from another working directory.
        return (data.parent if data.name == MANIFEST_NAME else data).resolve()
    if config.data.root is None:
        raise ConfigError("no data: add --data DATA, a folder made by `guidino prepare`")
    return Path(config.data.root)


def _labelled_cases(manifest: Manifest, config: RunConfig) -> tuple[Sequence[Case], Sequence[Case]]:
    """Training and validation cases with a mask; warns if no validation mask has foreground.

    Raises:
        DataError: There are none, or no training mask has foreground.
    """
    root = Path(str(config.data.root))
    folds = {case.fold for case in manifest.cases} - {None}
    if folds and config.data.fold is None and not manifest.select("val", None):
        raise DataError(
            f"{root}: no cases in the val split, but {pluralize(len(folds), 'fold')}: train them all with "
            f"--folds {len(folds)}, or one with --set data.fold=0"
        )
    parts = {
        split: require_cases([case for case in manifest.select(split, config.data.fold) if case.mask], split, root)
        for split in ("train", "val")
    }
    training, validation = parts["train"], parts["val"]
    if count_empty(training) == len(training):
        raise DataError(
            f"{root}: no training mask has foreground (all {len(training)} are empty), "
            "so there is nothing to learn; check the masks, then run `guidino prepare` again"
        )
    if count_empty(validation) == len(validation) and rank() == 0:
        log_warning(
            f"{root}: no validation mask has foreground (all {len(validation)} are empty): val Dice tells only whether "
            "nothing was predicted and cannot choose the best epoch; run `guidino prepare` with another --split"
        )
    return training, validation


def _require_fitting_class_weights(config: RunConfig, manifest: Manifest) -> None:
    weights, classes = config.train.class_weights, manifest.classes
    if weights is not None and len(weights) != len(classes):
        raise ConfigError(
            f"train.class_weights has {len(weights)} weights, but the data has {len(classes)} classes "
            f"({', '.join(classes)}); give one weight for each, in this order"
        )


def _require_fitting_size(config: RunConfig, network_input: NetworkInput, *, class_count: int) -> None:
    """Refuse an image or patch size that the segmenter cannot take, before weights are loaded."""
    strides = find_strides(config.model, num_classes=class_count)
    if network_input.patch_size is not None:
        _require_fitting_patch(network_input.patch_size, strides, is_default=config.data.patch_size is None)
        return
    stride, size = strides[0], config.data.image_size
    if size % stride:
        near = max(stride, round(size / stride) * stride)
        raise ConfigError(f"data.image_size is {size}, but the segmenter needs a multiple of {stride}, such as {near}")


def _require_fitting_patch(size: Sequence[int], strides: Sequence[int], *, is_default: bool) -> None:
    """`ConfigError` unless each side of a patch is a multiple of the network's stride along it."""
    if len(strides) != len(size) or not any(side % stride for side, stride in zip(size, strides, strict=True)):
        return
    near = [max(stride, round(side / stride) * stride) for side, stride in zip(size, strides, strict=True)]
    name = "data.patch_size (by default data.image_size along each axis)" if is_default else "data.patch_size"
    raise ConfigError(f"{name} is {list(size)}, but the segmenter needs multiples of {list(strides)}, such as {near}")


def _facts(config: RunConfig, model: Model, manifest: Manifest, network_input: NetworkInput) -> dict[str, Any]:
    """Content of `run.json` for this data and model; `DataError` if an image or a mask is missing."""
    root = Path(str(config.data.root))
    facts = run_facts(model, classes=manifest.classes, data=root) | describe_environment()
    facts["data"]["files"] = fingerprint_files(manifest.cases, root)
    if network_input.volumes is None:
        facts["data"] |= aspect_ratios(manifest.cases)
    facts |= network_input.to_facts()
    return facts


def _create(folder: RunFolder, config: RunConfig, facts: dict[str, Any]) -> None:
    """Write the first files of a new run."""
    # First, otherwise a kill would leave a new run that seems finished.
    for name in (RESULT_FILE, TRACE_FILE, PROFILE_FILE):
        (folder.path / name).unlink(missing_ok=True)
    folder.create(config, facts)
    remove_figures(folder)
    remove_instance_files(folder)


def _extend(folder: RunFolder, config: RunConfig) -> None:
    """Write the settings of a run that trains longer than it was to, before it does."""
    # First: a kill leaves a run that finishes again, never a finished run with epochs left.
    (folder.path / RESULT_FILE).unlink(missing_ok=True)
    folder.replace_config(config)


def _require_same_facts(folder: RunFolder, model: Model, facts: dict[str, Any]) -> None:
    """Check that an old run can resume with this data and backbone."""
    recorded, root = folder.facts(), Path(facts["data"]["cases"]).parent
    require_same_segmenter(folder.path, folder.config().model.segmenter.name, recorded)
    require_same_backbone(model, recorded)
    if recorded["data"]["sha256"] != facts["data"]["sha256"]:
        raise DataError(
            f"{facts['data']['cases']}: has changed since the run started, or is not its data; leave out --data, or "
            "start a new run with another -o"
        )
    if rank() == 0:
        warn_of_other_precision(recorded, facts)
    if recorded["data"].get("files") != facts["data"]["files"] and rank() == 0:
        # Only a warning: replacing a damaged image is no reason to lose the run.
        log_warning(f"{root}: sizes of images or masks have changed since the run started")


def _finish(folder: RunFolder, trainer: Trainer, *, offline: bool) -> None:
    """Write and print the result, and draw the training curve and the validation grid."""
    result = _result(folder, trainer)
    if result.stopped_early:
        patience = pluralize(trainer.config.train.patience, "epoch")
        print(f"stopped early after epoch {result.epochs}: no better val Dice for {patience} (train.patience)")
    print(result.score)
    # Other processes do not take part, and a sharded backbone may be too large for one device.
    is_sharded = trainer.config.train.shard_backbone
    device = torch.device("cpu") if is_sharded else trainer.accelerator.device
    model = None if is_sharded else trainer.bare_model
    has_instances = trainer.config.model.target == "affinities"
    if has_instances:
        print(finish_instances(folder, device=device, offline=offline, model=model))
    # First: no picture may cost a finished run its mark.
    write_result(folder.path, result)
    figures = {
        CURVE_FILE: lambda: draw_curve(folder, folder.history()),
        GRID_FILE: lambda: draw_validation_grid(folder, device=device, offline=offline, model=model),
    }
    if has_instances:
        del figures[GRID_FILE]
    finished = "the run is finished all the same"
    drawn = [str(folder.path / name) for name, draw in figures.items() if draw_or_warn(draw, name, outcome=finished)]
    if drawn:
        print(f"figures {' and '.join(drawn)}")
    print(f"run {folder.path}; next: guidino predict {folder.path} IMAGES -o MASKS")


def _result(folder: RunFolder, trainer: Trainer) -> RunResult:
    history = folder.history()
    seconds = sum(row.get("train_seconds", 0.0) + row.get("val_seconds", 0.0) for row in history)
    return RunResult(
        trainer.state.best_dice,
        trainer.state.best_epoch,
        len(history),
        round(seconds, 3),
        trainer.empty_cases,
        stopped_early=len(history) < trainer.config.train.epochs,
    )
