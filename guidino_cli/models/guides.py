"""TokenBook (GuiDINO, section 3.1): tokens compared with learned prototypes become a guide map."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Guide

# Guide logits stay within +-10, so that the guide never rounds to 0 or 1 and its cross-entropy keeps a gradient.
_MAX_LOGIT = 10.0


class TokenBook(Guide):
    """Guide G of equation 1: an aggregate over prototypes p_n of the similarities of a token t.

    Tokens are first mapped by a learned 1x1 convolution, as in the authors' code: q = W t + b. With s_n = sim(q, p_n):

    * `mean`: G = 0.5 + 0.5 sum_n a_n s_n for cosine similarity (a logistic function for the dot product), with
      a_n = 1 / N as in the authors' code, or the learned alpha of equation 1 as a softmax (its sign would add nothing:
      a prototype can turn round). It is linear in the prototypes, so N of them act as one vector, m = sum_n a_n p_n,
      and the guide stays within 0.5 +- 0.5 |m|; more prototypes only make it start flatter.
    * `softmax`: G = sum_n a_n softmax_n(s_n / tau), a_n in (0, 1) learned, tau learned. Every token chooses the
      prototypes it resembles and they vote with their weights: N prototypes describe N kinds of tissue.
    * `logsumexp`: G = sigmoid(log sum_n w_n exp(s_n / tau) - c), w_n, tau and c learned. A token that resembles any
      prototype is foreground.

    Args:
        channels: D, the width of the tokens.
        prototypes: N. The authors tie it to the image size (256 at 256 px); here it is free.
        aggregate: See above.
        similarity: Cosine, or dot product divided by sqrt(D).
        learned_weights: Learn a_n in `mean`; the others always learn them.
        temperature: Initial tau of `softmax` and `logsumexp`.
        maps: G, guide maps, each with prototypes of its own; `model.guide.per_class` asks for one per foreground class.
    """

    weights: Tensor

    def __init__(
        self,
        *,
        channels: int,
        prototypes: int = 256,
        aggregate: Literal["mean", "softmax", "logsumexp"] = "mean",
        similarity: Literal["cosine", "dot"] = "cosine",
        learned_weights: bool = False,
        temperature: float = 0.1,
        maps: int = 1,
    ) -> None:
        super().__init__()
        if aggregate not in {"mean", "softmax", "logsumexp"} or similarity not in {"cosine", "dot"}:
            raise ValueError(f"aggregate '{aggregate}' with similarity '{similarity}'; see the TokenBook's options")
        if prototypes < 1 or (prototypes < 2 and aggregate == "softmax") or temperature <= 0 or maps < 1:
            found = f"{prototypes}, {temperature}, {maps}"
            raise ValueError(f"needs prototypes >= 1 (softmax 2), temperature > 0, maps >= 1; found {found}")
        self.aggregate = aggregate
        self.similarity = similarity
        self.project = nn.Conv2d(channels, channels, 1)
        self.book = nn.Parameter(torch.randn(maps, prototypes, channels) / math.sqrt(channels))
        weights = _initial_weights(aggregate, maps, prototypes)
        if aggregate == "mean" and not learned_weights:
            self.register_buffer("weights", weights, persistent=False)
        else:
            self.register_parameter("weights", nn.Parameter(weights))
        if aggregate != "mean":
            self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))
        if aggregate == "logsumexp":
            self.threshold = nn.Parameter(torch.zeros(maps, 1, 1))

    def forward(self, dense: Tensor) -> Tensor:
        """(B, D, h, w) tokens to (B, maps, h, w) guide maps in [0, 1], in full precision whatever surrounds it."""
        # In bfloat16 a fresh `mean` guide of 256 prototypes takes four values, and a sure guide rounds to 1.
        with torch.autocast(dense.device.type, enabled=False):
            return self._guide(dense.float())

    def _guide(self, dense: Tensor) -> Tensor:
        tokens = self.project(dense)
        scale = 1 / math.sqrt(tokens.shape[1])
        book: Tensor = self.book
        if self.similarity == "cosine":
            tokens, book, scale = F.normalize(tokens, dim=1), F.normalize(book, dim=2), 1.0
        if self.aggregate == "mean":
            return self._mean(tokens, book, scale)
        similarity = torch.einsum("bdhw,gnd->bgnhw", tokens, book) * scale / self.log_temperature.exp()
        weights = self.weights[None, :, :, None, None]
        if self.aggregate == "softmax":
            return (similarity.softmax(dim=2) * weights.sigmoid()).sum(dim=2)
        return _bounded((similarity + weights.log_softmax(dim=2)).logsumexp(dim=2) - self.threshold)

    def _mean(self, tokens: Tensor, book: Tensor, scale: float) -> Tensor:
        """One dot product with the weighted mean prototype: the same value as the mean over N, in 1/N of the time."""
        summary = (book * self.weights.softmax(dim=1)[..., None]).sum(dim=1)
        similarity = torch.einsum("bdhw,gd->bghw", tokens, summary) * scale
        if self.similarity == "dot":
            return _bounded(similarity)
        # Rounding may push a perfect match past 1.
        return (0.5 + 0.5 * similarity).clamp(0, 1)


def _bounded(logit: Tensor) -> Tensor:
    return torch.sigmoid(_MAX_LOGIT * torch.tanh(logit / _MAX_LOGIT))


def _initial_weights(aggregate: str, maps: int, prototypes: int) -> Tensor:
    """Votes of +-4 in turn for `softmax` (half the prototypes begin as foreground), equal weights for the others."""
    if aggregate != "softmax":
        return torch.zeros(maps, prototypes)
    return torch.where(torch.arange(prototypes) % 2 == 0, 4.0, -4.0).repeat(maps, 1)
