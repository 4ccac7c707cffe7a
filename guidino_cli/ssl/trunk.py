"""A vision transformer as self-supervision uses it: images in, class token and patch tokens out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Tokens(NamedTuple):
    """Of a batch, behind the final norm.

    Attributes:
        cls: (B, D).
        patches: (B, h w, D), row by row.
    """

    cls: Tensor
    patches: Tensor


class Trunk(nn.Module):
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
