"""History of a pretraining run: metric rows, detection of collapse, and feature snapshots of fixed images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from guidino_cli.data.images import read_image
from guidino_cli.data.preprocess import resize_image, to_tensor
from guidino_cli.distributed import run_on_main_process
from guidino_cli.engine.guides.tokens import pca_to_rgb
from guidino_cli.engine.pretraining.checkpoint import PretrainState
from guidino_cli.engine.pretraining.folder import PretrainFolder
from guidino_cli.pretrain_config import PretrainConfig
from guidino_cli.progress import format_duration, log_warning
from guidino_cli.ssl.collapse import effective_rank, mean_cosine
from guidino_cli.ssl.networks import TokenEncoder
from guidino_cli.ssl.objective import PretrainObjective, PretrainProgress

HistoryRow = dict[str, Any]

# Consecutive rows with nearly identical features that count as a collapse, and their thresholds.
_COLLAPSE_ROWS, _MAX_COSINE, _MIN_RANK = 3, 0.999, 1.5
_NOT_TERMS = ("step", "stage", "lr", "weight_decay", "images_per_second", "seconds", "loss", "rank", "cosine")


def detect_collapse(history: Sequence[HistoryRow]) -> str | None:
    """A message with remedies if the student's features of all images are nearly equal, or None."""
    rows = history[-_COLLAPSE_ROWS:]
    are_alike = [row.get("cosine", 0) > _MAX_COSINE or row.get("rank", 9) < _MIN_RANK for row in rows]
    if len(rows) < _COLLAPSE_ROWS or not all(are_alike):
        return None
    found = ", ".join(f"{name} {rows[-1][name]:.4g}" for name in ("cosine", "rank") if name in rows[-1])
    remedies = "a lower stages.0.lr, a longer stages.0.warmup_steps, a higher stages.0.momentum or a higher dino.koleo"
    return f"the features of all images are nearly equal ({found}): a collapse; start again with {remedies}"


def format_row(row: HistoryRow, *, steps: int) -> str:
    """A row of the history as one line of text."""
    others = {name: value for name, value in row.items() if name not in _NOT_TERMS}
    terms = ", ".join(f"{name} {value:.3f}" for name, value in others.items() if not _is_statistic(name))
    features = [f"{name} {row[name]:.{digits}f}" for name, digits in (("rank", 1), ("cosine", 3)) if name in row]
    statistics = [f"{name.replace('_', ' ')} {value:.2f}" for name, value in others.items() if _is_statistic(name)]
    left = (steps - row["step"]) * row["seconds"] / row["step"]
    speed = [f"{row['images_per_second']:.3g} images/s", f"{format_duration(left)} left"]
    return ", ".join([f"step {row['step']}/{steps}: loss {row['loss']:.4f} ({terms})", *statistics, *features, *speed])


def _is_statistic(name: str) -> bool:
    """Whether a column is not a term of the loss."""
    return name == "gradient_norm" or name.endswith("_entropy")


@dataclass(frozen=True)
class FeatureSnapshot:
    """Patch features of one image at some step.

    Attributes:
        path: Image file.
        pixels: (H, W, 3) uint8, the input of the network.
        components: (h, w, 3) in [0, 1], the first three principal components of its patch tokens as colours.
    """

    path: Path
    pixels: np.ndarray
    components: np.ndarray


@torch.no_grad()
def take_snapshot(encoder: TokenEncoder, path: Path, *, long_side: int) -> FeatureSnapshot:
    """Compute a snapshot; the network is in evaluation mode, the longer side is resized to about `long_side` pixels."""
    pixels, geometry = read_image(path)
    factor = long_side / max(geometry.size_hw)
    h, w = (max(2, round(side * factor / encoder.patch_size)) for side in geometry.size_hw)
    pixels = resize_image(pixels, (h * encoder.patch_size, w * encoder.patch_size))
    device = next(encoder.parameters()).device
    patches = encoder(to_tensor(pixels).to(device)[None]).patches[0].float().cpu()
    components, _ = pca_to_rgb(patches.T.unflatten(1, (h, w)))
    return FeatureSnapshot(path, pixels, components)


# With fewer images, an effective rank is meaningless.
_MIN_IMAGES = 8


class MetricsLogger:
    """Averages metrics and appends rows to the history of a run.

    Args:
        objective: Unwrapped; it checks its own metrics.
        config: Settings of the run.
        folder: Receives the history.
        accelerator: Accelerator of the run.

    Attributes:
        rows: Rows so far.
    """

    def __init__(
        self, objective: PretrainObjective, config: PretrainConfig, folder: PretrainFolder, accelerator: Accelerator
    ) -> None:
        self._objective, self._config, self._folder, self._accelerator = objective, config, folder, accelerator
        self.rows: list[HistoryRow] = []
        self._has_warned = False

    def resume(self, state: PretrainState) -> None:
        """Read the rows of the folder; rows written after the saved state are dropped and will be logged again."""
        self.rows = [row for row in self._folder.history() if row["step"] <= state.since]

    def is_due(self, state: PretrainState) -> bool:
        """Whether to log: every `train.log_every` steps, and after a stage, as the next may have other terms."""
        is_stage_over = state.step == self._config.steps or self._config.stage_at(state.step)[1] == 0
        return is_stage_over or state.step - state.since == self._config.train.log_every

    def log(self, state: PretrainState, *, rates: Mapping[str, float], features: Tensor | None) -> HistoryRow:
        """Append a row with the means since the last one.

        Args:
            state: State of the run; its sums start again.
            rates: Learning rate and weight decay of the last step.
            features: Features of its last batch; see `ObjectiveOutput`.
        """
        row = self._make_row(state, rates, features)
        self.rows.append(row)
        state.seconds += state.row_seconds
        state.begin_row()
        run_on_main_process(lambda: self._folder.save_history(self.rows))
        return row

    def failure(self, state: PretrainState) -> str | None:
        """Why the run cannot recover and what to change, or None; warns once of suspicious metrics."""
        progress = PretrainProgress(state.step, self._config.steps, self._config.seed)
        metrics = {name: value for name, value in self.rows[-1].items() if isinstance(value, float)}
        warning = self._objective.warning(metrics, progress=progress)
        if warning is not None and not self._has_warned and self._accelerator.is_main_process:
            self._has_warned = True
            log_warning(warning)
        return self._objective.failure(metrics, progress=progress) or detect_collapse(self.rows)

    def _make_row(self, state: PretrainState, rates: Mapping[str, float], features: Tensor | None) -> HistoryRow:
        """Means of all terms and statistics since the last row, and the speed."""
        settings = self._config.train
        batches = (state.step - state.since) * settings.accumulate
        means = {name: float(self._accelerator.reduce(value, "mean")) / batches for name, value in state.sums.items()}
        images = batches * settings.batch_size * self._accelerator.num_processes
        return {
            "step": state.step,
            "stage": self._config.stage_at(state.step - 1)[0].name,
            **rates,
            **means,
            **_feature_statistics(features),
            "images_per_second": round(images / max(state.row_seconds, 1e-9), 3),
            "seconds": round(state.seconds + state.row_seconds, 3),
        }


def _feature_statistics(features: Tensor | None) -> dict[str, float]:
    """Effective rank and mean cosine of the last batch's features."""
    if features is None or len(features) < 2:
        return {}
    rank = {"rank": float(effective_rank(features))} if len(features) >= _MIN_IMAGES else {}
    return {**rank, "cosine": float(mean_cosine(features))}
