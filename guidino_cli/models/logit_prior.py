"""A guide as a prior of the logits, and guide and tokens as further channels of a segmenter's input."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from guidino_cli.models.grids import resize_guide

_SMALLEST = 1e-6
"""Guides are cut to [1e-6, 1 - 1e-6]: logits lie in [-13.8, 13.8]."""
_TOKEN_SCALE = 4.0
"""Tokens of length 1 differ from their mean by about 1/4 of what the other channels vary by."""
_TOKEN_NOISE = 0.02
_LOGIT_NOISE = 0.5


class LogitPrior(nn.Module):
    """A guide's contribution to the logits, and the channels of guide and tokens for the segmenter's input.

    With e the logit of the guide, the logits of a foreground class become those of the network + gain * e, the gain
    learned from 1; those of the background stay. The segmenter may be shown e and the tokens as further channels: a
    token of length 1 without the mean token, reduced by a learned 1x1 convolution.

    In training a fixed guide gets noise, as it will be less sure of new images: in half of the samples e is shifted as
    a whole by N(0, 0.5), and tokens get N(0, 0.02) per entry.

    Args:
        maps: G, one map for each foreground class.
        channels: D, the width of the tokens.
        tokens: Channels that the tokens are reduced to; 0 to show the segmenter none.
        adds: Whether e is added to the logits.
        shows: Whether the segmenter is shown e.
        has_noise: Whether guide and tokens get noise in training.

    Attributes:
        channels: Further channels of the segmenter's input.
        mean_token: (D,) of all training images; 0 until it is set.
    """

    mean_token: Tensor

    def __init__(
        self, *, maps: int, channels: int, tokens: int = 0, adds: bool = True, shows: bool = False, has_noise: bool
    ) -> None:
        super().__init__()
        self.channels = tokens + (maps if shows else 0)
        self.shows, self.has_noise = shows, has_noise
        self.gain = nn.Parameter(torch.ones(maps)) if adds else None
        self.project = nn.Conv2d(channels, tokens, 1) if tokens else None
        self.register_buffer("mean_token", torch.zeros(channels) if tokens else None)

    def evidence(self, guide: Tensor) -> Tensor:
        """The logit (B, G, ...) of guide maps in [0, 1], with noise in training."""
        kept = guide.float().clamp(_SMALLEST, 1 - _SMALLEST)
        logit = kept.log() - (1 - kept).log()
        if not (self.training and self.has_noise):
            return logit
        each = (len(logit), *(1,) * (logit.ndim - 1))
        is_shifted = torch.rand(each, device=logit.device) < 0.5
        return logit + is_shifted * _LOGIT_NOISE * torch.randn(each, device=logit.device)

    def shown(self, dense: Tensor, evidence: Tensor) -> Tensor:
        """The further channels (B, `channels`, h, w) on the grid of the dense maps (B, D, h, w)."""
        parts = [evidence] if self.shows else []
        if self.project is not None:
            tokens = nn.functional.normalize(dense.float(), dim=1) - self.mean_token[:, None, None]
            tokens = _TOKEN_SCALE * tokens
            if self.training and self.has_noise:
                tokens = tokens + _TOKEN_NOISE * torch.randn_like(tokens)
            parts.append(self.project(tokens))
        return torch.cat(parts, dim=1)

    def add_to(self, levels: Sequence[Tensor], evidence: Tensor) -> list[Tensor]:
        """Logits (B, G + 1, ...) of every level with the prior added, resized to each level's grid."""
        if self.gain is None:
            return list(levels)
        own = self.gain.view(1, -1, *(1,) * (evidence.ndim - 2))
        return [
            torch.cat([level[:, :1], level[:, 1:] + own * resize_guide(evidence, level.shape[2:])], dim=1)
            for level in levels
        ]
