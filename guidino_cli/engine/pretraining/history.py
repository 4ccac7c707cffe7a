"""The history of a pretraining run: its rows, the features of some fixed images, and signs of collapse."""

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

# So many rows in a row, of features that are all but the same.
_ROWS, _COSINE, _RANK = 3, 0.999, 1.5
_SAID_APART = ("step", "stage", "lr", "weight_decay", "images_per_second", "seconds", "loss", "rank", "cosine")


def detect_collapse(history: Sequence[HistoryRow]) -> str | None:
    """What is wrong and what to change where the student says the same of all images, or None."""
    rows = history[-_ROWS:]
    if len(rows) < _ROWS or not all(row.get("cosine", 0) > _COSINE or row.get("rank", 9) < _RANK for row in rows):
        return None
    found = ", ".join(f"{name} {rows[-1][name]:.4g}" for name in ("cosine", "rank") if name in rows[-1])
    ways = "a lower stages.0.lr, a longer stages.0.warmup_steps, a higher stages.0.momentum or a higher dino.koleo"
    return f"the student says the same of all images ({found}), so the run is dead; begin anew with {ways}"


def format_row(row: HistoryRow, *, steps: int) -> str:
    """A row of the history in one line of plain text."""
    named = {name: value for name, value in row.items() if name not in _SAID_APART}
    terms = ", ".join(f"{name} {value:.3f}" for name, value in named.items() if not _is_measure(name))
    watched = [f"{name} {row[name]:.{digits}f}" for name, digits in (("rank", 1), ("cosine", 3)) if name in row]
    measures = [f"{name.replace('_', ' ')} {value:.2f}" for name, value in named.items() if _is_measure(name)]
    left = (steps - row["step"]) * row["seconds"] / row["step"]
    speed = [f"{row['images_per_second']:.3g} images/s", f"{format_duration(left)} left"]
    return ", ".join([f"step {row['step']}/{steps}: loss {row['loss']:.4f} ({terms})", *measures, *watched, *speed])


def _is_measure(name: str) -> bool:
    """Whether it is watched only, and no term of the loss."""
    return name == "gradient_norm" or name.endswith("_entropy")


@dataclass(frozen=True)
class FeatureSnapshot:
    """One image through the eyes of a network.

    Attributes:
        path: Of the image.
        pixels: (H, W, 3) uint8, as the network got it.
        components: (h, w, 3) in [0, 1], the first three principal components of its tokens as colours.
        explained: Share of the tokens' variance within those three.
    """

    path: Path
    pixels: np.ndarray
    components: np.ndarray
    explained: float


def select_fixed_images(paths: Sequence[Path], *, count: int) -> list[Path]:
    """Some images, the same ones whenever a run looks: evenly spread over the list."""
    if len(paths) <= count:
        return list(paths)
    return [paths[round(index * (len(paths) - 1) / max(1, count - 1))] for index in range(count)]


@torch.no_grad()
def take_snapshot(trunk: TokenEncoder, path: Path, *, long_side: int) -> FeatureSnapshot:
    """Show an image to a network in evaluation mode, its longer side brought to about `long_side` pixels."""
    pixels, geometry = read_image(path)
    factor = long_side / max(geometry.size_hw)
    h, w = (max(2, round(side * factor / trunk.patch)) for side in geometry.size_hw)
    pixels = resize_image(pixels, (h * trunk.patch, w * trunk.patch))
    device = next(trunk.parameters()).device
    patches = trunk(to_tensor(pixels).to(device)[None]).patches[0].float().cpu()
    components, explained = pca_to_rgb(patches.T.unflatten(1, (h, w)))
    return FeatureSnapshot(path, pixels, components, explained)


# Of fewer images, a rank says nothing.
_ENOUGH = 8


class MetricsLogger:
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
        self, objective: PretrainObjective, config: PretrainConfig, folder: PretrainFolder, accelerator: Accelerator
    ) -> None:
        self._objective, self._config, self._folder, self._accelerator = objective, config, folder, accelerator
        self.rows: list[HistoryRow] = []
        self._has_warned = False

    def go_on(self, at: PretrainState) -> None:
        """Take up the rows of the folder; what a kill has left behind the state comes again."""
        self.rows = [row for row in self._folder.history() if row["step"] <= at.since]

    def is_due(self, at: PretrainState) -> bool:
        """Every `train.log_every` steps, and at the end of a stage: the next one may have other terms."""
        is_stage_over = at.step == self._config.steps or self._config.stage_at(at.step)[1] == 0
        return is_stage_over or at.step - at.since == self._config.train.log_every

    def add(self, at: PretrainState, *, rates: Mapping[str, float], features: Tensor | None) -> HistoryRow:
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
        run_on_main_process(lambda: self._folder.save_history(self.rows))
        return row

    def failure(self, at: PretrainState) -> str | None:
        """Why the run is dead and what to change, or None; what looks bad is warned of, once."""
        progress = PretrainProgress(at.step, self._config.steps, self._config.seed)
        figures = {name: value for name, value in self.rows[-1].items() if isinstance(value, float)}
        warning = self._objective.warning(figures, at=progress)
        if warning is not None and not self._has_warned and self._accelerator.is_main_process:
            self._has_warned = True
            log_warning(warning)
        return self._objective.failure(figures, at=progress) or detect_collapse(self.rows)

    def _row(self, at: PretrainState, rates: Mapping[str, float], features: Tensor | None) -> HistoryRow:
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
