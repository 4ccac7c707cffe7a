"""Deformable cross-attention in plain PyTorch: each query looks at a few places of a map, and learns which."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class DeformableAttention(nn.Module):
    """Attention of tokens to one map (Zhu et al. 2021, with a single level); no CUDA extension.

    Fresh, head m looks into direction m of a circle, 1 to `points` cells away, with equal weights.

    Args:
        channels: D of the tokens and of the map.
        heads: M; channels of the values must be a multiple of it.
        points: P places that each head of a query looks at.
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
        """Start as the class says, whatever the weights were."""
        nn.init.zeros_(self.offsets.weight)
        with torch.no_grad():
            self.offsets.bias.copy_(_star(self.heads, self.points).flatten())
        for layer in (self.weights, self.values, self.out):
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.weights.weight)
        nn.init.xavier_uniform_(self.values.weight)
        nn.init.xavier_uniform_(self.out.weight)

    def forward(self, queries: Tensor, places: Tensor, tokens: Tensor, size_hw: tuple[int, int]) -> Tensor:
        """What each query finds.

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
        cells = torch.tensor([width, height], dtype=torch.float32, device=queries.device)
        where = places.float()[None, :, None, None] + offsets.float() / cells
        found = sample(values.float(), where)
        weights = self.weights(queries).unflatten(2, (self.heads, self.points)).softmax(dim=-1)
        mixed = torch.einsum("bmcqp,bqmp->bqmc", found, weights.float())
        return self.out(mixed.flatten(2).to(tokens.dtype))


def sample(values: Tensor, where: Tensor) -> Tensor:
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
