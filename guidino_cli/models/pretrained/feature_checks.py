"""Reference features of one fixed image that verify a network and its weights."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.errors import WeightsError
from guidino_cli.models.base import Backbone
from guidino_cli.models.pretrained.loading import LoadedNetwork

_SIDE = 224


def make_test_image() -> Tensor:
    """(1, 3, 224, 224) in [0, 1], the same on every machine: integer arithmetic on the coordinates."""
    y = torch.arange(_SIDE).view(1, _SIDE, 1)
    x = torch.arange(_SIDE).view(1, 1, _SIDE)
    channel = torch.arange(3).view(3, 1, 1)
    return ((7 * y + 13 * x + 29 * channel + y * x // 16) % 256).float().div(255)[None]


@torch.inference_mode()
def feature_fingerprint(backbone: Backbone) -> list[float]:
    """Six numbers of the test image's deepest map: its standard deviation, then the means of five channels.

    Raises:
        WeightsError: The map is not finite, although the weights are: they are far too large.
    """
    device = next(backbone.parameters()).device
    deepest = backbone(make_test_image().to(device))[-1][0].float().cpu()
    if not bool(torch.isfinite(deepest).all()):
        raise WeightsError(
            f"{backbone.identity.get('weights', 'backbone')}: the features of a test image are NaN or infinite, so the "
            "weights cannot be those of a trained network; download them again"
        )
    return [float(deepest.std()), *deepest[:5].mean(dim=(1, 2)).tolist()]


@torch.inference_mode()
def compute_class_token(loaded: LoadedNetwork, pixels: Tensor) -> list[float]:
    """First five values of the class token of an image (3, H, W) in [0, 1], resized to 224 x 224 as published."""
    image = F.interpolate(pixels[None], size=(_SIDE, _SIDE), mode="bilinear", align_corners=False, antialias=True)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (loaded.mean, loaded.std))
    weight = next(loaded.network.parameters())
    output = loaded.network(((image - mean) / std).to(weight.device, weight.dtype))
    return [float(value) for value in output.last_hidden_state[0, 0, :5].float().cpu()]


def max_feature_difference(found: Sequence[float], expected: Sequence[float]) -> float:
    """Largest absolute difference; infinity if the lengths differ or a value is not finite."""
    if len(found) != len(expected) or not all(map(math.isfinite, [*found, *expected])):
        return math.inf
    return max((abs(one - other) for one, other in zip(found, expected, strict=True)), default=0.0)


def feature_tolerance(loaded: LoadedNetwork) -> float:
    """Largest difference allowed between machines: arithmetic differs, more so in bfloat16."""
    return 0.05 if next(loaded.network.parameters()).dtype == torch.bfloat16 else 1e-3
