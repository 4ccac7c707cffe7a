"""Backbone of DINOv3 ConvNeXt: stages of strides 4, 8, 16 and 32."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from guidino_cli.models.backbones.normalizer import InputNormalizer
from guidino_cli.models.backbones.vit import resolve_layers
from guidino_cli.models.base import Backbone
from guidino_cli.models.pretrained.statistics import IMAGENET


class ConvNeXt(Backbone):
    """A transformers `DINOv3ConvNextModel`.

    Args:
        convnext: The network.
        identity: Source of the weights.
        layers: Stages whose outputs are returned, counted from 1; the last one by default. Stages after the deepest one
            are removed.
        norm: Apply the final LayerNorm to stage 4; the other stages have none, as in DINOv3's own code.
        scale: The image is first enlarged by this factor.
        mean: Per channel, for images in [0, 1]; ImageNet's by default.
        std: Per channel.
    """

    convnext: Any

    def __init__(
        self,
        convnext: Any,
        *,
        identity: dict[str, str],
        layers: Sequence[int] | None = None,
        norm: bool = True,
        scale: float = 1.0,
        mean: Sequence[float] = IMAGENET[0],
        std: Sequence[float] = IMAGENET[1],
    ) -> None:
        super().__init__()
        widths, self.depth = convnext.config.hidden_sizes, len(convnext.model.stages)
        self.layers = resolve_layers(layers, count=self.depth, unit="stages")
        del convnext.model.stages[max(self.layers) :]
        self.convnext = convnext
        self.identity = identity
        self.norm = norm
        self.level_channels = [widths[layer - 1] for layer in self.layers]
        self.channels = self.level_channels[-1]
        # The stem has stride 4; every later stage halves again.
        self.stride = 2 ** (self.layers[-1] + 1)
        self.normalizer = InputNormalizer(stride=2 ** (max(self.layers) + 1), scale=scale, mean=mean, std=std)
        self.freeze()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (B, D, h, w) of the selected stages in the image's dtype."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            features = self.normalizer(image).to(next(self.convnext.parameters()).dtype)
            maps: dict[int, Tensor] = {}
            for number, stage in enumerate(self.convnext.model.stages, start=1):
                features = stage(features)
                if number in self.layers:
                    maps[number] = self._apply_norm(features) if number == self.depth else features
            return [maps[layer].to(image.dtype) for layer in self.layers]

    def unused_parameters(self) -> list[nn.Parameter]:
        """The final norm if it is not applied."""
        is_used = self.norm and self.depth in self.layers
        return [] if is_used else list(self.convnext.layer_norm.parameters())

    def _apply_norm(self, features: Tensor) -> Tensor:
        if not self.norm:
            return features
        return self.convnext.layer_norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
