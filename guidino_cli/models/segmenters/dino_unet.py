"""Dino U-Net (Gao et al. 2025): frozen DINOv3 features, projected (eq. 4 to 9), as a U-Net's skip connections."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.base import Segmenter
from guidino_cli.models.layers import conv_norm_act, conv_stage, decode_with_skips, initialise_kaiming
from guidino_cli.models.segmenters.dino_unet_adapter import NUM_LEVELS, ViTAdapter

FAPMKind = Literal["film", "lowrank"]
DEFAULT_RANKS: dict[FAPMKind, int] = {"film": 256, "lowrank": 128}


class FAPM(nn.Module):
    """Projects maps of several scales, each to its own number of channels.

    Args:
        channels: D of the maps.
        widths: Channels of each result, finest first.
        kind: "film" modulates a projection of each scale's own by one that all share, as the text says; "lowrank" has
            the shared one alone, and no shortcut, which is what the parameter counts of the paper's Table IV are of.
        rank: R, channels of the projections.
    """

    def __init__(self, channels: int, widths: Sequence[int], *, kind: FAPMKind, rank: int) -> None:
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
    """Modulates a scale's own projection, cell by cell, with scale and shift from the shared context (eq. 5, 6)."""

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


# The adapter's maps are 1/4 to 1/32 of the image, the skip connections 1 to 1/8.
_DOUBLINGS = 2


class DinoUNet(Segmenter):
    """Adapter, fidelity-aware projection (FAPM), learned upsampling, and nnU-Net's decoder.

    With two classes 6,194,560 trainable parameters in addition to a ViT-S; Table IV's 5.106 M, 11.651 M, 18.144 M and
    228.968 M are those of `fapm="lowrank"` with nnU-Net's coarser heads (`deep_supervision`), which the authors' code
    makes and does not train. The maps are the normed patch tokens of four blocks (3, 6, 9, 12 of ViT-S and ViT-B, 5,
    12, 18, 24 of ViT-L, 10, 20, 30, 40 of the 7B).

    Args:
        num_classes: K, background included.
        dense_channels: D of the backbone's four maps, shallow to deep; of one ViT, so all alike; a multiple of 32.
        in_channels: C.
        widths: Channels of the decoder at 1, 1/2, 1/4 and 1/8 of the image.
        fapm: "film" as the paper's text and code, "lowrank" as its parameter counts.
        rank: R of the projection; by default the paper's 256, and 128 with "lowrank".
        drop_path: Probability that a sample skips a feed-forward branch of the adapter in training.
        deep_supervision: Whether the maps at 1/2 and 1/4 have heads, too.
    """

    stride = 32
    uses_backbone = True
    output_layers = ("heads",)

    def __init__(
        self,
        *,
        num_classes: int,
        dense_channels: Sequence[int],
        in_channels: int = 3,
        widths: Sequence[int] = (32, 64, 128, 256),
        fapm: FAPMKind = "film",
        rank: int | None = None,
        drop_path: float = 0.3,
        deep_supervision: bool = False,
    ) -> None:
        super().__init__()
        _require_four_alike(dense_channels)
        if fapm not in DEFAULT_RANKS:
            raise ValueError(f"fapm is '{fapm}', expected film or lowrank")
        if len(widths) != NUM_LEVELS:
            raise ValueError(f"widths are {list(widths)}, expected four, one for each scale")
        if not 0 <= drop_path < 1:
            raise ValueError(f"drop_path is {drop_path}, expected 0 <= drop_path < 1")
        self.adapter = ViTAdapter(in_channels=in_channels, channels=dense_channels[0], drop_path=drop_path)
        self.fapm = FAPM(dense_channels[0], widths, kind=fapm, rank=DEFAULT_RANKS[fapm] if rank is None else rank)
        self.refine = nn.ModuleList(nn.ConvTranspose2d(width, width, 2, stride=2) for width in widths)
        self.up = nn.ModuleList(nn.ConvTranspose2d(below, width, 2, stride=2) for width, below in pairwise(widths))
        self.merge = nn.ModuleList(conv_stage(2 * width, width, count=2) for width in widths[:-1])
        supervised = widths[:-1] if deep_supervision else widths[:1]
        self.heads = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in supervised)
        for part in (self.fapm, self.refine, self.up, self.merge, self.heads):
            part.apply(initialise_kaiming)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """The skip connections, at 1, 1/2, 1/4 and 1/8 of the image."""
        skips = self.fapm(self.adapter(image, dense))
        for _ in range(_DOUBLINGS):
            # The same weights again, as in the authors' code; the paper does not speak of this step.
            skips = [refine(skip) for refine, skip in zip(self.refine, skips, strict=True)]
        return skips

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size alone, or at 1, 1/2 and 1/4 of it."""
        *skips, x = features
        return decode_with_skips(x, skips, rise=lambda level, x: self.up[level](x), merge=self.merge, heads=self.heads)


def _require_four_alike(channels: Sequence[int]) -> None:
    if len(channels) != NUM_LEVELS:
        raise ValueError(
            f"reads {NUM_LEVELS} blocks of its backbone, found {len(channels)}; "
            "set model.backbone.options.layers=[3,6,9,12] "
            "for a ViT of 12 blocks, [5,12,18,24] for one of 24, [10,20,30,40] for the 7B"
        )
    if len(set(channels)) != 1 or channels[0] % 32:
        raise ValueError(
            f"reads blocks of a ViT, all of one width that is a multiple of 32, found widths {list(channels)}; "
            "use a ViT backbone"
        )
