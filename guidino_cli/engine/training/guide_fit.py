"""Solve the guide of a run in closed form before its first epoch: `model.guide.fit: closed-form`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.engine.guides.agreement import assign_folds
from guidino_cli.engine.training.loss import guide_target_of_counted
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.models.calibrated_ridge import CalibratedRidgeGuide, Calibration
from guidino_cli.models.composed import Model
from guidino_cli.models.ridge import LinearScorer, TokenSums, fit_balanced_ridge
from guidino_cli.progress import pluralize, track
from guidino_cli.types import Case

_LOGITS_A_DEVIATION = 2.0
_SMALLEST_DEVIATION = 1e-6

LookAt = Callable[[int], tuple[Tensor, Tensor]]
"""Dense map (1, D, h, w) and mask (1, H, W) of a training image, by its position."""


@dataclass(frozen=True)
class FittedGuide:
    """Values of the fitted guide, for `run.json`.

    Attributes:
        alpha: Penalty of the regression.
        images: Number of training images.
        folds: Parts of them that were left out in turn.
        areas: Mean share of the cells that each map's region covers.
        thresholds: Score above which that share of the held-out scores of all training images lies.
        deviations: Standard deviation of these scores.
    """

    alpha: float
    images: int
    folds: int
    areas: tuple[float, ...]
    thresholds: tuple[float, ...]
    deviations: tuple[float, ...]

    def __str__(self) -> str:
        found = zip(self.areas, self.thresholds, strict=True)
        cuts = ", ".join(f"threshold {cut:.3f} for {100 * area:.2g} % of the cells" for area, cut in found)
        return f"{pluralize(self.images, 'image')} in {self.folds} folds, {cuts}"


def training_folds(cases: Sequence[Case], guide: CalibratedRidgeGuide) -> Tensor:
    """Fold (n,) of each training image; the images of a group, such as a patient, share one.

    Raises:
        ConfigError: All images are of one group, so that none can be left out.
    """
    folds = torch.from_numpy(assign_folds([case.group for case in cases], count=guide.folds))
    if int(folds.max()) < 1:
        raise ConfigError(
            "model.guide.fit=closed-form leaves out groups of training images in turn, but there is one group of "
            f"{pluralize(len(cases), 'image')}; label images of another group (a patient, a video), use "
            "`guidino fewshot`, or set model.guide.fit=gradient and model.guide.tokens=0"
        )
    return folds


@torch.no_grad()
def fit_guide(model: Model, folds: Tensor, look_at: LookAt, *, num_classes: int) -> FittedGuide:
    """Solve the guide of a model, and set the mean token of its prior.

    Args:
        model: With a `CalibratedRidgeGuide`.
        folds: (n,) fold of each training image, see `training_folds`.
        look_at: Gives the images; called twice for each.
        num_classes: K, background included.

    Raises:
        DataError: The images without some fold have no token inside of a region or none outside of it.
    """
    guide = model.guide
    if not isinstance(guide, CalibratedRidgeGuide):
        raise ValueError("only a CalibratedRidgeGuide is solved in closed form")
    maps, count, device = len(guide.weight), int(folds.max()) + 1, guide.weight.device
    names = ["foreground"] if maps < num_classes - 1 or maps == 1 else [f"class {index + 1}" for index in range(maps)]
    sums: list[TokenSums | None] = [None] * count
    for place in track(range(len(folds)), total=len(folds), description="solving the guide"):
        tokens, shares = _tokens_and_shares(*look_at(place), maps)
        own, fold = TokenSums.of(tokens, shares), int(folds[place])
        before = sums[fold]
        sums[fold] = own if before is None else before + own
    parts = [item for item in sums if item is not None]
    total = reduce(add, parts)
    held_out = [_solve(reduce(add, parts[:fold] + parts[fold + 1 :]), guide.alpha, names) for fold in range(count)]
    scores = np.concatenate(
        [
            torch.stack([scorer(tokens) for scorer in held_out[int(folds[place])]]).numpy()
            for place in range(len(folds))
            for tokens, _ in [_tokens_and_shares(*look_at(place), maps)]
        ],
        axis=1,
    )
    areas = [float(value) / total.count for value in total.region_counts]
    thresholds = [float(np.quantile(row, 1 - area)) for row, area in zip(scores, areas, strict=True)]
    deviations = [max(_SMALLEST_DEVIATION, float(row.std())) for row in scores]
    calibrations = [Calibration(t, _LOGITS_A_DEVIATION / sd) for t, sd in zip(thresholds, deviations, strict=True)]
    guide.set_solution(_solve(total, guide.alpha, names), held_out, calibrations)
    if model.prior is not None and model.prior.project is not None:
        model.prior.mean_token.copy_((total.total / total.count).float().to(device))
    return FittedGuide(guide.alpha, len(folds), count, tuple(areas), tuple(thresholds), tuple(deviations))


def _tokens_and_shares(dense: Tensor, mask: Tensor, maps: int) -> tuple[Tensor, Tensor]:
    """Tokens (N, D) of length 1 of the cells of which more than half counts, and their shares (G, N), on the CPU."""
    empty = dense.new_zeros(1, maps, *dense.shape[2:])
    shares, counted = guide_target_of_counted(mask.to(dense.device), empty)
    kept = (counted.flatten() > 0.5).cpu()
    tokens = F.normalize(dense[0].float().flatten(1).T, dim=1).cpu()
    return tokens[kept], shares[0].flatten(1).cpu()[:, kept]


def _solve(sums: TokenSums, alpha: float, names: Sequence[str]) -> list[LinearScorer]:
    found = []
    for number, name in enumerate(names):
        try:
            found.append(fit_balanced_ridge(sums, number, alpha=alpha))
        except ValueError as error:
            raise DataError(
                f"model.guide.fit=closed-form: {name} must be seen, and something else too, in training images of two "
                "folds or more, as every fold is left out once; label more images that show it, or set "
                "model.guide.fit=gradient"
            ) from error
    return found
