"""One vector per image from a frozen backbone, and the controls: a random network of the same shape, the pixels."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from guidino_cli.errors import ConfigError, ResourceError
from guidino_cli.models import build_backbone
from guidino_cli.models.backbones.spec import build_from_spec, describe_backbone
from guidino_cli.models.backbones.vit import ViT
from guidino_cli.models.base import Backbone
from guidino_cli.models.pretrained.strict_loading import hash_weights

Token = Literal["mean", "cls", "cls+mean"]
PIXELS_SIDE = 28
"""Side of the picture whose pixels are the control: that of the smallest public sets."""


def build_deepest(name: str, options: Mapping[str, Any], *, blocks: int, offline: bool) -> Backbone:
    """A frozen backbone that returns the maps of its deepest block, or of the last few up to it.

    Raises:
        ConfigError: It has fewer blocks, or no such option.
        WeightsError: Its weights cannot be loaded.
    """
    backbone: Backbone = build_backbone(name, dict(options), offline=offline, frozen=True)
    if blocks == 1:
        return backbone
    deepest = getattr(backbone, "layers", [0])[-1]
    if deepest < blocks:
        raise ConfigError(f"--layers {blocks}: backbone {name} has {deepest or 'no'} blocks to take; use --layers 1")
    layers = list(range(deepest - blocks + 1, deepest + 1))
    several: Backbone = build_backbone(name, {**options, "layers": layers}, offline=offline, frozen=True)
    return several


def require_token(backbone: Backbone, token: Token) -> None:
    """`ConfigError` for a class token of a backbone that has none."""
    if token != "mean" and not (isinstance(backbone, ViT) and backbone.has_class_token):
        raise ConfigError(f"--token {token}: {type(backbone).__name__} has no class token; use --token mean")


def random_twin(backbone: Backbone, *, seed: int) -> Backbone:
    """A network of the same shape, and with the same normalisation of images, whose weights are random.

    Raises:
        ConfigError: A backbone that cannot be rebuilt from its description.
    """
    try:
        spec = describe_backbone(backbone)
    except ConfigError as error:
        raise ConfigError(
            f"{type(backbone).__name__} cannot be built with random weights, which are the control; leave it out with "
            "--no-controls"
        ) from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        twin = build_from_spec(spec)
    twin.identity = {"weights": f"random, seed {seed}", "sha256": hash_weights(twin)}
    return twin


@torch.inference_mode()
def image_vectors(backbone: Backbone, images: Tensor, token: Token) -> np.ndarray:
    """Vectors of images (B, 3, H, W) in [0, 1]: (B, D) float16; several blocks stand side by side, shallow first.

    "mean" averages the patch tokens of a block, "cls" takes its class token, "cls+mean" both side by side.

    Raises:
        ResourceError: A value exceeds the range of half precision.
    """
    if token == "mean":
        parts = [level.float().mean(dim=(2, 3)) for level in backbone(images)]
    else:
        parts = []
        for summary, level in _as_vit(backbone).class_tokens_and_maps(images):
            parts.append(summary.float())
            if token == "cls+mean":
                parts.append(level.float().mean(dim=(2, 3)))
    vectors = torch.cat(parts, dim=1).half().cpu()
    if not bool(vectors.isfinite().all()):
        raise ResourceError("the backbone's features have values beyond 65,504, the limit of half precision")
    return np.asarray(vectors.numpy())


def pixel_vectors(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """(B, 3 x 28 x 28) float16 of pictures (3, 28, 28) in [0, 1]: the control of what no network adds."""
    return np.stack([picture.reshape(-1) for picture in pictures]).astype(np.float16)


def _as_vit(backbone: Backbone) -> ViT:
    if not isinstance(backbone, ViT):
        raise ValueError(f"{type(backbone).__name__} has no class token")
    return backbone
