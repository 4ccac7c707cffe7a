"""Dino U-Net's adapter (eq. 2, 3): a convolutional pyramid with deformable attention to a ViT's features."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.device_transfer import to_device
from guidino_cli.models.layers import DropPath


class DeformableAttention(nn.Module):
    """Attention of tokens to one map (Zhu et al. 2021, with a single level); no CUDA extension.

    Fresh, head m looks into direction m of a circle, 1 to `points` cells away, with equal weights.

    Args:
        channels: D of the tokens and of the map.
        heads: M; channels of the values must be a multiple of it.
        points: P sampling points of each head of a query.
        ratio: Channels of the values, as a share of D.
    """

    def __init__(self, channels: int, *, heads: int = 16, points: int = 4, ratio: float = 0.5) -> None:
        super().__init__()
        width = int(channels * ratio)
        if width < 1 or width % heads:
            raise ValueError(f"{width} channels of values cannot be shared out among {heads} heads")
        self.heads, self.points = heads, points
        self.offsets = nn.Linear(channels, heads * points * 2)
        self.weights = nn.Linear(channels, heads * points)
        self.values = nn.Linear(channels, width)
        self.out = nn.Linear(width, channels)
        self.initialise()

    def initialise(self) -> None:
        """Reset the weights to the initial values that the class describes."""
        nn.init.zeros_(self.offsets.weight)
        with torch.no_grad():
            self.offsets.bias.copy_(_star(self.heads, self.points).flatten())
        for layer in (self.weights, self.values, self.out):
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.weights.weight)
        nn.init.xavier_uniform_(self.values.weight)
        nn.init.xavier_uniform_(self.out.weight)

    def forward(self, queries: Tensor, places: Tensor, tokens: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """Attend to the map at the queries' sampling points.

        Args:
            queries: (B, Q, D).
            places: (Q, 2), x and y of each query in [0, 1].
            tokens: (B, h w, D), the map row by row.
            size_hw: h and w.

        Returns:
            (B, Q, D).
        """
        height, width = size_hw
        values = self.values(tokens).transpose(1, 2).unflatten(1, (self.heads, -1)).unflatten(3, (height, width))
        offsets = self.offsets(queries).unflatten(2, (self.heads, self.points, 2))
        # In full precision: in bfloat16 places on a map of 48 cells would be a fifth of a cell apart.
        cells = to_device(torch.tensor([width, height], dtype=torch.float32), queries.device)
        where = places.float()[None, :, None, None] + offsets.float() / cells
        found = sample_bilinear(values.float(), where)
        weights = self.weights(queries).unflatten(2, (self.heads, self.points)).softmax(dim=-1)
        mixed = torch.einsum("bmcqp,bqmp->bqmc", found, weights.float())
        return self.out(mixed.flatten(2).to(tokens.dtype))


def sample_bilinear(values: Tensor, where: Tensor) -> Tensor:
    """Bilinear values at places; a cell's value is at its centre, and outside the map is 0.

    Args:
        values: (B, M, c, h, w), a map for each head.
        where: (B, Q, M, P, 2), x and y in [0, 1] from edge to edge of the map.

    Returns:
        (B, M, c, Q, P).
    """
    grid = (2 * where - 1).transpose(1, 2).flatten(0, 1)
    found = F.grid_sample(values.flatten(0, 1), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return found.unflatten(0, values.shape[:2])


def cell_centres(sizes_hw: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """(Q, 2): x and y in [0, 1] of every cell of grids that cover the same image, grid after grid, row by row."""
    grids = []
    for height, width in sizes_hw:
        y = (torch.arange(height, device=device) + 0.5) / height
        x = (torch.arange(width, device=device) + 0.5) / width
        grids.append(torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=-1))
    return torch.cat(grids)


def _star(heads: int, points: int) -> Tensor:
    """(M, P, 2) offsets in cells: the directions of a circle, scaled to the edge of a square, times 1 to P."""
    angle = torch.arange(heads, dtype=torch.float32) * (2 * math.pi / heads)
    direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
    direction = direction / direction.abs().amax(dim=-1, keepdim=True)
    return direction[:, None] * torch.arange(1, points + 1)[:, None]


NUM_LEVELS = 4
# Three extractors attend to the last map.
_EXTRACTORS = (1, 1, 1, 3)
_FEED_FORWARD = 0.25

GridSize = tuple[int, int]


class ViTAdapter(nn.Module):
    """Maps of the image at 1/4, 1/8, 1/16 and 1/32, enriched by four maps of a ViT, which stays untouched.

    Args:
        in_channels: C of the image.
        channels: D of the ViT's maps, and of the results.
        drop_path: Probability that a sample skips a feed-forward branch in training.
    """

    def __init__(self, *, in_channels: int, channels: int, drop_path: float) -> None:
        super().__init__()
        self.prior = SpatialPrior(in_channels, channels)
        self.scale_codes = nn.Parameter(torch.empty(3, channels))
        self.interactions = nn.ModuleList(
            nn.ModuleList(Extractor(channels, drop_path=drop_path) for _ in range(count)) for count in _EXTRACTORS
        )
        self.up = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        # The authors' SyncBatchNorm, whose training fails on a CPU.
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(NUM_LEVELS))
        self.apply(_initialise)
        nn.init.normal_(self.scale_codes)

    def forward(self, image: Tensor, dense: Sequence[Tensor]) -> list[Tensor]:
        """Four maps (B, D, ...), finest first.

        Args:
            image: (B, C, H, W), sides multiples of 32.
            dense: Four maps (B, D, h, w) on grids that cover the image, shallow to deep.
        """
        finest, *coarser = self.prior(image)
        sizes = [_size(item) for item in coarser]
        places = cell_centres(sizes, image.device)
        tokens = torch.cat([_tokens(item) + code for item, code in zip(coarser, self.scale_codes, strict=True)], dim=1)
        for extractors, tap in zip(self.interactions, dense, strict=True):
            for extractor in extractors:  # type: ignore[attr-defined]
                tokens = extractor(tokens, places, sizes, tap)
        coarser = _maps(tokens, sizes)
        maps = [finest + self.up(coarser[0]), *coarser]
        return [
            norm(item + F.interpolate(tap, size=_size(item), mode="bilinear", align_corners=False))
            for norm, item, tap in zip(self.norms, maps, dense, strict=True)
        ]


class SpatialPrior(nn.Module):
    """The convolutional branch: maps of D channels at 1/4, 1/8, 1/16 and 1/32 of the image.

    Args:
        in_channels: C.
        channels: D.
        width: Channels of the stem.
    """

    def __init__(self, in_channels: int, channels: int, width: int = 64) -> None:
        super().__init__()
        stem = [_conv(in_channels, width, stride=2), _conv(width, width), _conv(width, width)]
        widths = [width, 2 * width, 4 * width, 4 * width]
        self.stages = nn.ModuleList(
            [
                nn.Sequential(*stem, nn.MaxPool2d(3, stride=2, padding=1)),
                *(_conv(before, after, stride=2) for before, after in pairwise(widths)),
            ]
        )
        self.project = nn.ModuleList(nn.Conv2d(item, channels, 1) for item in widths)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Finest first."""
        x, maps = image, []
        for stage, project in zip(self.stages, self.project, strict=True):
            x = stage(x)
            maps.append(project(x))
        return maps


class Extractor(nn.Module):
    """Deformable cross-attention from tokens of three scales to one map of the ViT, then an MLP, scale by scale.

    Args:
        channels: D.
        drop_path: Probability that a sample skips the second half in training.
    """

    def __init__(self, channels: int, *, drop_path: float) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(channels, eps=1e-6)
        self.dense_norm = nn.LayerNorm(channels, eps=1e-6)
        self.attention = DeformableAttention(channels)
        self.inner_norm = nn.LayerNorm(channels, eps=1e-6)
        self.feed_forward = _FeedForward(channels)
        self.drop_path = DropPath(drop_path)

    def forward(self, tokens: Tensor, places: Tensor, sizes: Sequence[GridSize], dense: Tensor) -> Tensor:
        """Tokens (B, Q, D) of grids of `sizes`, whose centres are `places` (Q, 2); `dense` is (B, D, h, w)."""
        dense_tokens = self.dense_norm(_tokens(dense))
        tokens = tokens + self.attention(self.query_norm(tokens), places, dense_tokens, _size(dense))
        return tokens + self.drop_path(self.feed_forward(self.inner_norm(tokens), sizes))


class _FeedForward(nn.Module):
    """Two linear layers with a depthwise convolution between them, over each scale with the same weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = int(channels * _FEED_FORWARD)
        self.first = nn.Linear(channels, hidden)
        self.mix = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.second = nn.Linear(hidden, channels)

    def forward(self, tokens: Tensor, sizes: Sequence[GridSize]) -> Tensor:
        mixed = [_tokens(self.mix(item)) for item in _maps(self.first(tokens), sizes)]
        return self.second(F.gelu(torch.cat(mixed, dim=1)))


def _conv(channels_in: int, channels_out: int, *, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True))


def _size(item: Tensor) -> GridSize:
    return item.shape[-2], item.shape[-1]


def _tokens(item: Tensor) -> Tensor:
    """(B, D, h, w) -> (B, h w, D), row by row."""
    return item.flatten(2).transpose(1, 2)


def _maps(tokens: Tensor, sizes: Sequence[GridSize]) -> list[Tensor]:
    """(B, Q, D) -> a map (B, D, h, w) of each grid."""
    parts = tokens.transpose(1, 2).split([height * width for height, width in sizes], dim=2)
    return [part.unflatten(2, size) for part, size in zip(parts, sizes, strict=True)]


def _initialise(module: nn.Module) -> None:
    """Initialise as ViT-Adapter, from which the authors took the module."""
    if isinstance(module, DeformableAttention):
        module.initialise()
    elif isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        seen = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / seen))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
