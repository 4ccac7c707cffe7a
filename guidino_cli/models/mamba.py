"""The Mamba block (Gu & Dao 2023, arXiv:2312.00752): a sequence in, a sequence of the same size out."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.selective_scan import selective_scan

# Range of the step sizes that a fresh block begins with, and their floor.
_SHORTEST, _LONGEST, _FLOOR = 1e-3, 1e-1, 1e-4


class Mamba(nn.Module):
    """Projection, short causal convolution, selective scan, gate, projection: token t sees tokens 1..t.

    Its weights have the names and shapes of those of mamba_ssm's `Mamba` and transformers' `MambaMixer`, and mean the
    same; transformers' own walks through the tokens one by one in Python.

    Args:
        channels: Of the tokens.
        states: N of each inner channel.
        kernel: Tokens that the convolution sees.
        expand: Inner channels for each channel.
    """

    def __init__(self, channels: int, *, states: int = 16, kernel: int = 4, expand: int = 2) -> None:
        super().__init__()
        inner, rank = expand * channels, math.ceil(channels / 16)
        self.sizes = (rank, states, states)
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, kernel, groups=inner, padding=kernel - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(fresh_rates(inner, states))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, channels, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(fresh_steps(inner))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, L, channels) -> (B, L, channels)."""
        x, gate = self.in_proj(tokens).transpose(1, 2).chunk(2, dim=1)
        x = F.silu(self.conv1d(x)[..., : tokens.shape[1]])
        low, enter, read = self.x_proj(x.transpose(1, 2)).split(self.sizes, dim=-1)
        y = selective_scan(
            x,
            F.linear(low, self.dt_proj.weight).transpose(1, 2),
            -torch.exp(self.A_log.float()),
            enter.transpose(1, 2)[:, None],
            read.transpose(1, 2)[:, None],
            self.D.float(),
            delta_bias=self.dt_proj.bias.float(),
        )
        out: Tensor = self.out_proj((y * F.silu(gate)).transpose(1, 2))
        return out


def fresh_rates(channels: int, states: int) -> Tensor:
    """(channels, states): logarithms of 1, 2, ..., N for each channel ("S4D-real")."""
    return torch.arange(1, states + 1, dtype=torch.float32).log().repeat(channels, 1)


def fresh_steps(channels: int) -> Tensor:
    """(channels): biases whose softplus is drawn from [0.001, 0.1], evenly on a logarithmic scale."""
    low, high = math.log(_SHORTEST), math.log(_LONGEST)
    steps = torch.exp(low + (high - low) * torch.rand(channels)).clamp(min=_FLOOR)
    # The inverse of softplus.
    return steps + torch.log(-torch.expm1(-steps))
