"""Every registered segmenter small enough to be tried in many ways, with the backbone that it needs."""

from collections.abc import Callable

import pytest

from guidino_cli.config import ComponentSettings, ModelSettings
from guidino_cli.models import SEGMENTERS
from guidino_cli.registry import find

# 72 million weights take seconds to draw; the number of stages is nnU-Net's.
_SMALL = {
    "light2d": {"widths": [8, 4]},
    "dino-unet": {"widths": [4, 4, 8, 8], "rank": 8},
    "nnunet": {"widths": [4, 4, 8, 8, 8, 8], "blocks": [1, 2, 1, 1, 1, 1]},
    "nnwnet": {"width": 4},
    "unet": {"width": 4},
    "swin-unet": {"width": 4, "depths": [2, 1, 1, 1], "heads": [1, 1, 2, 2], "window": 4},
    "dynunet": {"widths": [4, 4, 8, 8, 8]},
    "segresnet": {"width": 8, "blocks_down": [1, 1, 1, 1]},
    "unetpp": {"widths": [4, 4, 4, 8, 8, 4]},
    "attention-unet": {"widths": [4, 8, 8]},
    "unetr": {"image_size": 64, "width": 4, "hidden_size": 24, "mlp_size": 24, "heads": 2},
    "swin-unetr": {"width": 12, "depths": [2, 1, 1, 1], "window": 4},
    "segformer": {"size": "b0"},
    "upernet-swin": {"width": 12, "depths": [2, 1, 1, 1], "window": 4, "decoder_width": 16},
    "u-kan": {"widths": [16, 8, 8]},
    "u-mamba": {"widths": [8, 8, 8, 8], "states": 4},
    "swin-umamba": {"width": 8, "depths": [1, 1, 1], "rising": 1, "states": 4},
    "smp": {"variant": "Unet:resnet18", "arguments": {"encoder_depth": 3, "decoder_channels": [8, 8, 8]}},
    "h2former": {"width": 8, "convs": [1] * 4, "depths": [2, 1, 1, 1], "heads": [1, 2, 2, 2], "window": 4},
    "trans-unet": {
        "width": 8,
        "convs": [1, 1, 1],
        "hidden_size": 16,
        "depth": 1,
        "heads": 2,
        "mlp_size": 16,
        "decoder": [8, 8, 4, 4],
        "image_size": 32,
    },
    "sam2-unet": {"width": 8},
}
_BACKBONE = ComponentSettings("random", {"hidden_size": 32, "depth": 4, "heads": 2, "layers": [1, 2, 3, 4]})


@pytest.fixture(scope="session")
def small_segmenter() -> Callable[[str], ComponentSettings]:
    """The settings of a registered segmenter, small: `small_segmenter("nnunet")`."""

    def settings(name: str) -> ComponentSettings:
        if name == "smp":
            pytest.importorskip("segmentation_models_pytorch", exc_type=ImportError)
        return ComponentSettings(name, _SMALL.get(name, {}))

    return settings


@pytest.fixture(scope="session")
def small_model(small_segmenter: Callable[[str], ComponentSettings]) -> Callable[[str], ModelSettings]:
    """The settings of a model without guide, with a backbone only if the segmenter reads one."""

    def settings(name: str) -> ModelSettings:
        reads_backbone = find("segmenter", name, SEGMENTERS).uses_backbone
        return ModelSettings(small_segmenter(name), _BACKBONE if reads_backbone else None)

    return settings


@pytest.fixture(scope="session")
def small_backbone() -> ComponentSettings:
    """Four blocks of random weights, all of them wanted."""
    return _BACKBONE
