"""The training loop: from wherever a run stands, step after step and epoch after epoch, to its end."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import Accelerator

from guidino_cli.config import RunConfig
from guidino_cli.distributed import all_reduce_max_on_cpu, raise_on_all_ranks, run_on_all_ranks, run_on_main_process
from guidino_cli.engine.devices import require_device_in_use, resolve_precision
from guidino_cli.engine.run_control import NonFiniteLossWatch, SignalHandler
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.training.checkpoint import TrainCheckpoint, TrainState
from guidino_cli.engine.training.data import TrainLoader
from guidino_cli.engine.training.logging import ProgressLogger, StepProfiler
from guidino_cli.engine.training.optim import current_learning_rates
from guidino_cli.engine.training.step import TrainStep
from guidino_cli.engine.training.trackers import TRACKERS_FOLDER, Trackers
from guidino_cli.engine.training.validation import Validation
from guidino_cli.errors import ConfigError, UserError, WeightsError
from guidino_cli.models.composed import Model
from guidino_cli.progress import log_info
from guidino_cli.types import Case, Sample

_GO, _SAVE, _FAIL, _STOP = range(4)
# Reading the loss waits for the device, so it is looked at now and then only.
_LOOK_EVERY = 20


class Trainer:
    """One run on one or many devices.

    Args:
        model: Freshly built.
        config: Checked settings.
        folder: Receives weights, state and history.
        num_classes: K, background included.
        training: Labelled cases to learn from.
        validation: Labelled cases that choose the best epoch; never seen by the optimiser.
        device: "cpu", or None for accelerate's choice.

    Attributes:
        at: Where the run stands.
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
    ) -> None:
        settings = config.train
        self.config, self.folder, self.training = config, folder, training
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
        self.batches = TrainLoader(training, config, num_classes=num_classes, accelerator=self.accelerator)
        self.learner = TrainStep(model, config, self.accelerator, batches=self.batches.steps)
        self.model, self.bare_model = self.learner.model, self.learner.bare_model
        self.validation = Validation(
            validation,
            config,
            num_classes=num_classes,
            accelerator=self.accelerator,
            cache=self.learner.dense_cache,
        )
        self.checkpoint = TrainCheckpoint(
            self.accelerator, self.bare_model, self.learner.optimizer, self.learner.schedule
        )
        self.at = TrainState()
        self._interruption = SignalHandler()
        self._saved: tuple[int, int] | None = None
        self._saved_at = self._epoch_began = time.monotonic()
        self._watch = NonFiniteLossWatch(self.accelerator.device, remembered=_LOOK_EVERY)
        self._trackers = Trackers(self.accelerator, folder.path, config)
        is_main = self.accelerator.is_main_process
        self._profile = StepProfiler(
            folder.path, last=settings.profile if is_main else 0, device=self.accelerator.device
        )
        self._course = ProgressLogger(
            epochs=settings.epochs,
            steps=self.batches.steps,
            shown=self.batches.shown,
            terms=list(settings.loss),
            speaks=is_main,
        )

    def fit(self, *, after_epoch: Callable[[list[dict[str, Any]]], None] | None = None) -> None:
        """Train to the last epoch, saving after every one, every `train.save_minutes`, and when asked to stop.

        Args:
            after_epoch: Told the history when an epoch is saved, in the main process only.

        Raises:
            StoppedError: Ctrl-C or SIGTERM; all steps are saved.
            ConfigError: The loss is not a number any more.
            DataError: An image or mask cannot be used; the steps before are saved. Or the history is damaged.
            ResourceError: The disk is full, or a process that loads images died.
        """
        history = run_on_all_ranks(lambda: self.folder.history(finished=self.at.epoch))
        run_on_main_process(lambda: self._trackers.start(is_new=self._saved is None))
        try:
            with self._interruption, self._course.shown_on_terminal(history):
                if self._saved is None:
                    self._say_what_is_left_out()
                    self._save()
                while self.at.epoch < self.config.train.epochs:
                    history.append(self._epoch())
                    self._keep(history)
                    if after_epoch is not None and self.accelerator.is_main_process:
                        after_epoch(history)
        finally:
            self._trackers.finish()

    def _say_what_is_left_out(self) -> None:
        """Only whole batches are used, one on every process; where that leaves out a tenth of the cases, say so."""
        shown, cases = self.batches.shown, len(self.training)
        if self.accelerator.is_main_process and 10 * (cases - shown) >= cases:
            log_info(f"guidino: an epoch has whole batches only: {shown} of {cases} cases, other ones in every epoch")

    def resume(self) -> None:
        """Continue behind the last step that the run's folder holds, in the middle of an epoch too."""
        state = self.folder.load_state()
        for path in self.folder.best.files(self.bare_model) if state["best_epoch"] else ():
            if not path.is_file():
                lost = f"the best weights, of epoch {state['best_epoch']}, are gone"
                raise WeightsError(f"{path}: {lost}; put them back, or train anew with --overwrite")
        try:
            self.at = self.checkpoint.restore(state)
        except UserError as error:
            raise type(error)(f"{self.folder.state}: {error}") from error
        self._saved = (self.at.epoch, self.at.step)

    def _epoch(self) -> dict[str, Any]:
        """Train and, where it is due, validate: the epoch's row of the history."""
        losses = self._train_epoch()
        number, settings = self.at.epoch + 1, self.config.train
        pace = {
            "train_seconds": round(self.at.seconds, 3),
            "images_per_second": round(self.batches.shown / max(self.at.seconds, 1e-9), 3),
        }
        row: dict[str, Any] = {"epoch": number, **self.at.rates, **losses, **pace}
        if number % settings.validate_every == 0 or number == settings.epochs:
            began = time.monotonic()
            row["val_dice"] = self._validate()
            row["val_seconds"] = round(time.monotonic() - began, 3)
        return row

    def _train_epoch(self) -> dict[str, float]:
        """The rest of a pass over the training cases; the mean of every loss term over all of it."""
        self.learner.train_mode()
        is_whole = self.at.step == 0
        if is_whole:
            self.at.rates = current_learning_rates(self.learner.optimizer)
        self._epoch_began = time.monotonic() - self.at.seconds
        for batch in self.batches.of(self.at.epoch, done=self.at.step):
            self._count(self._granted(batch))
            loss = None
            if self.at.step % _LOOK_EVERY == 1:
                self._refuse_broken_loss()
                loss = self.at.sums["loss"].item() / self.at.step
            self._course.step(self.at, seconds=time.monotonic() - self._epoch_began, loss=loss)
            if self.at.epoch == 0 and is_whole:
                self._profile.after(self.at.step)
        self._profile.end(self.at.step)
        self._refuse_broken_loss()
        self.at.seconds = time.monotonic() - self._epoch_began
        return {
            name: float(self.accelerator.reduce(value, "mean")) / self.at.step for name, value in self.at.sums.items()
        }

    def _granted(self, batch: Sample | UserError) -> Sample:
        """The batch, if all processes go on with theirs; else save what there is, and stop if it is asked for.

        Between the batches that make up one step of the optimiser, nothing is saved: half a gradient would be lost.
        """
        is_between_steps = self.at.step % self.config.train.accumulate == 0
        wish = all_reduce_max_on_cpu(self._wish(batch, is_between_steps=is_between_steps))
        if wish != _GO and is_between_steps:
            self._refuse_broken_loss()
            self.at.seconds = time.monotonic() - self._epoch_began
            self._save()
        if wish == _STOP:
            raise_on_all_ranks(self._interruption.stopped(self._way_on()))
        if wish == _FAIL:
            raise_on_all_ranks(self._with_way_on(batch) if isinstance(batch, UserError) else None)
        if isinstance(batch, UserError):
            raise batch
        return batch

    def _wish(self, batch: Sample | UserError, *, is_between_steps: bool) -> int:
        if is_between_steps and self._interruption.signal is not None:
            return _STOP
        if isinstance(batch, UserError):
            return _FAIL
        seconds = 60 * self.config.train.save_minutes
        is_due = self.accelerator.is_main_process and time.monotonic() - self._saved_at >= seconds > 0
        return _SAVE if is_between_steps and is_due else _GO

    def _count(self, batch: Sample) -> None:
        """Learn from a batch and add it up."""
        terms = self._step(batch)
        self.at.add(terms)
        self._watch.note(terms["loss"], step=self.at.step, cases=batch.case_index.tolist())

    def _step(self, batch: Sample) -> dict[str, torch.Tensor]:
        return self.learner.learn(batch, epoch=self.at.epoch, step=self.at.step)

    def _refuse_broken_loss(self) -> None:
        error, broken = None, self._watch.first_broken()
        if broken is not None:
            cases = ", ".join(self.training[index].id for index in broken[1])
            error = ConfigError(
                f"the loss is {self.at.sums['loss'].item()} in epoch {self.at.epoch + 1}, first in step {broken[0]} "
                f"(cases {cases}); begin another run with a lower train.lr or --set train.precision=no; "
                f"{self.folder.path} keeps {self._kept()}"
            )
        raise_on_all_ranks(error)

    def _validate(self) -> float:
        """The score of the epoch; whatever ends it before its end, the epoch's steps are saved."""
        dice, error = None, None
        try:
            dice = self.validation.dice(self.bare_model, stop=lambda: self._interruption.signal is not None)
        except UserError as refused:
            error = refused
        if dice is None:
            self._save()
            raise_on_all_ranks(None if error is None else self._with_way_on(error))
            raise_on_all_ranks(self._interruption.stopped(self._way_on()))
            raise ValueError("validation stopped without a reason")
        return dice

    def _keep(self, history: list[dict[str, Any]]) -> None:
        """Save the weights if they are the best, then the history, then the state.

        The state comes last: whatever a kill leaves behind is newer than the state, and made again from it.
        """
        row = history[-1]
        is_best = row.get("val_dice", -1.0) > self.at.best_dice
        if is_best:
            self.at.best_dice, self.at.best_epoch = row["val_dice"], row["epoch"]
            run_on_main_process(lambda: self.folder.save_weights(self.bare_model, lora=self.config.model.lora))
        self.at.finish_epoch()
        run_on_main_process(lambda: self.folder.save_history(history))
        # Before the state: after a kill in between, the epoch comes again, the same, and no tracker lacks it.
        self._trackers.log(row)
        self._save()
        self._course.epoch(history, best=(self.at.best_dice, self.at.best_epoch))

    def _save(self) -> None:
        state = self.checkpoint.capture(self.at)
        run_on_main_process(lambda: self.folder.save_state(state))
        self._saved, self._saved_at = (self.at.epoch, self.at.step), time.monotonic()

    def _with_way_on(self, error: UserError) -> UserError:
        return type(error)(f"{error}; {self._way_on()}")

    def _way_on(self) -> str:
        return f"{self._kept()} is saved, go on with: guidino train --resume -o {self.folder.path}"

    def _kept(self) -> str:
        """What of the run is on the disk, in words."""
        epoch, step = self._saved or (0, 0)
        if step == 0:
            return f"epoch {epoch} of {self.config.train.epochs}" if epoch else "the beginning"
        return f"step {step} of {self.batches.steps} in epoch {epoch + 1}"
