"""Settings of every registered segmenter in a small size, with the backbone that it needs."""

from collections.abc import Callable

import pytest

from guidino_cli.config import ComponentSettings, GuideSettings, ModelSettings
from guidino_cli.models.segmenters.registry import SEGMENTER_INFO, SEGMENTERS
from guidino_cli.registry import find

_BACKBONE = ComponentSettings("random", {"hidden_size": 32, "depth": 4, "heads": 2, "layers": [1, 2, 3, 4]})


@pytest.fixture(scope="session")
def small_segmenter() -> Callable[[str], ComponentSettings]:
    """The settings of a registered segmenter, small: `small_segmenter("nnunet")`."""

    def settings(name: str) -> ComponentSettings:
        if name == "smp":
            pytest.importorskip("segmentation_models_pytorch", exc_type=ImportError)
        return ComponentSettings(name, SEGMENTER_INFO[name].small)

    return settings


@pytest.fixture(scope="session")
def small_model(small_segmenter: Callable[[str], ComponentSettings]) -> Callable[[str], ModelSettings]:
    """The settings of a model with backbone and guide only if the segmenter reads them."""

    def settings(name: str) -> ModelSettings:
        kind = find("segmenter", name, SEGMENTERS)
        guide = GuideSettings("ridge", at="logits", per_class=True) if kind.reads_guide else None
        return ModelSettings(small_segmenter(name), _BACKBONE if kind.uses_backbone or guide else None, guide=guide)

    return settings


@pytest.fixture(scope="session")
def small_backbone() -> ComponentSettings:
    """Four blocks of random weights, all of them wanted."""
    return _BACKBONE
