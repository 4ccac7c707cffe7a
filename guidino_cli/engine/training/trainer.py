"""The training loop: epochs of optimization steps and validation, from the start or from a checkpoint."""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, cast

import torch
from accelerate import Accelerator

from guidino_cli.config import RunConfig
from guidino_cli.data.cases import IGNORED
from guidino_cli.data.dataset import padding_label
from guidino_cli.data.manifest import count_empty
from guidino_cli.distributed import run_on_all_ranks, run_on_main_process
from guidino_cli.engine.checkpointing import CheckpointManager
from guidino_cli.engine.devices import require_device_in_use, resolve_precision
from guidino_cli.engine.feature_cache.disk import DiskCache
from guidino_cli.engine.feature_cache.volumes import VolumeFeatures, covers_planes, log_volume_cache
from guidino_cli.engine.run_control import NonFiniteLossWatch, RunControl
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.runs.inputs import NetworkInput
from guidino_cli.engine.training.checkpoint import CHECKPOINT_FORMAT, ScalerState, TrainedWeights, TrainState
from guidino_cli.engine.training.data import TrainLoader
from guidino_cli.engine.training.guide_fit import fit_guide, training_folds
from guidino_cli.engine.training.logging import SPEED_SUFFIX, ProgressLogger, StepProfiler
from guidino_cli.engine.training.optim import current_learning_rates
from guidino_cli.engine.training.step import TrainStep
from guidino_cli.engine.training.trackers import TRACKERS_FOLDER, Trackers
from guidino_cli.engine.training.validation import Validation
from guidino_cli.errors import UserError, WeightsError
from guidino_cli.models.calibrated_ridge import CalibratedRidgeGuide
from guidino_cli.models.composed import Model
from guidino_cli.progress import log_info, pluralize
from guidino_cli.types import Case, Sample, VolumeSample

# Reading the loss waits for the device, so it is checked only now and then.
_CHECK_LOSS_EVERY = 20
_READ_LOSS_EVERY_SECONDS = 1.0


class Trainer:
    """One run on one or many devices.

    Args:
        model: Freshly built.
        config: Checked settings.
        folder: Receives weights, state and history.
        num_classes: K, background included.
        training: Labelled cases to learn from.
        validation: Labelled cases that select the best epoch; never seen by the optimizer.
        device: "cpu", or None for accelerate's choice.
        network_input: Tells images from volumes, and how those are preprocessed.

    Attributes:
        state: Progress of the run.
        empty_cases: Number of validation cases without foreground: they score 1 if nothing is predicted, else 0.
        train_step: Model, optimizer and schedule.
        model: As it is trained, wrapped by accelerate.
        bare_model: The same model without any wrapper.
        checkpoints: Saves and restores the run.
        control: Signals, saving by time, and loss checks.
    """

    def __init__(
        self,
        model: Model,
        config: RunConfig,
        folder: RunFolder,
        *,
        num_classes: int,
        training: Sequence[Case],
        validation: Sequence[Case],
        device: str | None = None,
        network_input: NetworkInput | None = None,
    ) -> None:
        settings = config.train
        self.network_input = network_input or NetworkInput()
        self.config, self.folder, self.training = config, folder, training
        self._num_classes = num_classes
        self.empty_cases = count_empty(validation)
        self.accelerator = Accelerator(
            cpu=device == "cpu",
            mixed_precision=resolve_precision(settings.precision, device),
            gradient_accumulation_steps=settings.accumulate,
            # Otherwise one call would step the schedule once for every process.
            step_scheduler_with_optimizer=False,
            log_with=list(settings.trackers) or None,
            project_dir=str(folder.path / TRACKERS_FOLDER),
        )
        require_device_in_use(device, self.accelerator.device)
        self.loader = TrainLoader(
            training,
            config,
            num_classes=num_classes,
            accelerator=self.accelerator,
            network_input=self.network_input,
        )
        self.train_step = TrainStep(
            model,
            config,
            self.accelerator,
            batches=self.loader.steps,
            has_ignored=padding_label(config.data.resize) == IGNORED
            or any(case.ignore_label is not None for case in training),
            is_unit=self.network_input.is_unit,
        )
        self.model, self.bare_model = self.train_step.model, self.train_step.bare_model
        self.train_step.volume_features = self._open_volume_features()
        guide = self.bare_model.guide
        if isinstance(guide, CalibratedRidgeGuide):
            self.train_step.folds = training_folds(training, guide)
        self.validation = Validation(
            validation,
            config,
            num_classes=num_classes,
            accelerator=self.accelerator,
            cache=self.train_step.feature_cache,
            volumes=self.network_input.volumes,
        )
        self.state = TrainState()
        self.checkpoints = CheckpointManager(
            folder,
            self.accelerator,
            {
                "model": TrainedWeights(self.bare_model),
                "optimizer": self.train_step.optimizer,
                "schedule": self.train_step.schedule,
                "scaler": ScalerState(self.accelerator),
            },
            state_type=TrainState,
            version=CHECKPOINT_FORMAT,
            save_minutes=settings.save_minutes,
            describe=self._describe_progress,
        )
        self.control = RunControl(
            self.checkpoints,
            resume_command=f"guidino train --resume -o {folder.path}",
            loss_watch=NonFiniteLossWatch(self.accelerator.device, history=_CHECK_LOSS_EVERY),
            describe_loss=self._describe_nonfinite_loss,
        )
        self._epoch_began = self._loss_read_at = time.monotonic()
        self._trackers = Trackers(self.accelerator, folder.path, config)
        is_main = self.accelerator.is_main_process
        self._profiler = StepProfiler(
            folder.path, last=settings.profile if is_main else 0, device=self.accelerator.device
        )
        self._progress = ProgressLogger(
            epochs=settings.epochs,
            steps=self.loader.steps,
            cases=self.loader.cases_per_epoch,
            terms=list(settings.loss),
            enabled=is_main,
            units=self.network_input.units,
        )

    def fit(
        self,
        *,
        after_epoch: Callable[[list[dict[str, Any]]], None] | None = None,
        after_guide: Callable[[dict[str, Any]], None] | None = None,
    ) -> None:
        """Train to the last epoch, saving after every one, every `train.save_minutes`, and when asked to stop.

        Args:
            after_epoch: Called with the history when an epoch is saved, in the main process only.
            after_guide: Called with entries for `run.json` when the guide of a new run is solved in closed form,
                likewise.

        Raises:
            StoppedError: Ctrl-C or SIGTERM; all steps are saved.
            ConfigError: The loss is not finite.
            DataError: An image or mask cannot be used; the steps before are saved. Or the history is damaged.
            ResourceError: The disk is full, or a data loader worker died.
        """
        is_new = self.checkpoints.saved is None
        history = run_on_all_ranks(lambda: self.folder.history(finished=self.state.epoch))
        run_on_main_process(lambda: self._trackers.start(is_new=is_new))
        if is_new:
            # Nothing can be saved yet, so Ctrl-C need not wait for a step.
            self._solve_guide(after_guide)
        try:
            with self.control, self._progress.live_line(history):
                if is_new:
                    self._warn_about_skipped_cases()
                    self.checkpoints.save(self.state)
                while self.state.epoch < self.config.train.epochs and not self.is_out_of_patience:
                    history.append(self._run_epoch())
                    self._save_epoch(history)
                    if after_epoch is not None and self.accelerator.is_main_process:
                        after_epoch(history)
        finally:
            self._trackers.finish()

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the best validation Dice is `train.patience` epochs old; decided after a validation only."""
        settings, epoch, best = self.config.train, self.state.epoch, self.state.best_epoch
        is_validated = best > 0 and epoch % settings.validate_every == 0
        return settings.patience > 0 and is_validated and epoch - best >= settings.patience

    def resume(self) -> None:
        """Continue after the last step that the run's folder holds, also in the middle of an epoch.

        A learning rate that differs from the saved one, because `train.epochs` has changed, is reported.
        """
        self.state = self.checkpoints.restore()
        saved = current_learning_rates(self.train_step.optimizer)
        self.train_step.apply_schedule()
        rates = current_learning_rates(self.train_step.optimizer)
        if rates != saved and self.accelerator.is_main_process:
            name = next(name for name in rates if rates[name] != saved[name])
            log_info(
                f"guidino: the schedule now ends after {pluralize(self.config.train.epochs, 'epoch')}, so {name} "
                f"continues at {rates[name]:.3g}; it was {saved[name]:.3g}"
            )
        for path in self.folder.best.files(self.bare_model) if self.state.best_epoch else ():
            if not path.is_file():
                lost = f"the best weights, of epoch {self.state.best_epoch}, are missing"
                raise WeightsError(f"{path}: {lost}; restore the file, or train again with --overwrite")

    def _open_volume_features(self) -> VolumeFeatures | None:
        """Cached maps of slices for patches, where `train.dense_cache=disk` asks for them and patches repeat slices."""
        cache, network_input = self.train_step.feature_cache, self.network_input
        if network_input.volumes is None or network_input.patch_size is None or not isinstance(cache, DiskCache):
            return None
        plane = network_input.patch_size[1:]
        is_repeated = self.config.data.augment == "none" and covers_planes(self.training, plane, network_input.volumes)
        features = VolumeFeatures(
            cache.folder,
            self.bare_model,
            self.training,
            preprocessing=network_input.volumes,
            plane_hw=plane,
            gigabytes=self.config.train.dense_cache_disk_gb,
        )
        found = features if is_repeated and not self.config.train.shard_backbone else None
        if self.accelerator.is_main_process:
            log_volume_cache(found)
        return found

    def _solve_guide(self, after_guide: Callable[[dict[str, Any]], None] | None) -> None:
        """Solve the guide in closed form, where it is not trained; every process does, from the same images."""
        if self.train_step.folds is None:
            return

        def look_at(place: int) -> tuple[torch.Tensor, torch.Tensor]:
            sample = self.loader.unaugmented(place)
            with self.accelerator.autocast():
                maps = self.train_step.unaugmented_features(sample)
            return maps[-1], sample.mask

        began = time.process_time()
        fitted = fit_guide(self.bare_model, self.train_step.folds, look_at, num_classes=self._num_classes)
        if self.accelerator.is_main_process:
            log_info(f"guidino: guide solved in closed form on {fitted}")
            if after_guide is not None:
                after_guide({"guide_fit": asdict(fitted) | {"cpu_seconds": round(time.process_time() - began, 1)}})

    def _warn_about_skipped_cases(self) -> None:
        """Only whole batches are used, one on every process; say so where that skips a tenth of the images."""
        if self.network_input.volumes is not None:
            return
        used, cases = self.loader.cases_per_epoch, len(self.training)
        if self.accelerator.is_main_process and 10 * (cases - used) >= cases:
            log_info(f"guidino: an epoch has whole batches only: {used} of {cases} cases, others in every epoch")

    def _run_epoch(self) -> dict[str, Any]:
        """Train and, where it is due, validate; returns the epoch's row of the history."""
        losses = self._train_epoch()
        number, settings = self.state.epoch + 1, self.config.train
        speed = {
            "train_seconds": round(self.state.seconds, 3),
            f"{self.network_input.units}{SPEED_SUFFIX}": round(
                self.loader.cases_per_epoch / max(self.state.seconds, 1e-9), 3
            ),
        }
        row: dict[str, Any] = {"epoch": number, **self.state.rates, **losses, **speed}
        if number % settings.validate_every == 0 or number == settings.epochs:
            began = time.monotonic()
            row["val_dice"] = self._validate()
            if self.empty_cases:
                row["val_empty"] = self.empty_cases
            row["val_seconds"] = round(time.monotonic() - began, 3)
        return row

    def _train_epoch(self) -> dict[str, float]:
        """Train on the rest of the epoch; returns the mean of every loss term over all of it."""
        self.train_step.train_mode()
        is_whole = self.state.step == 0
        if is_whole:
            self.state.rates = current_learning_rates(self.train_step.optimizer)
        self._epoch_began = time.monotonic() - self.state.seconds
        for batch in self.loader.iterate(self.state.epoch, start=self.state.step):
            self._train_on_batch(self._sync_control(batch))
            is_due = self.state.step % _CHECK_LOSS_EVERY == 1
            if is_due:
                self.control.check_loss()
            self._progress.step(self.state, seconds=time.monotonic() - self._epoch_began, loss=self._read_loss(is_due))
            if self.state.epoch == 0 and is_whole:
                self._profiler.step(self.state.step)
        self._profiler.stop(self.state.step)
        self.control.check_loss()
        self.state.seconds = time.monotonic() - self._epoch_began
        return {
            name: float(self.accelerator.reduce(value, "mean")) / self.state.step
            for name, value in self.state.sums.items()
        }

    def _read_loss(self, is_due: bool) -> float | None:
        """Mean loss of the epoch so far, if that is due or the last time was a while ago: it waits for the device."""
        now = time.monotonic()
        if not is_due and now - self._loss_read_at < _READ_LOSS_EVERY_SECONDS:
            return None
        self._loss_read_at = now
        return float(self.state.sums["loss"].item()) / self.state.step

    def _sync_control(self, batch: Sample | VolumeSample | UserError) -> Sample | VolumeSample:
        """See `RunControl.sync`; between accumulated batches nothing is saved: half a gradient would be lost."""
        self.state.seconds = time.monotonic() - self._epoch_began
        can_save = self.state.step % self.config.train.accumulate == 0
        # mypy takes what the two tuples have in common.
        return cast("Sample | VolumeSample", self.control.sync(self.state, batch, can_save=can_save))

    def _train_on_batch(self, batch: Sample | VolumeSample) -> None:
        terms = self._step(batch)
        self.state.add(terms)
        self.control.loss_watch.update(terms["loss"], step=self.state.step, samples=batch.case_index.tolist())

    def _step(self, batch: Sample | VolumeSample) -> dict[str, torch.Tensor]:
        return self.train_step(batch, epoch=self.state.epoch, step=self.state.step)

    def _validate(self) -> float:
        """Validation Dice; where validation cannot finish, the epoch's steps are saved."""
        dice, error = None, None
        try:
            dice = self.validation.mean_dice(self.bare_model, should_stop=lambda: self.control.is_stop_requested)
        except UserError as raised:
            error = raised
        if dice is None:
            self.checkpoints.save(self.state)
            self.control.abort(error)
        return dice

    def _save_epoch(self, history: list[dict[str, Any]]) -> None:
        """Save the weights if they are the best, then the history, then the state.

        The state comes last: whatever a kill leaves is newer than the state, and is written again after a resume.
        """
        run_on_main_process(self.checkpoints.require_folder)
        row = history[-1]
        if row.get("val_dice", -1.0) > self.state.best_dice:
            self.state.best_dice, self.state.best_epoch = row["val_dice"], row["epoch"]
            run_on_main_process(lambda: self.folder.save_weights(self.bare_model, lora=self.config.model.lora))
        self.state.finish_epoch()
        run_on_main_process(lambda: self.folder.save_history(history))
        # Before the state: after a kill in between, the same epoch is repeated, and no tracker misses it.
        self._trackers.log(row)
        self.checkpoints.save(self.state)
        self._progress.epoch(history, best=(self.state.best_dice, self.state.best_epoch))

    def _describe_progress(self, state: TrainState) -> str:
        if state.step:
            return f"step {state.step} of {self.loader.steps} in epoch {state.epoch + 1}"
        return f"epoch {state.epoch} of {self.config.train.epochs}" if state.epoch else "the beginning"

    def _describe_nonfinite_loss(self, step: int, samples: Sequence[int]) -> str:
        cases = ", ".join(self.training[index].id for index in samples)
        return (
            f"the loss is {self.state.sums['loss'].item()} in epoch {self.state.epoch + 1}, first in step {step} "
            f"(cases {cases}); start a new run with a lower train.lr or --set train.precision=no"
        )
