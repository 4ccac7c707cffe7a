"""The Mamba block and its selective scan (Gu & Dao 2023, arXiv:2312.00752)."""

import importlib.util
import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from guidino_cli.errors import DependencyError

# States of one piece are kept at a time, those of a chunk are computed one after the other, all chunks side by side.
_PIECE, _CHUNK = 512, 16


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, *, delta_bias: Tensor
) -> Tensor:
    """h_t = exp(d_t A) h_(t-1) + d_t B_t u_t and y_t = C_t h_t + D u_t, with d = softplus(delta + bias) and h_0 = 0.

    On a GPU the kernel of the package mamba_ssm computes it if that is installed: the same values up to rounding,
    faster and in less memory. Without it, and on a CPU, torch does.

    Args:
        u: Input (batch, E, L) of E channels.
        delta: Step sizes (batch, E, L), before bias and softplus.
        A: (E, N), negative: how fast each of N states of a channel forgets.
        B: (batch, G, N, L): what enters the states; each of G groups serves E / G neighbouring channels.
        C: (batch, G, N, L): what is read of them.
        D: (E): what passes by them.
        delta_bias: (E).

    Returns:
        y, as `u`. It is computed in float32 at least.
    """
    kernel = fused_kernel() if u.is_cuda else None
    if kernel is not None:
        # Its groups are read from these shapes.
        return kernel(u, delta, A, B, C, D, None, delta_bias, True)
    kind = torch.promote_types(u.dtype, torch.float32)
    groups = B.shape[1]
    steps = F.softplus(delta.to(kind) + delta_bias.to(kind)[:, None])
    wide, steps = (x.to(kind).unflatten(1, (groups, -1)) for x in (u, steps))
    rates = A.to(kind).unflatten(0, (groups, -1))
    states = wide.new_zeros(*wide.shape[:3], A.shape[1])
    read: list[Tensor] = []
    for piece in zip(*(x.split(_PIECE, dim=-1) for x in (wide, steps, B.to(kind), C.to(kind))), strict=True):
        if torch.is_grad_enabled():
            # The states are 2 N times the size of the input: computed again when gradients need them.
            y, states = checkpoint(_piece, states, rates, *piece, use_reentrant=False, preserve_rng_state=False)
        else:
            y, states = _piece(states, rates, *piece)
        read.append(y)
    y = torch.cat(read, dim=-1) + wide * D.to(kind).unflatten(0, (groups, -1))[..., None]
    return y.flatten(1, 2).to(u.dtype)


@lru_cache(maxsize=1)
def fused_kernel() -> Callable[..., Tensor] | None:
    """`selective_scan_fn` of mamba_ssm, or None where that package is not installed.

    Raises:
        DependencyError: It is installed but broken, as after an update of torch.
    """
    if importlib.util.find_spec("mamba_ssm") is None:
        return None
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except ImportError as error:
        raise DependencyError(
            f"mamba_ssm is installed but cannot be imported ({error}); install it anew for this torch, or remove it"
        ) from error
    kernel: Callable[..., Tensor] = selective_scan_fn
    return kernel


def _piece(state: Tensor, rates: Tensor, u: Tensor, steps: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """One stretch of the recurrence, from `state` (batch, G, E, N): what is read of it, and the state after it.

    Every chunk begins at zero, and what the chunk before left is added where it ends up. Only decays, numbers in
    (0, 1], are multiplied and none is divided by, so nothing can overflow.
    """
    length = u.shape[-1]
    u, steps, B, C = (F.pad(x, (0, -length % _CHUNK)) for x in (u, steps, B, C))
    # A step of size 0, as in the padding, keeps the state as it is.
    decays = torch.exp(steps[..., None] * rates[:, :, None]).unflatten(3, (-1, _CHUNK))
    enters = ((steps * u)[..., None] * B.transpose(2, 3)[:, :, None]).unflatten(3, (-1, _CHUNK))
    own, left = [enters[..., 0, :]], [decays[..., 0, :]]
    for decay, enter in zip(decays.unbind(-2)[1:], enters.unbind(-2)[1:], strict=True):
        own.append(decay * own[-1] + enter)
        left.append(decay * left[-1])
    begins = []
    for kept, added in zip(left[-1].unbind(3), own[-1].unbind(3), strict=True):
        begins.append(state)
        state = kept * state + added
    states = torch.stack(own, -2) + torch.stack(left, -2) * torch.stack(begins, 3)[..., None, :]
    y = (states.flatten(3, 4) * C.transpose(2, 3)[:, :, None]).sum(-1)
    return y[..., :length], state


# Range of the step sizes of a newly initialised block, and their lower bound.
_SHORTEST, _LONGEST, _FLOOR = 1e-3, 1e-1, 1e-4


class Mamba(nn.Module):
    """Projection, short causal convolution, selective scan, gate, projection: token t sees tokens 1..t.

    Its weights have the names and shapes of those of mamba_ssm's `Mamba` and transformers' `MambaMixer`, and mean the
    same; transformers' own walks through the tokens one by one in Python.

    Args:
        channels: Channels of the tokens.
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
        self.A_log = nn.Parameter(init_a_log(inner, states))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, channels, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(init_dt_bias(inner))

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


def init_a_log(channels: int, states: int) -> Tensor:
    """(channels, states): logarithms of 1, 2, ..., N for each channel ("S4D-real")."""
    return torch.arange(1, states + 1, dtype=torch.float32).log().repeat(channels, 1)


def init_dt_bias(channels: int) -> Tensor:
    """(channels): biases whose softplus is drawn from [0.001, 0.1], evenly on a logarithmic scale."""
    low, high = math.log(_SHORTEST), math.log(_LONGEST)
    steps = torch.exp(low + (high - low) * torch.rand(channels)).clamp(min=_FLOOR)
    # The inverse of softplus.
    return steps + torch.log(-torch.expm1(-steps))
