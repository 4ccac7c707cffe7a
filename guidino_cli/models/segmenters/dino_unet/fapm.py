"""The fidelity-aware projection module of Dino U-Net: from a ViT's width to a decoder's (its eq. 4 to 9)."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.blocks import conv_norm_act

Kind = Literal["film", "lowrank"]
RANKS: dict[Kind, int] = {"film": 256, "lowrank": 128}


class FAPM(nn.Module):
    """Projects maps of several scales, each to its own number of channels.

    Args:
        channels: D of the maps.
        widths: Channels of each result, finest first.
        kind: "film" modulates a projection of each scale's own by one that all share, as the text says; "lowrank" has
            the shared one alone, and no shortcut, which is what the parameter counts of the paper's Table IV are of.
        rank: R, channels of the projections.
    """

    def __init__(self, channels: int, widths: Sequence[int], *, kind: Kind, rank: int) -> None:
        super().__init__()
        self.shared = nn.Conv2d(channels, rank, 1)
        is_film = kind == "film"
        self.modulate = nn.ModuleList(_Modulation(channels, rank) for _ in widths) if is_film else None
        self.refine = nn.ModuleList(_Refinement(rank, width, shortcut=is_film) for width in widths)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """A map (B, width, h, w) for each (B, D, h, w)."""
        hidden = [self.shared(item) for item in maps]
        if self.modulate is not None:
            hidden = [
                modulate(item, context) for modulate, item, context in zip(self.modulate, maps, hidden, strict=True)
            ]
        return [refine(item) for refine, item in zip(self.refine, hidden, strict=True)]


class _Modulation(nn.Module):
    """Scales and shifts a scale's own projection, cell by cell, by what the shared context says (eq. 5, 6)."""

    def __init__(self, channels: int, rank: int) -> None:
        super().__init__()
        self.specific = nn.Conv2d(channels, rank, 1)
        self.generate = nn.Conv2d(rank, 2 * rank, 1)

    def forward(self, item: Tensor, context: Tensor) -> Tensor:
        factor, shift = self.generate(context).chunk(2, dim=1)
        return factor * self.specific(item) + shift


class _Refinement(nn.Module):
    """Projection, depthwise separable convolution, squeeze and excitation, shortcut (eq. 7 to 9)."""

    def __init__(self, rank: int, width: int, *, shortcut: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv_norm_act(rank, width, kernel=1),
            nn.Conv2d(width, width, 3, padding=1, groups=width),
            conv_norm_act(width, width, kernel=1),
            nn.Conv2d(width, width, 1),
        )
        self.excite = _Excitation(width)
        self.shortcut: nn.Module | None = None
        if shortcut:
            self.shortcut = nn.Identity() if rank == width else nn.Conv2d(rank, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        refined = self.excite(self.body(x))
        return refined if self.shortcut is None else refined + self.shortcut(x)


class _Excitation(nn.Module):
    """Weighs the channels by what they are on average (eq. 8)."""

    def __init__(self, width: int, reduction: int = 16) -> None:
        super().__init__()
        hidden = max(1, width // reduction)
        self.squeeze, self.weigh = nn.Conv2d(width, hidden, 1), nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight = F.relu(self.squeeze(x.mean(dim=(2, 3), keepdim=True)))
        return x * self.weigh(weight).sigmoid()
