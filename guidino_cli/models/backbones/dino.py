"""DINOv3 and DINOv2 by transformers, as a frozen source of dense maps aligned with the image."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from guidino_cli.models.base import Backbone
from guidino_cli.models.weights import fetch_pretrained, fingerprint

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)
_DEFAULT_WEIGHTS = {"dinov3": "facebook/dinov3-vits16-pretrain-lvd1689m", "dinov2": "facebook/dinov2-small"}


class DINO(Backbone):
    """A transformers ViT whose tokens come as [CLS, registers, patches].

    Args:
        vit: `DINOv3ViTModel`, `Dinov2Model` or `Dinov2WithRegistersModel`.
        identity: Where the weights came from.
        layers: Blocks whose output is wanted, counted from 1; each is passed through the final LayerNorm. Blocks behind
            the deepest one are dropped: they cannot change the result.
        scale: The image is enlarged by this factor first; a finer map for more time.
    """

    mean: Tensor
    std: Tensor
    vit: Any

    def __init__(self, vit: Any, *, identity: dict[str, str], layers: Sequence[int] | None, scale: float) -> None:
        super().__init__()
        depth = vit.config.num_hidden_layers
        self.layers = list(layers) if layers else [depth]
        if min(self.layers) < 1 or max(self.layers) > depth:
            raise ValueError(f"layers are {self.layers}, but the backbone has blocks 1..{depth}")
        if scale <= 0:
            raise ValueError(f"scale is {scale}, expected a positive factor")
        self.vit = vit
        self.identity = identity
        self.scale = scale
        self.channels = vit.config.hidden_size
        self.level_channels = [self.channels] * len(self.layers)
        self.stride = vit.config.patch_size
        self.prefix = 1 + getattr(vit.config, "num_register_tokens", 0)
        blocks = _blocks(vit)
        del blocks[max(self.layers) :]
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1), persistent=False)
        self.freeze()

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (B, D, h, w) of the wanted blocks, with h = ceil(scale H / patch) and w likewise.

        Sides that are no multiple of the patch are resized up to the next one: transformers would cut the rest of the
        image off in silence, and padding would shift the grid.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            h, w = (math.ceil(side * self.scale / self.stride) for side in image.shape[-2:])
            pixels = _fit(image, (h * self.stride, w * self.stride))
            output = self.vit((pixels - self.mean) / self.std, output_hidden_states=len(self.layers) > 1)
            if len(self.layers) == 1:
                tokens = [output.last_hidden_state]
            else:
                norm = self.vit.norm if hasattr(self.vit, "norm") else self.vit.layernorm
                tokens = [norm(output.hidden_states[layer]) for layer in self.layers]
            return [_patches(item, self.prefix, h, w) for item in tokens]


def load_dino(
    *,
    family: Literal["dinov3", "dinov2"],
    offline: bool,
    weights: str | None = None,
    layers: Sequence[int] | None = None,
    scale: float = 1.0,
) -> DINO:
    """Load a DINO backbone from a local folder, the Hugging Face cache or, unless offline, the hub.

    Args:
        family: Which architecture the weights must be of.
        offline: Never ask the hub.
        weights: Local folder in Hugging Face layout, or hub id; by default the family's small model.
        layers: See `DINO`.
        scale: See `DINO`.

    Raises:
        WeightsError: Missing, gated, damaged, or of another family; the message names the ways out.
    """
    vit, identity = fetch_pretrained(weights or _DEFAULT_WEIGHTS[family], family=family, offline=offline)
    return DINO(vit, identity=identity, layers=layers, scale=scale)


def random_dino(
    *,
    hidden_size: int = 384,
    depth: int = 12,
    heads: int = 6,
    registers: int = 4,
    seed: int = 0,
    layers: Sequence[int] | None = None,
    scale: float = 1.0,
) -> DINO:
    """A DINOv3 ViT/16 with random weights: the control of any claim about pretraining, and the tests' backbone."""
    config = DINOv3ViTConfig(
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        num_register_tokens=registers,
        layerscale_value=1.0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vit = DINOv3ViTModel(config)
    return DINO(
        vit, identity={"weights": f"random, seed {seed}", "sha256": fingerprint(vit)}, layers=layers, scale=scale
    )


def _blocks(vit: Any) -> nn.ModuleList:
    """The transformer blocks: DINOv3 calls their parent `model`, DINOv2 `encoder`."""
    return vit.model.layer if hasattr(vit, "model") else vit.encoder.layer


def _fit(image: Tensor, size: tuple[int, int]) -> Tensor:
    if image.shape[1] == 1:
        image = image.expand(-1, 3, -1, -1)
    if image.shape[-2:] == size:
        return image
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False).clamp(0, 1)


def _patches(tokens: Tensor, prefix: int, h: int, w: int) -> Tensor:
    """(B, prefix + h w, D) -> (B, D, h, w): patches are what remains behind CLS and registers, row by row."""
    return tokens[:, prefix:].transpose(1, 2).unflatten(2, (h, w))
