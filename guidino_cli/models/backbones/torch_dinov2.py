"""DINOv2's ViT in plain torch, for frozen backbones: importing transformers takes longer than predicting an image."""

from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import Dinov2Config, Dinov2Model


@dataclass(frozen=True)
class DINOv2Sizes:
    """Sizes of a DINOv2, under the names that transformers gives them."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    mlp_ratio: int
    patch_size: int
    image_size: int
    layer_norm_eps: float

    @property
    def model_type(self) -> str:
        """transformers' name of the architecture."""
        return "dinov2"

    def build_transformers_model(self) -> "Dinov2Model":
        """The same network in transformers, with random weights."""
        from transformers import Dinov2Model

        return Dinov2Model(self._transformers_config())

    def to_json_string(self, use_diff: bool = True) -> str:
        """The text of transformers' `config.json`."""
        return self._transformers_config().to_json_string(use_diff=use_diff)

    def _transformers_config(self) -> "Dinov2Config":
        from transformers import Dinov2Config

        return Dinov2Config(**asdict(self))


def dinov2_small_sizes(num_blocks: int) -> DINOv2Sizes:
    """Sizes of a DINOv2 ViT-S/14 with that many blocks."""
    return DINOv2Sizes(
        hidden_size=384,
        num_hidden_layers=num_blocks,
        num_attention_heads=6,
        mlp_ratio=4,
        patch_size=14,
        image_size=518,
        layer_norm_eps=1e-6,
    )


class TorchDINOv2(nn.Module):
    """The forward pass of transformers' `Dinov2Model`: same parameter names, same operations, same numbers.

    Args:
        config: The sizes.
    """

    def __init__(self, config: DINOv2Sizes) -> None:
        super().__init__()
        self.config = config
        self.embeddings = _Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_Block(config) for _ in range(config.num_hidden_layers))})
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        """Tokens (B, 1 + N, D), class token first, of normalised images (B, 3, H, W) whose sides are whole patches."""
        tokens: Tensor = self.embeddings(pixels)
        for block in self.encoder["layer"]:  # type: ignore[attr-defined]  # a ModuleList
            tokens = block(tokens)
        return self.layernorm(tokens)


class _Embeddings(nn.Module):
    def __init__(self, config: DINOv2Sizes) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.grid = config.image_size // patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        # Used in pretraining only.
        self.mask_token = nn.Parameter(torch.zeros(1, width))
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(3, width, patch, stride=patch)})
        self.position_embeddings = nn.Parameter(torch.zeros(1, self.grid**2 + 1, width))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embeddings["projection"](pixels)
        class_token = self.cls_token.expand(pixels.shape[0], -1, -1)
        tokens = torch.cat([class_token, patches.flatten(2).transpose(1, 2)], dim=1)
        return tokens + self._positions((patches.shape[-2], patches.shape[-1]))

    def _positions(self, size_hw: tuple[int, int]) -> Tensor:
        table: Tensor = self.position_embeddings
        if size_hw == (self.grid, self.grid):
            return table
        # In half precision, bicubic interpolation would shift them.
        grid = table[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid)).float()
        resized = F.interpolate(grid, size=size_hw, mode="bicubic", align_corners=False).to(table.dtype)
        return torch.cat([table[:, :1], resized.flatten(2).transpose(1, 2)], dim=1)


class _Block(nn.Module):
    """Pre-norm transformer block with LayerScale."""

    def __init__(self, config: DINOv2Sizes) -> None:
        super().__init__()
        width, hidden = config.hidden_size, config.hidden_size * config.mlp_ratio
        self.norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.attention = _Attention(width, config.num_attention_heads)
        self.layer_scale1 = _LayerScale(width)
        self.norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        layers = OrderedDict(fc1=nn.Linear(width, hidden), activation=nn.GELU(), fc2=nn.Linear(hidden, width))
        self.mlp = nn.Sequential(layers)
        self.layer_scale2 = _LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.layer_scale1(self.attention(self.norm1(x)))
        return x + self.layer_scale2(self.mlp(self.norm2(x)))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        projections = (self.q_proj, self.k_proj, self.v_proj)
        q, k, v = (project(x).unflatten(2, (self.heads, -1)).transpose(1, 2) for project in projections)
        return self.o_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _LayerScale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.lambda1
