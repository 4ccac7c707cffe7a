"""Loaders of DINOv3, DINOv2 and other transformers ViTs as backbones, and a random DINOv3."""

from collections.abc import Sequence
from typing import Literal

import torch

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
    keep_mapped: bool = False,
) -> ViT | ConvNeXt:
    """Load a DINO backbone from a local folder or file, the Hugging Face cache or, unless offline, the hub.

    Args:
        family: Architecture that the weights must have.
        offline: Never contact the hub.
        weights: Folder in Hugging Face layout, file of Meta's, timm's or Hugging Face's, or hub id.
        size: Short name of the official weights, such as "base" or "convnext_tiny", instead of `weights`; "small" by
            default.
        layers: See `ViT` and `ConvNeXt`.
        norm: See `ViT` and `ConvNeXt`.
        scale: See `ViT`.
        dtype: See `load_network`.
        keep_mapped: See `load_network`.

    Raises:
        WeightsError: Missing, gated, damaged, or of another family; the message says what to do.
        ConfigError: No such size.
        ValueError: Both weights and size, or an invalid layer or scale.
    """
    if weights is not None and size is not None:
        raise ValueError(f"weights {weights} and size {size} are both given; leave one out")
    source = weights or find_by_size(family, size or "small").repository
    loaded = load_network(source, family=family, offline=offline, dtype=dtype, keep_mapped=keep_mapped)
    return as_backbone(loaded, layers=layers, norm=norm, scale=scale)


def load_vit(
    *,
    family: Literal["vit"],
    offline: bool,
    weights: str | None = None,
    size: str | None = None,
    layers: Sequence[int] | None = None,
    norm: bool = True,
    scale: float = 1.0,
    dtype: Dtype = "auto",
    keep_mapped: bool = False,
) -> ViT | ConvNeXt:
    """Load another ViT of transformers (ViT, DeiT, BEiT, MSN, the image side of CLIP and SigLIP); see `load_dino`.

    Raises:
        ValueError: Neither weights nor size, or both.
    """
    if (weights is None) == (size is None):
        raise ValueError("expected either weights (a folder, file or hub id) or size (see `guidino weights list`)")
    source = weights or find_by_size(family, str(size)).repository
    loaded = load_network(source, family=family, offline=offline, dtype=dtype, keep_mapped=keep_mapped)
    return as_backbone(loaded, layers=layers, norm=norm, scale=scale)


def as_backbone(
    loaded: LoadedNetwork, *, layers: Sequence[int] | None = None, norm: bool = True, scale: float = 1.0
) -> ViT | ConvNeXt:
    """Wrap a loaded network as a backbone."""
    kind = ConvNeXt if loaded.network.config.model_type == "dinov3_convnext" else ViT
    backbone = kind(
        loaded.network,
        identity=loaded.identity,
        layers=layers,
        norm=norm,
        scale=scale,
        mean=loaded.mean,
        std=loaded.std,
    )
    backbone.pending_dtype = loaded.pending_dtype
    return backbone


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
    """A DINOv3 ViT/16 with random weights: the control for any claim about pretraining, and the backbone of tests.

    Args:
        hidden_size: D.
        depth: Number of blocks.
        heads: Attention heads.
        registers: Register tokens.
        layer_scale: Initial LayerScale; 1e-5 is usual for training from scratch.
        seed: Seed of the weights, independent of the run's.
        layers: See `ViT`.
        norm: See `ViT`.
        scale: See `ViT`.
    """
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

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
