"""`guidino register train`: a network that registers, from pairs without labels."""

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from guidino_cli.commands.register_network import IMAGES_FOR_PCA, BackboneSource, load_backbone
from guidino_cli.commands.register_options import (
    check_training_options,
    choose_input,
    choose_limits,
    choose_loss,
)
from guidino_cli.commands.register_pairs import TrainingFiles, collect_training_files, stamp_files
from guidino_cli.commands.runs.messages import add_resume_hints
from guidino_cli.engine.checkpointing import StateFolder
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.run_control import SignalHandler
from guidino_cli.engine.run_folders import lock_run_folder, read_history, write_history
from guidino_cli.errors import ConfigError, DataError, StoppedError, file_errors
from guidino_cli.models.base import Backbone
from guidino_cli.options.registration import RegisterTrainOptions
from guidino_cli.outputs import require_output_folder
from guidino_cli.progress import log_info, pluralize, progress_bar, track
from guidino_cli.registration.extraction import RegistrationFeatures
from guidino_cli.registration.features import MAX_TOKENS, fit_pca
from guidino_cli.registration.inputs import ReadingRules
from guidino_cli.registration.network import NetworkShape, RegistrationNetwork
from guidino_cli.registration.network_files import NetworkFolder
from guidino_cli.registration.pca_files import read_pca, write_pca
from guidino_cli.registration.training import NetworkTrainer, NetworkTraining, StepLoss
from guidino_cli.registration.training_images import FolderImages, TableImages, TrainingImages

ROW_STEPS = 50
"""Steps of a row of the history."""
_SAVE_SECONDS = 300.0
_AXES = (2, 3)
_LINE_SECONDS = 15.0
_RESUME = "the same command and --resume"
_SQUARINGS = 7
"""VoxelMorph's, of the integration of a velocity."""


def run(data: Path, options: RegisterTrainOptions) -> None:
    """Train a network, or go on with a training.

    Raises:
        ConfigError: Options that do not go together, or other ones than those of the training that is resumed.
        DataError: An image cannot be used, or the images do not fit together.
        DependencyError: MONAI is not installed.
        StoppedError: Ctrl-C or SIGTERM; all steps are saved.
    """
    check_training_options(options)
    folder = NetworkFolder(options.out)
    rules = ReadingRules(options.onto is not None, options.ignore_headers, options.orientation, choose_limits(options))
    files = collect_training_files(data)
    _require_output(folder, data, options)
    device = pick_device(options.device)
    torch.manual_seed(options.seed)
    source, backbone = BackboneSource.of(options), None
    if choose_input(options) in {"dino", "both"}:
        backbone = load_backbone(source, device, offline=options.offline)
    settings = _settings(options, rules, None if backbone is None else source.name, backbone)
    content = _describe_data(data, files)
    if options.resume:
        _require_same(folder, settings, content)
    images = TableImages(files.pairs, rules) if files.pairs else FolderImages(files.images, rules)
    with lock_run_folder(options.out, content="network"):
        _train(folder, images, backbone, device, options, settings, content)


def _train(
    folder: NetworkFolder, images: TrainingImages, backbone: Backbone | None, device: torch.device,
    options: RegisterTrainOptions, settings: dict[str, Any], content: dict[str, Any],
) -> None:  # fmt: skip
    dims = _count_axes(images)
    extractor = _make_extractor(folder, images, backbone, device, options)
    channels = len(extractor.expand(extractor.compress(images.read(0))))
    shape = NetworkShape(dims, channels, options.cell, _SQUARINGS if options.diffeomorphic else 0)
    torch.manual_seed(options.seed)
    network = RegistrationNetwork(shape).to(device)
    loss, smoothness = choose_loss(options)
    training = NetworkTraining(loss, smoothness, options.learning_rate, options.seed)
    trainer = NetworkTrainer(network, extractor, images, settings=training)
    # Before anything is written: an older network is replaced only by one whose images can be used.
    for number in track(range(len(images)), total=len(images), description="features"):
        _require_axes(trainer, number, images, dims)
    states = StateFolder(folder.path)
    if options.resume:
        state = states.load_state()
        with file_errors(states.state, "does not fit the network", hint="train again with --overwrite"):
            trainer.load_state_dict(state)
        if trainer.step > options.steps:
            raise ConfigError(f"--steps {options.steps}: {folder.path} has made {trainer.step} steps already")
    else:
        states.remove_states()
        for path in (folder.facts_file, folder.history, folder.pca):
            path.unlink(missing_ok=True)
    if trainer.step < options.steps:
        folder.weights.unlink(missing_ok=True)
    if backbone is not None and extractor.pca is not None:
        write_pca(folder.pca, extractor.pca, backbone_sha256=backbone.identity["sha256"])
    folder.write_facts(shape, settings, content)
    weights = sum(parameter.numel() for parameter in network.parameters())
    log_info(
        f"guidino: {pluralize(content['pairs'], 'pair')} of {pluralize(len(images), 'image')}, {dims}-D, "
        f"{pluralize(channels, 'channel')} each; {weights:,} weights; step {trainer.step} of {options.steps}"
    )
    hints = add_resume_hints(
        folder.path, resume_command=_RESUME, can_resume=states.has_state, memory_hint="choose a larger --cell"
    )
    with hints:
        _fit(trainer, folder, states, options.steps)
        folder.write_weights(network)
    done = f"{folder.path}: trained for {pluralize(trainer.step, 'step')}"
    print(f"{done}; use it: guidino register FIXED MOVING -o OUT --network {folder.path}")


def _fit(trainer: NetworkTrainer, folder: NetworkFolder, states: StateFolder, steps: int) -> None:
    """Train to the last step, saving every few minutes, at the end and when asked to stop."""
    rows = read_history(folder.history, counter="step", finished=trainer.step)
    losses: list[StepLoss] = []
    began = saved = time.monotonic()
    printed = 0.0
    with SignalHandler() as signals, progress_bar() as bar:
        task = bar.add_task("steps", total=steps, completed=trainer.step, note="")
        while trainer.step < steps:
            try:
                losses.append(trainer.advance())
            except FloatingPointError as error:
                raise ConfigError(
                    f"{error} at step {trainer.step + 1}; choose a lower --learning-rate than "
                    f"{trainer.settings.learning_rate:g}, and start again with --overwrite"
                ) from error
            bar.advance(task)
            is_last = trainer.step == steps or signals.signal is not None
            if trainer.step % ROW_STEPS == 0 or is_last:
                rows.append(_row(trainer.step, losses, seconds=time.monotonic() - began))
                write_history(folder.history, rows)
                note = f"loss {rows[-1]['loss']:.4f}"
                bar.update(task, note=note)
                if is_last or time.monotonic() - printed > _LINE_SECONDS:
                    log_info(f"step {trainer.step}/{steps}: {note}")
                    printed = time.monotonic()
                losses, began = [], time.monotonic()
            if is_last or time.monotonic() - saved > _SAVE_SECONDS:
                states.save_state(trainer.state_dict())
                saved = time.monotonic()
            if signals.signal is not None and trainer.step < steps:
                done = f"step {trainer.step} of {steps} is saved"
                raise StoppedError(
                    f"stopped by {signals.signal.name}; {done}; resume with: {_RESUME}", exit_code=128 + signals.signal
                )


def _row(step: int, losses: list[StepLoss], *, seconds: float) -> dict[str, Any]:
    names = ("loss", "dissimilarity", "roughness")
    means = {name: sum(getattr(item, name) for item in losses) / len(losses) for name in names}
    return {"step": step, **means, "seconds": round(seconds, 3)}


def _count_axes(images: TrainingImages) -> int:
    """Axes of the first image."""
    first = images.read(0)
    if len(first.axes) not in _AXES:
        found = pluralize(len(first.axes), "axis", "axes")
        raise DataError(f"{first.path}: has {found} of more than one pixel, expected 2 or 3")
    return len(first.axes)


def _require_axes(trainer: NetworkTrainer, number: int, images: TrainingImages, dims: int) -> None:
    """Compute the features of an image, which must have as many axes as the first."""
    found = trainer.cache.get(number).unit.ndim - 1
    if found != dims:
        raise DataError(
            f"{images.read(number).path}: has {pluralize(found, 'axis', 'axes')} of more than one pixel, the first "
            f"image has {dims}; train on images of one kind"
        )


def _make_extractor(
    folder: NetworkFolder,
    images: TrainingImages,
    backbone: Backbone | None,
    device: torch.device,
    options: RegisterTrainOptions,
) -> RegistrationFeatures:
    """Makes the features, with a PCA of the tokens of the training images."""

    extractor = RegistrationFeatures(
        choose_input(options),
        device=device,
        backbone=backbone,
        components=options.components,
        px=options.px,
        window=choose_limits(options),
    )
    if backbone is None:
        return extractor
    if options.resume:
        return extractor.with_pca(read_pca(folder.pca, backbone_sha256=backbone.identity["sha256"]))
    count = min(len(images), IMAGES_FOR_PCA)
    chosen = [number * len(images) // count for number in range(count)]
    tokens = [
        extractor.draw(images.read(number), max(1, MAX_TOKENS // count))
        for number in track(chosen, total=count, description="shared PCA")
    ]
    return extractor.with_pca(fit_pca(torch.cat(tokens), options.components))


def _require_output(folder: NetworkFolder, data: Path, options: RegisterTrainOptions) -> None:
    if options.resume:
        folder.read_facts()
        return
    recognised = folder.facts_file.is_file()
    hint = "go on with --resume, start again with --overwrite"
    require_output_folder(
        folder.path, [data], overwrite=options.overwrite, recognised=recognised, hint=hint, may_be_nested=True
    )


def _settings(
    options: RegisterTrainOptions, rules: ReadingRules, name: str | None, backbone: Backbone | None
) -> dict[str, Any]:
    """What determines the network, for its folder."""
    loss, smoothness = choose_loss(options)
    names = (
        "features", "random_weights", "layer", "px", "components", "cell", "diffeomorphic", "learning_rate", "seed",
        "steps",
    )  # fmt: skip
    identity = None if backbone is None else backbone.identity
    weights = options.weights
    return {
        **{key: getattr(options, key) for key in names},
        "backbone": name,
        "weights": str(Path(weights).resolve()) if weights is not None and Path(weights).exists() else weights,
        "backbone_sha256": None if identity is None else identity["sha256"],
        "loss": loss,
        "smoothness": smoothness,
        "window": None if rules.window is None else list(rules.window),
        "onto": options.onto,
        "orientation": options.orientation,
        "ignore_headers": options.ignore_headers,
    }


def _describe_data(data: Path, files: TrainingFiles) -> dict[str, Any]:
    """What the network learns from, for its folder."""
    content = json.dumps(stamp_files(files.paths)).encode(errors="backslashreplace")
    return {"data": str(data), "pairs": files.count, "files_sha256": hashlib.sha256(content).hexdigest()}


def _require_same(folder: NetworkFolder, settings: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    """Require the settings and files of the training that is resumed; only the number of steps may be another."""
    facts = folder.read_facts()
    for name, value in settings.items():
        found = facts.settings.get(name)
        if name != "steps" and found != value:
            raise ConfigError(
                f"{folder.path}: was trained with {name.replace('_', '-')} {_show(found)}, this is {_show(value)}; "
                "--resume goes on with the same options"
            )
    if facts.data.get("files_sha256") != content["files_sha256"]:
        raise ConfigError(
            f"{folder.path}: learned from other files than those of {content['data']}, or they have changed since; "
            "choose another -o, or start again with --overwrite"
        )


def _show(value: Any) -> str:
    return "the default" if value is None else json.dumps(value)
