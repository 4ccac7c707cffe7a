"""The guide that a training run solves in closed form: a logistic function of ridge scores, and its held-out forms."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.models.base import Guide
from guidino_cli.models.ridge import LinearScorer


class Calibration(NamedTuple):
    """Map from scores s to logits: slope * (s - threshold).

    Attributes:
        threshold: Where foreground and background are equally likely.
        slope: Logits a unit of score.
    """

    threshold: float
    slope: float


class CalibratedRidgeGuide(Guide):
    """Guide sigmoid(w . t + b) of a token t of length 1, solved before the first epoch and then fixed.

    Training images are given the guide that was solved without the images of their fold: a guide that has seen an
    image's mask is surer of it than it will be of new images, and a network would learn to trust it too much.

    Args:
        channels: D, the width of the tokens.
        maps: G, guide maps.
        alpha: Penalty of the regression, see `fit_balanced_ridge`.
        folds: Largest number of parts of the training images that are left out in turn, 2 or more.

    Attributes:
        weight: (G, D), solved on all training images.
        bias: (G,).
        fold_weight: (folds, G, D), each solved without one fold; those of folds that do not exist are 0.
        fold_bias: (folds, G).
    """

    weight: Tensor
    bias: Tensor
    fold_weight: Tensor
    fold_bias: Tensor

    def __init__(self, *, channels: int, maps: int = 1, alpha: float = 0.01, folds: int = 5) -> None:
        super().__init__()
        if maps < 1 or alpha <= 0 or folds < 2:
            raise ValueError(f"needs maps >= 1, alpha > 0 and folds >= 2; found {maps}, {alpha}, {folds}")
        self.alpha, self.folds = float(alpha), folds
        self.register_buffer("weight", torch.zeros(maps, channels))
        self.register_buffer("bias", torch.zeros(maps))
        self.register_buffer("fold_weight", torch.zeros(folds, maps, channels))
        self.register_buffer("fold_bias", torch.zeros(folds, maps))

    def forward(self, dense: Tensor) -> Tensor:
        """(B, D, h, w) tokens to (B, maps, h, w) guide maps in [0, 1], in full precision whatever surrounds it."""
        with torch.autocast(dense.device.type, enabled=False):
            tokens = F.normalize(dense.float(), dim=1)
            return torch.sigmoid(torch.einsum("bdhw,gd->bghw", tokens, self.weight) + self.bias[:, None, None])

    def held_out(self, dense: Tensor, folds: Tensor) -> Tensor:
        """Guide maps of training images by the guides fitted without their folds (B,)."""
        with torch.autocast(dense.device.type, enabled=False):
            tokens = F.normalize(dense.float(), dim=1)
            logits = torch.einsum("bdhw,bgd->bghw", tokens, self.fold_weight[folds])
            return torch.sigmoid(logits + self.fold_bias[folds][..., None, None])

    @torch.no_grad()
    def set_solution(
        self,
        scorers: Sequence[LinearScorer],
        held_out: Sequence[Sequence[LinearScorer]],
        calibrations: Sequence[Calibration],
    ) -> None:
        """Take what was solved.

        Args:
            scorers: One for each map, solved on all images.
            held_out: Likewise without each fold.
            calibrations: One for each map, for its scorer of all images and of every fold.
        """
        for number, calibration in enumerate(calibrations):
            self.weight[number], self.bias[number] = _as_logit(scorers[number], calibration)
            for fold, own in enumerate(held_out):
                self.fold_weight[fold, number], self.fold_bias[fold, number] = _as_logit(own[number], calibration)


def _as_logit(scorer: LinearScorer, calibration: Calibration) -> tuple[Tensor, Tensor]:
    """Weights and bias of slope * (score - threshold)."""
    offset = 0.5 - scorer.weights @ scorer.centre - calibration.threshold
    return calibration.slope * scorer.weights, calibration.slope * offset
