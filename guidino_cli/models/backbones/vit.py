"""Backbone of any transformers ViT with patch tokens: dense feature maps of its blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from guidino_cli.models.backbones.normalizer import InputNormalizer
from guidino_cli.models.base import Backbone
from guidino_cli.models.pretrained.statistics import IMAGENET


@dataclass(frozen=True)
class _ViTModules:
    """Names of the modules of a transformers ViT.

    Attributes:
        blocks: Path of its list of blocks.
        norm: Path of the norm after the last block.
        prefix_tokens: Tokens before the first patch, registers not counted.
        interpolates: Whether `interpolate_pos_encoding` must be set for images of another size than in pretraining.
    """

    blocks: str
    norm: str
    prefix_tokens: int
    interpolates: bool = False


_MODULES = {
    "dinov3_vit": _ViTModules("model.layer", "norm", 1),
    "dinov2": _ViTModules("encoder.layer", "layernorm", 1),
    "dinov2_with_registers": _ViTModules("encoder.layer", "layernorm", 1),
    "vit": _ViTModules("layers", "layernorm", 1, interpolates=True),
    "deit": _ViTModules("layers", "layernorm", 2, interpolates=True),
    "beit": _ViTModules("layers", "layernorm", 1, interpolates=True),
    "vit_msn": _ViTModules("layers", "layernorm", 1, interpolates=True),
    "clip_vision_model": _ViTModules("encoder.layers", "post_layernorm", 1, interpolates=True),
    "siglip_vision_model": _ViTModules("encoder.layers", "post_layernorm", 0, interpolates=True),
}


class ViT(Backbone):
    """A transformers ViT whose tokens come as [class tokens, registers, patches].

    Args:
        vit: A transformers network of a `model_type` in `_MODULES`.
        identity: Source of the weights.
        layers: Blocks whose outputs are returned, counted from 1; the last one by default. Blocks after the deepest one
            are removed: they cannot change the result.
        norm: Apply the final LayerNorm to each output.
        scale: The image is first enlarged by this factor; a finer map for more time.
        mean: Per channel, for images in [0, 1]; ImageNet's by default.
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
        modules = _MODULES[vit.config.model_type]
        blocks: Any = vit.get_submodule(modules.blocks)
        self.layers = resolve_layers(layers, count=len(blocks), unit="blocks")
        del blocks[max(self.layers) :]
        self.vit = vit
        self.identity = identity
        self.norm = norm
        self.channels = vit.config.hidden_size
        self.level_channels = [self.channels] * len(self.layers)
        self.stride = vit.config.patch_size
        self.num_prefix_tokens = modules.prefix_tokens + getattr(vit.config, "num_register_tokens", 0)
        self.normalizer = InputNormalizer(stride=self.stride, scale=scale, mean=mean, std=std)
        self._arguments = {"interpolate_pos_encoding": True} if modules.interpolates else {}
        # In a tuple, because a module that is registered twice would be saved twice.
        self._selected_blocks = tuple(blocks[layer - 1] for layer in self.layers)
        self._final_norm = (vit.get_submodule(modules.norm),)
        self.freeze()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (B, D, h, w) of the selected blocks in the image's dtype; h = ceil(scale H / patch) and w likewise."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            tokens, (h, w) = self._tokens(image)
            return [_to_map(item, self.num_prefix_tokens, h, w).to(image.dtype) for item in tokens]

    @property
    def has_class_token(self) -> bool:
        """Whether the first token stands for the whole image."""
        return _MODULES[self.vit.config.model_type].prefix_tokens > 0

    def class_tokens_and_maps(self, image: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The class token (B, D) and the map of `forward` of each selected block.

        Raises:
            ValueError: The network has no class token.
        """
        if not self.has_class_token:
            raise ValueError(f"{self.vit.config.model_type} has no class token")
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            tokens, (h, w) = self._tokens(image)
            return [
                (item[:, 0].to(image.dtype), _to_map(item, self.num_prefix_tokens, h, w).to(image.dtype))
                for item in tokens
            ]

    def _tokens(self, image: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """All tokens of the selected blocks, and height and width of the grid of patches."""
        pixels = self.normalizer(image).to(next(self.vit.parameters()).dtype)
        h, w = pixels.shape[-2] // self.stride, pixels.shape[-1] // self.stride
        states = self._hidden_states(pixels)
        return [self._final_norm[0](state) for state in states] if self.norm else states, (h, w)

    def unused_parameters(self) -> list[nn.Parameter]:
        """The mask token, and the final norm if it is not applied."""
        mask = [parameter for name, parameter in self.vit.named_parameters() if name.endswith("mask_token")]
        return [*mask, *([] if self.norm else self._final_norm[0].parameters())]

    def _hidden_states(self, pixels: Tensor) -> list[Tensor]:
        """Outputs of the selected blocks; those of other blocks are not kept."""
        outputs: dict[int, Tensor] = {}

        def keep(number: int) -> Any:
            return lambda _block, _inputs, output: outputs.update(
                {number: output[0] if type(output) is tuple else output}
            )

        hooks = [block.register_forward_hook(keep(number)) for number, block in enumerate(self._selected_blocks)]
        try:
            self.vit(pixels, **self._arguments)
        finally:
            for hook in hooks:
                hook.remove()
        return [outputs[number] for number in range(len(self._selected_blocks))]


def resolve_layers(layers: Sequence[int] | None, *, count: int, unit: str) -> list[int]:
    """Validated layer numbers; the last layer by default.

    Args:
        layers: Numbers from 1, from shallow to deep.
        count: Number of layers.
        unit: What a layer is called in messages, such as "blocks".

    Raises:
        ValueError: No list of numbers, a layer that does not exist, or a deeper one before a shallower one.
    """
    if layers is not None and (type(layers) not in {list, tuple} or any(type(item) is not int for item in layers)):
        raise ValueError(f"layers are {layers!r}, expected a list of {unit} such as [{count}]")
    layers = list(layers) if layers else [count]
    if min(layers) < 1 or max(layers) > count:
        raise ValueError(f"layers are {layers}, but the backbone has {unit} 1..{count}")
    if layers != sorted(layers):
        raise ValueError(f"layers are {layers}, expected from shallow to deep: {sorted(layers)}")
    return layers


def _to_map(tokens: Tensor, prefix: int, h: int, w: int) -> Tensor:
    """(B, prefix + h w, D) -> (B, D, h, w): the patches follow class token and registers, row by row."""
    return tokens[:, prefix:].transpose(1, 2).unflatten(2, (h, w))
