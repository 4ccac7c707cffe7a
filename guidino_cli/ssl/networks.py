"""Networks of self-supervised learning: token encoder, projection head, EMA teacher."""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_EPS = 1e-12


class DINOHead(nn.Module):
    """Projection head: three linear layers with GELU, L2 normalisation, dot products with K prototypes.

    As in DINOv2 and DINOv3, the prototypes are not normalised (DINO's were).

    Args:
        channels: Width of a token.
        prototypes: K.
        hidden: Width of the two hidden layers.
        bottleneck: Width of the normalised vector.
        last_std: Initial standard deviation of the prototypes. A product of one with a vector of length 1 then has this
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
        """Tokens (..., D) to logits (..., K)."""
        return self.last(F.normalize(self.mlp(tokens), dim=-1, eps=_EPS))


M = TypeVar("M", bound=nn.Module)


def frozen_copy(module: M) -> M:
    """A deep copy without gradients, in evaluation mode."""
    return copy.deepcopy(module).requires_grad_(False).eval()


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, *, momentum: float) -> None:
    """t <- m t + (1 - m) s for every parameter; buffers are copied from the student.

    Args:
        teacher: Changed in place; of the student's architecture.
        student: Left unchanged.
        momentum: m; 0 copies the student, 1 keeps the teacher.
    """
    teacher_parameters: list[Tensor] = list(teacher.parameters())
    student_parameters: list[Tensor] = list(student.parameters())
    torch._foreach_lerp_(teacher_parameters, student_parameters, 1 - momentum)
    for teacher_buffer, student_buffer in zip(teacher.buffers(), student.buffers(), strict=True):
        teacher_buffer.copy_(student_buffer)


class Tokens(NamedTuple):
    """Tokens of a batch after the final norm.

    Attributes:
        cls: (B, D).
        patches: (B, h w, D), row by row.
    """

    cls: Tensor
    patches: Tensor


class TokenEncoder(nn.Module):
    """A transformers ViT with input normalisation, whose tokens come as [class token, registers, patches].

    Args:
        network: Takes `pixel_values` and `bool_masked_pos`, and returns `last_hidden_state` after the final norm.
        mean: Per channel, for images in [0, 1].
        std: Per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: Any, *, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        self.channels: int = network.config.hidden_size
        self.patch_size: int = network.config.patch_size
        self.num_prefix_tokens = 1 + getattr(network.config, "num_register_tokens", 0)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tokens:
        """Tokens of images (B, 3, H, W) in [0, 1], both sides multiples of the patch size.

        Args:
            image: Normalised here.
            mask: (B, h w) booleans; True replaces a patch by the mask token.
        """
        pixels = (image - self.mean) / self.std
        hidden = self.network(pixel_values=pixels, bool_masked_pos=mask).last_hidden_state
        return Tokens(hidden[:, 0], hidden[:, self.num_prefix_tokens :])
