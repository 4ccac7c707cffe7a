"""The history of a pretraining run: when a row is due, what it says, and what the last ones say of the run."""

from collections.abc import Mapping

from accelerate import Accelerator
from torch import Tensor

from guidino_cli.engine.pretraining.checkpoint import Standing
from guidino_cli.engine.pretraining.folder import PretrainFolder
from guidino_cli.engine.pretraining.rows import Row, collapse
from guidino_cli.engine.training.agreement import on_main
from guidino_cli.pretrain_config import PretrainConfig
from guidino_cli.progress import say
from guidino_cli.ssl.figures import effective_rank, mean_cosine
from guidino_cli.ssl.objective import Objective, Progress

# Of fewer images, a rank says nothing.
_ENOUGH = 8


class Journal:
    """Keeps the rows of a run.

    Args:
        objective: Without any wrapper; it judges its own figures.
        config: Of the run.
        folder: Receives the history.
        accelerator: Of the run.

    Attributes:
        rows: So far.
    """

    def __init__(
        self, objective: Objective, config: PretrainConfig, folder: PretrainFolder, accelerator: Accelerator
    ) -> None:
        self._objective, self._config, self._folder, self._accelerator = objective, config, folder, accelerator
        self.rows: list[Row] = []
        self._has_warned = False

    def go_on(self, at: Standing) -> None:
        """Take up the rows of the folder; what a kill has left behind the state comes again."""
        self.rows = [row for row in self._folder.history() if row["step"] <= at.since]

    def is_due(self, at: Standing) -> bool:
        """Every `train.log_every` steps, and at the end of a stage: the next one may have other terms."""
        is_stage_over = at.step == self._config.steps or self._config.stage_at(at.step)[1] == 0
        return is_stage_over or at.step - at.since == self._config.train.log_every

    def add(self, at: Standing, *, rates: Mapping[str, float], features: Tensor | None) -> Row:
        """Write the means since the last row, and begin another.

        Args:
            at: Where the run stands.
            rates: Of the last step.
            features: Of its last batch, as `Learned` has them.
        """
        row = self._row(at, rates, features)
        self.rows.append(row)
        at.seconds += at.row_seconds
        at.begin_row()
        on_main(lambda: self._folder.save_history(self.rows))
        return row

    def failure(self, at: Standing) -> str | None:
        """Why the run is dead and what to change, or None; what looks bad is warned of, once."""
        progress = Progress(at.step, self._config.steps, self._config.seed)
        figures = {name: value for name, value in self.rows[-1].items() if isinstance(value, float)}
        warning = self._objective.warning(figures, at=progress)
        if warning is not None and not self._has_warned and self._accelerator.is_main_process:
            self._has_warned = True
            say(f"guidino: warning: {warning}")
        return self._objective.failure(figures, at=progress) or collapse(self.rows)

    def _row(self, at: Standing, rates: Mapping[str, float], features: Tensor | None) -> Row:
        """The means of all terms and figures since the last row, and how fast it went."""
        settings = self._config.train
        batches = (at.step - at.since) * settings.accumulate
        means = {name: float(self._accelerator.reduce(value, "mean")) / batches for name, value in at.sums.items()}
        images = batches * settings.batch_size * self._accelerator.num_processes
        return {
            "step": at.step,
            "stage": self._config.stage_at(at.step - 1)[0].name,
            **rates,
            **means,
            **_watched(features),
            "images_per_second": round(images / max(at.row_seconds, 1e-9), 3),
            "seconds": round(at.seconds + at.row_seconds, 3),
        }


def _watched(features: Tensor | None) -> dict[str, float]:
    """Rank and cosine of the last batch's features."""
    if features is None or len(features) < 2:
        return {}
    rank = {"rank": float(effective_rank(features))} if len(features) >= _ENOUGH else {}
    return {**rank, "cosine": float(mean_cosine(features))}
