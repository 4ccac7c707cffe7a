"""The pretraining loop: optimization steps and rows of the history, from the start or from a checkpoint."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator

from guidino_cli.distributed import raise_on_all_ranks, run_on_main_process
from guidino_cli.engine.checkpointing import CheckpointManager
from guidino_cli.engine.devices import require_device_in_use, resolve_precision
from guidino_cli.engine.pretraining.checkpoint import CHECKPOINT_FORMAT, ObjectiveState, PretrainState
from guidino_cli.engine.pretraining.data import ImageStream
from guidino_cli.engine.pretraining.folder import PretrainFolder
from guidino_cli.engine.pretraining.history import HistoryRow, MetricsLogger, format_row
from guidino_cli.engine.pretraining.optim import apply_schedules, make_adamw
from guidino_cli.engine.run_control import NonFiniteLossWatch, RunControl
from guidino_cli.errors import UserError
from guidino_cli.pretrain_config import PretrainConfig
from guidino_cli.progress import log_info, progress_bar
from guidino_cli.ssl.objective import PretrainObjective, PretrainProgress
from guidino_cli.types import UnlabelledSample


@contextmanager
def _flush_denormals() -> Iterator[None]:
    """Round denormal numbers to 0, since they are slow on CPUs and an exponential has many; the process is set back."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


class Pretrainer:
    """One run on one or many devices.

    Args:
        objective: Freshly built; its `student` is a `TokenEncoder`.
        config: Checked settings.
        folder: Receives state and history.
        paths: Images to learn from.
        device: "cpu", or None for accelerate's choice.

    Attributes:
        state: Progress of the run.
        objective: As it is trained, wrapped by accelerate.
        bare_objective: The objective without any wrapper.
        metrics: The history.
        checkpoints: Saves and restores the run.
        control: Signals, saving by time, and loss checks.
    """

    def __init__(
        self,
        objective: PretrainObjective,
        config: PretrainConfig,
        folder: PretrainFolder,
        *,
        paths: Sequence[Path],
        device: str | None = None,
    ) -> None:
        self.config, self.folder, self.paths = config, folder, paths
        precision = resolve_precision(config.train.precision, device)
        self.accelerator = Accelerator(
            cpu=device == "cpu",
            # Steps skipped by a gradient scaler would let teacher and student diverge: no half precision but bf16.
            mixed_precision="no" if precision == "fp16" else precision,
            gradient_accumulation_steps=config.train.accumulate,
            step_scheduler_with_optimizer=False,
        )
        require_device_in_use(device, self.accelerator.device)
        optimizer = make_adamw(objective, config.train)
        self.objective, self.optimizer = self.accelerator.prepare(objective, optimizer)
        self.bare_objective: PretrainObjective = self.accelerator.unwrap_model(self.objective, keep_fp32_wrapper=False)
        self.metrics = MetricsLogger(self.bare_objective, config, folder, self.accelerator)
        self.state = PretrainState()
        self.checkpoints = CheckpointManager(
            folder,
            self.accelerator,
            {"objective": ObjectiveState(self.bare_objective), "optimizer": self.optimizer},
            state_type=PretrainState,
            version=CHECKPOINT_FORMAT,
            save_minutes=config.train.save_minutes,
            describe=lambda state: f"step {state.step} of {config.steps}" if state.step else "the beginning",
        )
        history = config.train.log_every * config.train.accumulate
        self.control = RunControl(
            self.checkpoints,
            resume_command=f"guidino pretrain --resume -o {folder.path}",
            loss_watch=NonFiniteLossWatch(self.accelerator.device, history=history),
            describe_loss=self._describe_nonfinite_loss,
        )
        self._stream = ImageStream(paths, config)
        self._features: torch.Tensor | None = None

    def resume(self) -> None:
        """Continue after the last step that the run's folder holds."""
        self.state = self.checkpoints.restore()
        self.metrics.resume(self.state)
        self._stream = ImageStream(self.paths, self.config, start=self.state.step * self.config.train.accumulate)

    def fit(
        self,
        *,
        after_row: Callable[[list[HistoryRow]], None] | None = None,
        snapshot: Callable[[int], None] | None = None,
    ) -> None:
        """Pretrain to the last step, saving every `train.save_minutes`, at the end and when asked to stop.

        Args:
            after_row: Called with the history when a row is added, in the main process only.
            snapshot: Called with the step at the start, every `train.picture_every` steps and at the end, with the
                objective in evaluation mode; in the main process only.

        Raises:
            StoppedError: Ctrl-C or SIGTERM; all steps are saved.
            ConfigError: The loss is not finite, or the objective has failed.
            DataError: An image cannot be used; the steps before are saved.
            ResourceError: The disk is full, or a data loader worker died.
        """
        self.objective.train()
        with _flush_denormals(), self.control, progress_bar(enabled=self.accelerator.is_main_process) as bar:
            if self.checkpoints.saved is None:
                self._take_snapshot(snapshot)
                self.checkpoints.save(self.state)
            task = bar.add_task("steps", total=self.config.steps, completed=self.state.step, note="")
            while self.state.step < self.config.steps:
                began = time.monotonic()
                self._step(self.control.sync(self.state, self._load_batches()))
                self.state.row_seconds += time.monotonic() - began
                if self.metrics.is_due(self.state):
                    bar.update(task, note=self._add_row(after_row))
                every = self.config.train.picture_every
                if every and (self.state.step % every == 0 or self.state.step == self.config.steps):
                    self._take_snapshot(snapshot)
                bar.advance(task)
            self.checkpoints.save(self.state)

    def _load_batches(self) -> list[UnlabelledSample] | UserError:
        """The batches of the next optimization step, or the error of the first that cannot be loaded."""
        stage, _ = self.config.stage_at(self.state.step)
        batches: list[UnlabelledSample] = []
        for _ in range(self.config.train.accumulate):
            batch = self._stream.take(side=stage.side or self.config.data.side)
            if isinstance(batch, UserError):
                return batch
            batches.append(batch)
        return batches

    def _step(self, batches: Sequence[UnlabelledSample]) -> None:
        """One optimization step."""
        before = self._progress()
        apply_schedules(self.optimizer, self.config, step=self.state.step)
        for images in batches:
            with torch.no_grad():
                views = self.bare_objective.views(self._to_device(images), progress=before)
            with self.accelerator.accumulate(self.objective):
                # `unwrap_model` took accelerate's own autocast off the forward pass.
                with self.accelerator.autocast():
                    output = self.objective(views, progress=before)
                self.accelerator.backward(output.terms["loss"])
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.objective.parameters(), self.config.train.clip_norm)
                    self.state.add({"gradient_norm": torch.as_tensor(norm) * len(batches)})
                    self.bare_objective.before_step(progress=before)
                self.optimizer.step()
                self.optimizer.zero_grad()
            self.state.add({**output.terms, **output.statistics})
            samples = images.image_index.tolist()
            self.control.loss_watch.update(output.terms["loss"], step=self.state.step + 1, samples=samples)
            self._features = output.features
        self.state.step += 1
        self.bare_objective.after_step(progress=self._progress())

    def _progress(self) -> PretrainProgress:
        return PretrainProgress(self.state.step, self.config.steps, self.config.seed)

    def _to_device(self, images: UnlabelledSample) -> UnlabelledSample:
        """Move pixels only: the indices of a batch select views, and reading them from a GPU would wait for it."""
        return images._replace(pixels=images.pixels.to(self.accelerator.device, non_blocking=True))

    def _add_row(self, after_row: Callable[[list[HistoryRow]], None] | None) -> str:
        """Add a row to the history and log it; raises if the loss is not finite or the objective has failed."""
        self.control.check_loss()
        rates = apply_schedules(self.optimizer, self.config, step=self.state.step - 1)
        run_on_main_process(self.checkpoints.require_folder)
        row = self.metrics.log(self.state, rates=rates, features=self._features)
        line = format_row(row, steps=self.config.steps)
        if self.accelerator.is_main_process:
            log_info(line)
            if after_row is not None:
                after_row(self.metrics.rows)
        self._check_failure()
        return line

    def _check_failure(self) -> None:
        """`ConfigError` on all ranks if the main process finds that the objective has failed."""
        reason = self.metrics.failure(self.state)
        if not self.accelerator.is_main_process:
            reason = None
        raise_on_all_ranks(None if reason is None else self.control.fatal_error(f"step {self.state.step}: {reason}"))

    def _describe_nonfinite_loss(self, step: int, samples: Sequence[int]) -> str:
        images = ", ".join(str(self.paths[index]) for index in samples[:4])
        return (
            f"the loss is not finite, first in step {step} (images {images}, ...); start a new run with a lower "
            "stages.0.lr or --set train.precision=no"
        )

    def _take_snapshot(self, snapshot: Callable[[int], None] | None) -> None:
        run_on_main_process(self.checkpoints.require_folder)
        if snapshot is None or not self.config.train.picture_every or not self.accelerator.is_main_process:
            return
        is_training = self.bare_objective.training
        self.bare_objective.eval()
        snapshot(self.state.step)
        self.bare_objective.train(is_training)
