"""Pretrained and random backbones by name: DINOv3, DINOv2 and other transformers ViTs."""

from collections.abc import Sequence
from typing import Literal

import torch
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from guidino_cli.models.backbones.convnext import ConvNeXt
from guidino_cli.models.backbones.vit import ViT
from guidino_cli.models.pretrained.catalogue import find_by_size
from guidino_cli.models.pretrained.loading import Dtype, LoadedNetwork, load_network
from guidino_cli.models.pretrained.strict_loading import hash_weights


def load_dino(
    *,
    family: Literal["dinov3", "dinov2"],
    offline: bool,
    weights: str | None = None,
    size: str | None = None,
    layers: Sequence[int] | None = None,
    norm: bool = True,
    scale: float = 1.0,
    dtype: Dtype = "auto",
) -> ViT | ConvNeXt:
    """Load a DINO backbone from a local folder or file, the Hugging Face cache or, unless offline, the hub.

    Args:
        family: Which architecture the weights must be of.
        offline: Never ask the hub.
        weights: Folder in Hugging Face layout, file of Meta's, timm's or Hugging Face's, or hub id.
        size: Short name of the official weights, such as "base" or "convnext_tiny", instead of `weights`; "small" by
            default.
        layers: See `ViT` and `ConvNeXt`.
        norm: See `ViT` and `ConvNeXt`.
        scale: See `ViT`.
        dtype: See `load_network`.

    Raises:
        WeightsError: Missing, gated, damaged, or of another family; the message names the ways out.
        ConfigError: No such size.
        ValueError: Both weights and size, or a layer or scale that cannot be.
    """
    if weights is not None and size is not None:
        raise ValueError(f"weights {weights} and size {size} are both given; leave one out")
    source = weights or find_by_size(family, size or "small").repository
    loaded = load_network(source, family=family, offline=offline, dtype=dtype)
    return as_backbone(loaded, layers=layers, norm=norm, scale=scale)


def load_vit(
    *,
    family: Literal["vit"],
    offline: bool,
    weights: str,
    layers: Sequence[int] | None = None,
    norm: bool = True,
    scale: float = 1.0,
    dtype: Dtype = "auto",
) -> ViT | ConvNeXt:
    """Load another ViT of transformers (ViT, DeiT, BEiT, MSN, the image side of CLIP and SigLIP); see `load_dino`."""
    loaded = load_network(weights, family=family, offline=offline, dtype=dtype)
    return as_backbone(loaded, layers=layers, norm=norm, scale=scale)


def as_backbone(
    loaded: LoadedNetwork, *, layers: Sequence[int] | None = None, norm: bool = True, scale: float = 1.0
) -> ViT | ConvNeXt:
    """The backbone around a loaded network."""
    kind = ConvNeXt if loaded.network.config.model_type == "dinov3_convnext" else ViT
    return kind(
        loaded.network,
        identity=loaded.identity,
        layers=layers,
        norm=norm,
        scale=scale,
        mean=loaded.mean,
        std=loaded.std,
    )


def random_dino(
    *,
    hidden_size: int = 384,
    depth: int = 12,
    heads: int = 6,
    registers: int = 4,
    layer_scale: float = 1.0,
    seed: int = 0,
    layers: Sequence[int] | None = None,
    norm: bool = True,
    scale: float = 1.0,
) -> ViT:
    """A DINOv3 ViT/16 with random weights: the control of any claim about pretraining, and the tests' backbone.

    Args:
        hidden_size: D.
        depth: Blocks.
        heads: Of attention.
        registers: Tokens beside the class token.
        layer_scale: What each half of a block is multiplied by at first; 1e-5 is usual where it then learns whole.
        seed: Of the weights, apart from the run's.
        layers: See `ViT`; the next two likewise.
        norm: See there.
        scale: See there.
    """
    config = DINOv3ViTConfig(
        hidden_size=hidden_size,
        intermediate_size=4 * hidden_size,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        num_register_tokens=registers,
        layerscale_value=layer_scale,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vit = DINOv3ViTModel(config)
    identity = {"weights": f"random, seed {seed}", "sha256": hash_weights(vit)}
    return ViT(vit, identity=identity, layers=layers, norm=norm, scale=scale)
