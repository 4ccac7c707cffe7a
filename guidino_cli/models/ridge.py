"""Balanced ridge regression from tokens to regions, in closed form from sums over images, and the guide made of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Guide


@dataclass(frozen=True, eq=False)
class TokenSums:
    """Sums over tokens that determine the regressions to T regions.

    They are additive: images are added with `+` and left out with `-`, without looking at the other images again.

    Attributes:
        count: Number of tokens.
        total: (D,) float64 sum of the tokens.
        gram: (D, D) float64 sum of their outer products.
        region_counts: (T,) float64 sum of the shares of each region.
        region_totals: (T, D) float64 sums of the tokens weighted by those shares.
        region_grams: (T, D, D) float64 sums of the outer products weighted likewise.
    """

    count: float
    total: Tensor
    gram: Tensor
    region_counts: Tensor
    region_totals: Tensor
    region_grams: Tensor

    @classmethod
    def of(cls, tokens: Tensor, shares: Tensor) -> TokenSums:
        """Sums over the tokens of an image.

        Args:
            tokens: (N, D), usually of length 1 each.
            shares: (T, N) in [0, 1], the share of each token's cell that belongs to each region.
        """
        grams = []
        for share in shares:
            # Most cells lie outside of a region and add nothing.
            inside = share > 0
            rows = tokens[inside]
            grams.append((rows.T * share[inside]) @ rows)
        return cls(
            float(len(tokens)),
            tokens.sum(dim=0, dtype=torch.float64),
            (tokens.T @ tokens).double(),
            shares.sum(dim=1, dtype=torch.float64),
            (shares @ tokens).double(),
            torch.stack(grams).double(),
        )

    def __add__(self, other: TokenSums) -> TokenSums:
        return self._combine(other, 1.0)

    def __sub__(self, other: TokenSums) -> TokenSums:
        return self._combine(other, -1.0)

    def _combine(self, other: TokenSums, sign: float) -> TokenSums:
        return TokenSums(
            self.count + sign * other.count,
            self.total + sign * other.total,
            self.gram + sign * other.gram,
            self.region_counts + sign * other.region_counts,
            self.region_totals + sign * other.region_totals,
            self.region_grams + sign * other.region_grams,
        )


@dataclass(frozen=True, eq=False)
class LinearScorer:
    """Scores of tokens: 1/2 + weights . (token - centre); above 1/2 is closer to the region.

    Attributes:
        weights: (D,) float32.
        centre: (D,) float32, midway between the mean tokens of the region and of the rest.
    """

    weights: Tensor
    centre: Tensor

    def __call__(self, tokens: Tensor) -> Tensor:
        """Scores (N,) of tokens (N, D)."""
        return 0.5 + (tokens - self.centre) @ self.weights


def fit_balanced_ridge(sums: TokenSums, region: int = 0, *, alpha: float) -> LinearScorer:
    """Fit the ridge regression from tokens to one region, with the region and the rest weighing one half each.

    It is linear discriminant analysis with a shrunk covariance: with the means a of the region and b of the rest,
    m = (a + b) / 2 and C the balanced covariance about m, the weights are (C + alpha tr(C) / D I)^-1 (a - b) / 4.

    Args:
        sums: Over the images to learn from.
        region: Position of the region in the sums.
        alpha: Strength of the penalty relative to the mean variance of a token's entries, which makes it independent of
            the number of images; above 0.

    Raises:
        ValueError: No token belongs to the region, or all belong to it.
    """
    inside, outside = sums.region_counts[region], sums.count - sums.region_counts[region]
    # A subtraction of sums may leave a rounding error.
    if min(inside, outside) <= 1e-6:
        raise ValueError("tokens inside and outside of the region are needed")
    a = sums.region_totals[region] / inside
    b = (sums.total - sums.region_totals[region]) / outside
    centre = (a + b) / 2
    gram = sums.region_grams[region]
    covariance = gram / (2 * inside) + (sums.gram - gram) / (2 * outside) - torch.outer(centre, centre)
    penalty = alpha * covariance.diagonal().mean()
    ridge = covariance + penalty * torch.eye(len(centre), dtype=covariance.dtype, device=covariance.device)
    return LinearScorer(torch.linalg.solve(ridge, (a - b) / 4).float(), centre.float())


class RidgeGuide(Guide):
    """Guide 1/2 + w . (t - m) of a token t of length 1, cut to [0, 1]; w and m of each map by `fit_balanced_ridge`.

    Above 1/2 a token is closer to the labelled region, below it to the rest. `guidino fewshot` solves for the weights;
    they are weights as any other, so that training and LoRA may go on from them.

    Args:
        channels: D, the width of the tokens.
        maps: G, guide maps, each with weights of its own.
        alpha: Penalty with which `guidino fewshot` solves, see `fit_balanced_ridge`; null for K^(-3/4) with K labelled
            images.
    """

    def __init__(self, *, channels: int, maps: int = 1, alpha: float | None = None) -> None:
        super().__init__()
        if maps < 1 or not (alpha is None or alpha > 0):
            raise ValueError(f"needs maps >= 1 and alpha > 0 or null; found {maps}, {alpha}")
        self.alpha = alpha
        self.weight = nn.Parameter(torch.randn(maps, channels) / math.sqrt(channels))
        self.bias = nn.Parameter(torch.full((maps,), 0.5))

    def forward(self, dense: Tensor) -> Tensor:
        """(B, D, h, w) tokens to (B, maps, h, w) guide maps in [0, 1], in full precision whatever surrounds it."""
        with torch.autocast(dense.device.type, enabled=False):
            tokens = F.normalize(dense.float(), dim=1)
            scores = torch.einsum("bdhw,gd->bghw", tokens, self.weight) + self.bias[:, None, None]
            return scores.clamp(0, 1)

    @torch.no_grad()
    def set_scorers(self, scorers: Sequence[LinearScorer]) -> None:
        """Take the weights of one solved regression a map."""
        for number, scorer in enumerate(scorers):
            self.weight[number] = scorer.weights
            self.bias[number] = 0.5 - scorer.weights @ scorer.centre
