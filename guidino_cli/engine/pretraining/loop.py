"""The loop of pretraining: from wherever a run stands, step after step, to the end of its last stage."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator

from guidino_cli.engine.devices import require_used
from guidino_cli.engine.precision import training_precision
from guidino_cli.engine.pretraining.batches import ImageStream
from guidino_cli.engine.pretraining.checkpoint import Checkpoint, Standing
from guidino_cli.engine.pretraining.folder import PretrainFolder
from guidino_cli.engine.pretraining.optim import make_adamw, set_rates
from guidino_cli.engine.pretraining.rows import Row, collapse, told
from guidino_cli.engine.training.agreement import Ballot, on_main, refuse_together
from guidino_cli.engine.training.interruption import Interruption
from guidino_cli.engine.training.loss_watch import LossWatch
from guidino_cli.errors import ConfigError, UserError
from guidino_cli.pretrain_config import PretrainConfig
from guidino_cli.progress import progress, say
from guidino_cli.ssl.figures import effective_rank, mean_cosine
from guidino_cli.ssl.objective import Objective, Progress
from guidino_cli.types import Images

_GO, _SAVE, _FAIL, _STOP = range(4)
_ENOUGH = 8


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
    """

    def __init__(
        self,
        objective: Objective,
        config: PretrainConfig,
        folder: PretrainFolder,
        *,
        paths: Sequence[Path],
        device: str | None = None,
    ) -> None:
        self.config, self.folder, self.paths = config, folder, paths
        precision = training_precision(config.train.precision, device)
        self.accelerator = Accelerator(
            cpu=device == "cpu",
            # A gradient scaler's skipped steps would leave teacher and student apart: no half precision but bf16.
            mixed_precision="no" if precision == "fp16" else precision,
            gradient_accumulation_steps=config.train.accumulate,
            step_scheduler_with_optimizer=False,
        )
        require_used(device, self.accelerator.device)
        optimizer = make_adamw(objective, config.train)
        self.objective, self.optimizer = self.accelerator.prepare(objective, optimizer)
        self.bare: Objective = self.accelerator.unwrap_model(self.objective, keep_fp32_wrapper=False)
        self.checkpoint = Checkpoint(self.accelerator, self.bare, self.optimizer)
        self.at = Standing()
        self.history: list[Row] = []
        self._stream = ImageStream(paths, config)
        self._ballot, self._interruption = Ballot(), Interruption()
        self._saved: int | None = None
        self._saved_at = time.monotonic()
        self._watch = LossWatch(self.accelerator.device, remembered=config.train.log_every)
        self._features: torch.Tensor | None = None
        self._has_warned = False

    def resume(self) -> None:
        """Continue behind the last step that the run's folder holds."""
        try:
            self.at = self.checkpoint.restore(self.folder.load_state())
        except UserError as error:
            raise type(error)(f"{self.folder.state}: {error}") from error
        self.history = [row for row in self.folder.history() if row["step"] <= self.at.since]
        self._stream = ImageStream(self.paths, self.config, start=self.at.step * self.config.train.accumulate)
        self._saved = self.at.step

    def fit(
        self, *, after_row: Callable[[list[Row]], None] | None = None, look: Callable[[int], None] | None = None
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
        with self._interruption, progress(enabled=self.accelerator.is_main_process) as bar:
            if self._saved is None:
                self._look(look)
                self._save()
            task = bar.add_task("steps", total=self.config.steps, completed=self.at.step, note="")
            while self.at.step < self.config.steps:
                began = time.monotonic()
                self._learn(self._granted(self._taken()))
                self.at.row_seconds += time.monotonic() - began
                if self._is_row_due():
                    bar.update(task, note=self._add_row(after_row))
                every = self.config.train.picture_every
                if every and (self.at.step % every == 0 or self.at.step == self.config.steps):
                    self._look(look)
                bar.advance(task)
            self._save()

    def _taken(self) -> list[Images | UserError]:
        """The batches of the next step of the optimiser."""
        stage, _ = self.config.stage_at(self.at.step)
        batches: list[Images | UserError] = []
        for _ in range(self.config.train.accumulate):
            batches.append(self._stream.take(side=stage.side or self.config.data.side))
            if isinstance(batches[-1], UserError):
                break
        return batches

    def _granted(self, batches: list[Images | UserError]) -> list[Images]:
        """The batches, if all processes go on with theirs; else save what there is, and stop if it is asked for."""
        error = next((batch for batch in batches if isinstance(batch, UserError)), None)
        wish = self._ballot.highest(self._wish(error))
        if wish != _GO:
            self._refuse_broken_loss()
            self._save()
        if wish == _STOP:
            refuse_together(self._interruption.stopped(self._way_on()))
        if wish == _FAIL:
            refuse_together(None if error is None else type(error)(f"{error}; {self._way_on()}"))
        return [batch for batch in batches if not isinstance(batch, UserError)]

    def _wish(self, error: UserError | None) -> int:
        if self._interruption.signal is not None:
            return _STOP
        if error is not None:
            return _FAIL
        seconds = 60 * self.config.train.save_minutes
        is_due = self.accelerator.is_main_process and time.monotonic() - self._saved_at >= seconds > 0
        return _SAVE if is_due else _GO

    def _learn(self, batches: Sequence[Images]) -> None:
        """One step of the optimiser."""
        before = Progress(self.at.step, self.config.steps, self.config.seed)
        set_rates(self.optimizer, self.config, step=self.at.step)
        for images in batches:
            with torch.no_grad():
                views = self.bare.views(self._on_device(images), at=before)
            with self.accelerator.accumulate(self.objective):
                learned = self.objective(views, at=before)
                self.accelerator.backward(learned.terms["loss"])
                if self.accelerator.sync_gradients:
                    norm = self.accelerator.clip_grad_norm_(self.objective.parameters(), self.config.train.clip_norm)
                    self.at.add({"gradient_norm": torch.as_tensor(norm) * len(batches)})
                    self.bare.before_step(at=before)
                self.optimizer.step()
                self.optimizer.zero_grad()
            self.at.add({**learned.terms, **learned.figures})
            self._watch.note(learned.terms["loss"], step=self.at.step + 1, cases=images.image_index.tolist())
            self._features = learned.features
        self.at.step += 1
        self.bare.after_step(at=Progress(self.at.step, self.config.steps, self.config.seed))

    def _on_device(self, images: Images) -> Images:
        """Pixels only: the numbers beside them decide views, and to read them from a GPU would wait for it."""
        return images._replace(pixels=images.pixels.to(self.accelerator.device, non_blocking=True))

    def _is_row_due(self) -> bool:
        """Every `train.log_every` steps, and at the end of a stage: the next one may have other terms."""
        is_stage_over = self.at.step == self.config.steps or self.config.stage_at(self.at.step)[1] == 0
        return is_stage_over or self.at.step - self.at.since == self.config.train.log_every

    def _add_row(self, after_row: Callable[[list[Row]], None] | None) -> str:
        """Add a row to the history, look whether the run is worth going on with, and say it in a line."""
        self._refuse_broken_loss()
        row = self._row()
        self.history.append(row)
        self.at.seconds += self.at.row_seconds
        self.at.begin_row()
        on_main(lambda: self.folder.save_history(self.history))
        line = told(row, steps=self.config.steps)
        if self.accelerator.is_main_process:
            say(line)
            if after_row is not None:
                after_row(self.history)
        self._judge(row)
        return line

    def _row(self) -> Row:
        """The means of all terms and figures since the last row, and how fast it went."""
        stage, _ = self.config.stage_at(self.at.step - 1)
        steps = self.at.step - self.at.since
        batches = steps * self.config.train.accumulate
        means = {name: float(self.accelerator.reduce(value, "mean")) / batches for name, value in self.at.sums.items()}
        means |= _watched(self._features)
        images = batches * self.config.train.batch_size * self.accelerator.num_processes
        return {
            "step": self.at.step,
            "stage": stage.name,
            **set_rates(self.optimizer, self.config, step=self.at.step - 1),
            **means,
            "images_per_second": round(images / max(self.at.row_seconds, 1e-9), 3),
            "seconds": round(self.at.seconds + self.at.row_seconds, 3),
        }

    def _judge(self, row: Row) -> None:
        """Warn once of what looks bad, and stop what is dead; what the main process finds holds for all."""
        at = Progress(self.at.step, self.config.steps, self.config.seed)
        figures = {name: value for name, value in row.items() if isinstance(value, float)}
        warning = self.bare.warning(figures, at=at)
        if warning is not None and not self._has_warned and self.accelerator.is_main_process:
            self._has_warned = True
            say(f"guidino: warning: {warning}")
        reason = self.bare.failure(figures, at=at) or collapse(self.history)
        if reason is None or not self.accelerator.is_main_process:
            refuse_together(None)
            return
        refuse_together(ConfigError(f"step {self.at.step}: {reason}; {self.folder.path} keeps {self._kept()}"))

    def _refuse_broken_loss(self) -> None:
        error, broken = None, self._watch.first_broken()
        if broken is not None:
            images = ", ".join(str(self.paths[index]) for index in broken[1][:4])
            error = ConfigError(
                f"the loss is not a number, first in step {broken[0]} (images {images}, ...); begin anew with a lower "
                f"stages.0.lr or --set train.precision=no; {self.folder.path} keeps {self._kept()}"
            )
        refuse_together(error)

    def _look(self, look: Callable[[int], None] | None) -> None:
        if look is None or not self.config.train.picture_every or not self.accelerator.is_main_process:
            return
        is_training = self.bare.training
        self.bare.eval()
        look(self.at.step)
        self.bare.train(is_training)

    def _save(self) -> None:
        state = self.checkpoint.capture(self.at)
        on_main(lambda: self.folder.save_state(state))
        self._saved, self._saved_at = self.at.step, time.monotonic()

    def _way_on(self) -> str:
        return f"{self._kept()} is saved, go on with: guidino pretrain --resume -o {self.folder.path}"

    def _kept(self) -> str:
        return f"step {self._saved} of {self.config.steps}" if self._saved else "the beginning"


def _watched(features: torch.Tensor | None) -> dict[str, float]:
    """Rank and cosine of the last batch's features; of a few images, a rank says nothing."""
    if features is None or len(features) < 2:
        return {}
    rank = {"rank": float(effective_rank(features))} if len(features) >= _ENOUGH else {}
    return {**rank, "cosine": float(mean_cosine(features))}
