"""Networks of self-supervised learning: vision transformer, projection head, EMA teacher."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TINY = 1e-12


class DINOHead(nn.Module):
    """Three linear layers with GELU between them, a vector of length 1, its products with K prototypes.

    As in DINOv2 and DINOv3, the prototypes are not normalised (DINO's were).

    Args:
        channels: Of a token.
        prototypes: K.
        hidden: Of the two inner layers.
        bottleneck: Of the vector that is compared.
        last_std: Of the prototypes' entries at the beginning. A product of one with a vector of length 1 then has this
            standard deviation too: 0.02 in the papers.
    """

    def __init__(
        self, channels: int, *, prototypes: int, hidden: int = 2048, bottleneck: int = 256, last_std: float = 0.02
    ) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, bottleneck)
        )
        self.last = nn.Linear(bottleneck, prototypes, bias=False)
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        nn.init.trunc_normal_(self.last.weight, std=last_std, a=-2 * last_std, b=2 * last_std)

    def forward(self, tokens: Tensor) -> Tensor:
        """(..., D) -> (..., K) products."""
        return self.last(F.normalize(self.mlp(tokens), dim=-1, eps=_TINY))


M = TypeVar("M", bound=nn.Module)


def frozen_copy(module: M) -> M:
    """A copy that never learns by itself, in evaluation mode."""
    return copy.deepcopy(module).requires_grad_(False).eval()


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, *, momentum: float) -> None:
    """t <- m t + (1 - m) s for every parameter; buffers become the student's.

    Args:
        teacher: Changed in place; of the student's architecture.
        student: Stays.
        momentum: m; 0 makes the teacher equal to the student, 1 leaves it as it is.
    """
    own: list[Tensor] = list(teacher.parameters())
    others: list[Tensor] = list(student.parameters())
    torch._foreach_lerp_(own, others, 1 - momentum)
    for buffer, other in zip(teacher.buffers(), student.buffers(), strict=True):
        buffer.copy_(other)


class Tokens(NamedTuple):
    """Of a batch, behind the final norm.

    Attributes:
        cls: (B, D).
        patches: (B, h w, D), row by row.
    """

    cls: Tensor
    patches: Tensor


class TokenEncoder(nn.Module):
    """A transformers ViT whose tokens come as [class token, registers, patches].

    Args:
        network: Takes `pixel_values` and `bool_masked_pos`, and returns `last_hidden_state` behind the final norm.
        mean: Per channel, of images in [0, 1].
        std: Per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Any, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.channels: int = network.config.hidden_size
        self.patch: int = network.config.patch_size
        self.prefix = 1 + getattr(network.config, "num_register_tokens", 0)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tokens:
        """Tokens of images (B, 3, H, W) in [0, 1], both sides multiples of the patch.

        Args:
            image: Normalised here.
            mask: (B, h w) booleans, patches to show as the mask token only.
        """
        pixels = (image - self.mean) / self.std
        hidden = self.network(pixel_values=pixels, bool_masked_pos=mask).last_hidden_state
        return Tokens(hidden[:, 0], hidden[:, self.prefix :])
