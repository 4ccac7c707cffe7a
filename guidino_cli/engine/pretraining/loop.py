"""The loop of pretraining: from wherever a run stands, step after step, to the end of its last stage."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator

from guidino_cli.distributed import all_reduce_max_on_cpu, raise_on_all_ranks
from guidino_cli.engine.devices import require_device_in_use, resolve_precision
from guidino_cli.engine.pretraining.checkpoint import CheckpointManager, PretrainCheckpoint, PretrainState
from guidino_cli.engine.pretraining.data import ImageStream
from guidino_cli.engine.pretraining.folder import PretrainFolder
from guidino_cli.engine.pretraining.history import HistoryRow, MetricsLogger, format_row
from guidino_cli.engine.pretraining.optim import apply_schedules, make_adamw
from guidino_cli.engine.run_control import NonFiniteLossWatch, SignalHandler
from guidino_cli.errors import ConfigError, UserError
from guidino_cli.pretrain_config import PretrainConfig
from guidino_cli.progress import log_info, progress_bar
from guidino_cli.ssl.objective import PretrainObjective, PretrainProgress
from guidino_cli.types import UnlabelledSample

_GO, _SAVE, _FAIL, _STOP = range(4)


class Pretrainer:
    """One run on one or many devices.

    Args:
        objective: Freshly built; its `student` is a `Trunk`.
        config: Checked settings.
        folder: Receives state and history.
        paths: Images to learn from.
        device: "cpu", or None for accelerate's choice.

    Attributes:
        at: Where the run stands.
        bare: The objective without any wrapper.
        journal: The history.
        keeper: Saves the run.
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
            # A gradient scaler's skipped steps would leave teacher and student apart: no half precision but bf16.
            mixed_precision="no" if precision == "fp16" else precision,
            gradient_accumulation_steps=config.train.accumulate,
            step_scheduler_with_optimizer=False,
        )
        require_device_in_use(device, self.accelerator.device)
        optimizer = make_adamw(objective, config.train)
        self.objective, self.optimizer = self.accelerator.prepare(objective, optimizer)
        self.bare: PretrainObjective = self.accelerator.unwrap_model(self.objective, keep_fp32_wrapper=False)
        checkpoint = PretrainCheckpoint(self.accelerator, self.bare, self.optimizer)
        self.keeper = CheckpointManager(checkpoint, folder, steps=config.steps, minutes=config.train.save_minutes)
        self.journal = MetricsLogger(self.bare, config, folder, self.accelerator)
        self.at = PretrainState()
        self._stream = ImageStream(paths, config)
        self._interruption = SignalHandler()
        remembered = config.train.log_every * config.train.accumulate
        self._watch = NonFiniteLossWatch(self.accelerator.device, remembered=remembered)
        self._features: torch.Tensor | None = None

    def resume(self) -> None:
        """Continue behind the last step that the run's folder holds."""
        self.at = self.keeper.restore()
        self.journal.resume(self.at)
        self._stream = ImageStream(self.paths, self.config, start=self.at.step * self.config.train.accumulate)

    def fit(
        self, *, after_row: Callable[[list[HistoryRow]], None] | None = None, look: Callable[[int], None] | None = None
    ) -> None:
        """Pretrain to the last step, saving every `train.save_minutes`, at the end and when asked to stop.

        Args:
            after_row: Told the history when a row is added, in the main process only.
            look: Told the step every `train.picture_every` steps, the first among them; in the main process only.

        Raises:
            StoppedError: Ctrl-C or SIGTERM; all steps are saved.
            ConfigError: The loss is not a number any more, or the objective says that the run is dead.
            DataError: An image cannot be used; the steps before are saved.
            ResourceError: The disk is full, or a process that loads images died.
        """
        # Numbers near zero, of which an exponential has many, are slow on CPUs.
        torch.set_flush_denormal(True)
        self.objective.train()
        with self._interruption, progress_bar(enabled=self.accelerator.is_main_process) as bar:
            if self.keeper.saved is None:
                self._look(look)
                self.keeper.save(self.at)
            task = bar.add_task("steps", total=self.config.steps, completed=self.at.step, note="")
            while self.at.step < self.config.steps:
                began = time.monotonic()
                self._learn(self._granted(self._taken()))
                self.at.row_seconds += time.monotonic() - began
                if self.journal.is_due(self.at):
                    bar.update(task, note=self._add_row(after_row))
                every = self.config.train.picture_every
                if every and (self.at.step % every == 0 or self.at.step == self.config.steps):
                    self._look(look)
                bar.advance(task)
            self.keeper.save(self.at)

    def _taken(self) -> list[UnlabelledSample | UserError]:
        """The batches of the next step of the optimiser."""
        stage, _ = self.config.stage_at(self.at.step)
        batches: list[UnlabelledSample | UserError] = []
        for _ in range(self.config.train.accumulate):
            batches.append(self._stream.take(side=stage.side or self.config.data.side))
            if isinstance(batches[-1], UserError):
                break
        return batches

    def _granted(self, batches: list[UnlabelledSample | UserError]) -> list[UnlabelledSample]:
        """The batches, if all processes go on with theirs; else save what there is, and stop if it is asked for."""
        error = next((batch for batch in batches if isinstance(batch, UserError)), None)
        wish = all_reduce_max_on_cpu(self._wish(error))
        if wish != _GO:
            self._refuse_broken_loss()
            self.keeper.save(self.at)
        if wish == _STOP:
            raise_on_all_ranks(self._interruption.stopped(self.keeper.way_on()))
        if wish == _FAIL:
            raise_on_all_ranks(None if error is None else type(error)(f"{error}; {self.keeper.way_on()}"))
        return [batch for batch in batches if not isinstance(batch, UserError)]

    def _wish(self, error: UserError | None) -> int:
        if self._interruption.signal is not None:
            return _STOP
        if error is not None:
            return _FAIL
        return _SAVE if self.keeper.is_due() else _GO

    def _learn(self, batches: Sequence[UnlabelledSample]) -> None:
        """One step of the optimiser."""
        before = PretrainProgress(self.at.step, self.config.steps, self.config.seed)
        apply_schedules(self.optimizer, self.config, step=self.at.step)
        for images in batches:
            with torch.no_grad():
                views = self.bare.views(self._on_device(images), progress=before)
            with self.accelerator.accumulate(self.objective):
                learned = self.objective(views, progress=before)
                self.accelerator.backward(learned.terms["loss"])
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.objective.parameters(), self.config.train.clip_norm)
                    self.at.add({"gradient_norm": torch.as_tensor(norm) * len(batches)})
                    self.bare.before_step(progress=before)
                self.optimizer.step()
                self.optimizer.zero_grad()
            self.at.add({**learned.terms, **learned.statistics})
            self._watch.note(learned.terms["loss"], step=self.at.step + 1, cases=images.image_index.tolist())
            self._features = learned.features
        self.at.step += 1
        self.bare.after_step(progress=PretrainProgress(self.at.step, self.config.steps, self.config.seed))

    def _on_device(self, images: UnlabelledSample) -> UnlabelledSample:
        """Pixels only: the numbers beside them decide views, and to read them from a GPU would wait for it."""
        return images._replace(pixels=images.pixels.to(self.accelerator.device, non_blocking=True))

    def _add_row(self, after_row: Callable[[list[HistoryRow]], None] | None) -> str:
        """Add a row to the history, look whether the run is worth going on with, and say it in a line."""
        self._refuse_broken_loss()
        rates = apply_schedules(self.optimizer, self.config, step=self.at.step - 1)
        row = self.journal.log(self.at, rates=rates, features=self._features)
        line = format_row(row, steps=self.config.steps)
        if self.accelerator.is_main_process:
            log_info(line)
            if after_row is not None:
                after_row(self.journal.rows)
        self._refuse_dead()
        return line

    def _refuse_dead(self) -> None:
        """What the main process finds holds for all."""
        reason = self.journal.failure(self.at)
        if reason is None or not self.accelerator.is_main_process:
            raise_on_all_ranks(None)
            return
        kept = self.keeper.kept()
        raise_on_all_ranks(ConfigError(f"step {self.at.step}: {reason}; {self.folder.path} keeps {kept}"))

    def _refuse_broken_loss(self) -> None:
        error, broken = None, self._watch.first_broken()
        if broken is not None:
            images = ", ".join(str(self.paths[index]) for index in broken[1][:4])
            error = ConfigError(
                f"the loss is not a number, first in step {broken[0]} (images {images}, ...); begin anew with a lower "
                f"stages.0.lr or --set train.precision=no; {self.folder.path} keeps {self.keeper.kept()}"
            )
        raise_on_all_ranks(error)

    def _look(self, look: Callable[[int], None] | None) -> None:
        if look is None or not self.config.train.picture_every or not self.accelerator.is_main_process:
            return
        is_training = self.bare.training
        self.bare.eval()
        look(self.at.step)
        self.bare.train(is_training)
