"""Any transformers ViT with patch tokens as a backbone: input normalization and dense feature maps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.errors import DataError
from guidino_cli.models.base import Backbone
from guidino_cli.models.pretrained.loading import IMAGENET


class InputNormalizer(nn.Module):
    """Brings (B, 1 or 3, H, W) in [0, 1] to what a network takes.

    Args:
        stride: Both sides become multiples of it.
        scale: The image is enlarged by this factor first.
        mean: Per channel, subtracted.
        std: Per channel, divided by.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, stride: int, scale: float, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"scale is {scale}, expected a positive factor")
        self.stride = stride
        self.scale = scale
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Sides that are no multiple of the stride are resized up to the next one.

        transformers would cut the rest of the image off in silence, and padding would shift the grid.

        Raises:
            DataError: Two, four or more channels: which of them are red, green and blue nobody can know.
        """
        if image.shape[1] not in {1, 3}:
            raise DataError(
                f"images of {image.shape[1]} channels, but a pretrained backbone sees 1 (grey) or 3 (colour); "
                "give those three alone, or use a model without backbone"
            )
        if image.shape[1] == 1:
            image = image.expand(-1, 3, -1, -1)
        height, width = (math.ceil(side * self.scale / self.stride) * self.stride for side in image.shape[-2:])
        if image.shape[-2:] != (height, width):
            image = F.interpolate(image, size=(height, width), mode="bicubic", align_corners=False).clamp(0, 1)
        return (image - self.mean) / self.std


@dataclass(frozen=True)
class _Body:
    """Where the parts of a family are.

    Attributes:
        blocks: Path of its list of blocks.
        norm: Path of the norm behind the last block.
        prefix: Tokens before the first patch, registers not counted.
        resizes: Whether it must be told that images need not have the size it was trained with.
    """

    blocks: str
    norm: str
    prefix: int
    resizes: bool = False


_BODIES = {
    "dinov3_vit": _Body("model.layer", "norm", 1),
    "dinov2": _Body("encoder.layer", "layernorm", 1),
    "dinov2_with_registers": _Body("encoder.layer", "layernorm", 1),
    "vit": _Body("layers", "layernorm", 1, resizes=True),
    "deit": _Body("layers", "layernorm", 2, resizes=True),
    "beit": _Body("layers", "layernorm", 1, resizes=True),
    "vit_msn": _Body("layers", "layernorm", 1, resizes=True),
    "clip_vision_model": _Body("encoder.layers", "post_layernorm", 1, resizes=True),
    "siglip_vision_model": _Body("encoder.layers", "post_layernorm", 0, resizes=True),
}


class ViT(Backbone):
    """A transformers ViT whose tokens come as [class tokens, registers, patches].

    Args:
        vit: One of the classes behind `_BODIES`.
        identity: Where the weights came from.
        layers: Blocks whose output is wanted, counted from 1; the last one by default. Blocks behind the deepest one
            are dropped: they cannot change the result.
        norm: Pass each through the final LayerNorm; without, tokens come as the block left them.
        scale: The image is enlarged by this factor first; a finer map for more time.
        mean: Per channel, of images in [0, 1]; ImageNet's by default.
        std: Per channel.
    """

    vit: Any

    def __init__(
        self,
        vit: Any,
        *,
        identity: dict[str, str],
        layers: Sequence[int] | None = None,
        norm: bool = True,
        scale: float = 1.0,
        mean: Sequence[float] = IMAGENET[0],
        std: Sequence[float] = IMAGENET[1],
    ) -> None:
        super().__init__()
        body = _BODIES[vit.config.model_type]
        blocks: Any = vit.get_submodule(body.blocks)
        self.layers = resolve_layers(layers, count=len(blocks), what="blocks")
        del blocks[max(self.layers) :]
        self.vit = vit
        self.identity = identity
        self.norm = norm
        self.channels = vit.config.hidden_size
        self.level_channels = [self.channels] * len(self.layers)
        self.stride = vit.config.patch_size
        self.prefix = body.prefix + getattr(vit.config, "num_register_tokens", 0)
        self.eye = InputNormalizer(stride=self.stride, scale=scale, mean=mean, std=std)
        self._arguments = {"interpolate_pos_encoding": True} if body.resizes else {}
        # In a tuple, because a module that is registered twice would be saved twice.
        self._taps = tuple(blocks[layer - 1] for layer in self.layers)
        self._final = (vit.get_submodule(body.norm),)
        self.freeze()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (B, D, h, w) of the wanted blocks in the image's precision; h = ceil(scale H / patch) and w likewise."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            pixels = self.eye(image).to(next(self.vit.parameters()).dtype)
            h, w = pixels.shape[-2] // self.stride, pixels.shape[-1] // self.stride
            states = self._states(pixels)
            tokens = [self._final[0](state) for state in states] if self.norm else states
            return [_patches(item, self.prefix, h, w).to(image.dtype) for item in tokens]

    def unused_parameters(self) -> list[nn.Parameter]:
        """The mask token, and the final norm where it is not used."""
        mask = [parameter for name, parameter in self.vit.named_parameters() if name.endswith("mask_token")]
        return [*mask, *([] if self.norm else self._final[0].parameters())]

    def _states(self, pixels: Tensor) -> list[Tensor]:
        """Outputs of the wanted blocks; of the others nothing is kept."""
        seen: dict[int, Tensor] = {}

        def keep(number: int) -> Any:
            return lambda _block, _inputs, output: seen.update({number: output[0] if type(output) is tuple else output})

        hooks = [tap.register_forward_hook(keep(number)) for number, tap in enumerate(self._taps)]
        try:
            self.vit(pixels, **self._arguments)
        finally:
            for hook in hooks:
                hook.remove()
        return [seen[number] for number in range(len(self._taps))]


def resolve_layers(layers: Sequence[int] | None, *, count: int, what: str) -> list[int]:
    """The wanted layers, checked; the last one by default.

    Raises:
        ValueError: No list of numbers, a layer that does not exist, or a deeper one before a shallower one.
    """
    if layers is not None and (type(layers) not in {list, tuple} or any(type(item) is not int for item in layers)):
        raise ValueError(f"layers are {layers!r}, expected a list of {what} such as [{count}]")
    layers = list(layers) if layers else [count]
    if min(layers) < 1 or max(layers) > count:
        raise ValueError(f"layers are {layers}, but the backbone has {what} 1..{count}")
    if layers != sorted(layers):
        raise ValueError(f"layers are {layers}, expected from shallow to deep: {sorted(layers)}")
    return layers


def _patches(tokens: Tensor, prefix: int, h: int, w: int) -> Tensor:
    """(B, prefix + h w, D) -> (B, D, h, w): patches are what remains behind class token and registers, row by row."""
    return tokens[:, prefix:].transpose(1, 2).unflatten(2, (h, w))
