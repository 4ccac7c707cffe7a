"""What a gate does in every segmenter there is: ones change nothing, zeros let nothing through, a hole stays a hole."""

from collections.abc import Callable
from functools import cache
from typing import Literal

import pytest
import torch
from torch import Tensor

from guidino_cli.config import ComponentSettings, GuideSettings, ModelSettings
from guidino_cli.errors import ConfigError
from guidino_cli.models import SEGMENTERS, build_backbone, build_model
from guidino_cli.models.base import Guide
from guidino_cli.models.composed import Model
from guidino_cli.models.segmenters.registry import SEGMENTER_INFO
from guidino_cli.registry import find

Place = Literal["input", "bottleneck", "features"]
Make = Callable[..., Model]
Logits = Callable[..., list[Tensor]]
KINDS = {name: find("segmenter", name, SEGMENTERS) for name in SEGMENTERS if SEGMENTER_INFO[name].dims == 2}
FITTING = [
    (name, place)
    for name, kind in KINDS.items()
    for place in ("input", "bottleneck", "features")
    if place in kind.guided_at and (place != "input" or kind.reads_image)
]
# No side is a multiple of any stride, so the guide is brought to pixels, padded, and to the grid.
ODD = (70, 53)


class Fixed(Guide):
    """The same guide for every image."""

    def __init__(self, guide: Tensor) -> None:
        super().__init__()
        self.guide = guide

    def forward(self, dense: Tensor) -> Tensor:
        return self.guide.expand(dense.shape[0], -1, -1, -1)


@pytest.fixture(scope="module")
def plain(
    small_segmenter: Callable[[str], ComponentSettings], small_backbone: ComponentSettings
) -> Callable[[str], Model]:
    """A model without a guide, in evaluation mode; made once, for nothing here learns."""

    @cache
    def model(name: str) -> Model:
        torch.manual_seed(0)
        settings = ModelSettings(small_segmenter(name), small_backbone if KINDS[name].uses_backbone else None)
        return build_model(settings, num_classes=2).eval()

    return model


@pytest.fixture(scope="module")
def make(plain: Callable[[str], Model], small_backbone: ComponentSettings) -> Make:
    """The same weights with a guide."""
    other = build_backbone(small_backbone.name, small_backbone.options)

    def model(name: str, guide: Tensor, *, at: Place = "input", residual: bool = False) -> Model:
        bare = plain(name)
        backbone = bare.backbone or other
        return Model(bare.segmenter, backbone=backbone, guide=Fixed(guide), guide_at=at, residual=residual).eval()

    return model


@pytest.fixture(scope="module")
def without(plain: Callable[[str], Model]) -> Logits:
    """Logits without a guide, computed once for every place of one: `without(name, seed=1)`."""

    @cache
    def logits(name: str, *, seed: int = 0, size: tuple[int, int] = ODD) -> list[Tensor]:
        return _logits(plain(name), _image(seed, size))

    return logits


def _image(seed: int = 0, size: tuple[int, int] = ODD) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def _logits(model: Model, image: Tensor) -> list[Tensor]:
    return model(image).logits


@pytest.mark.parametrize(("name", "at"), FITTING)
def test_a_guide_of_ones_changes_nothing(name: str, at: Place, make: Make, without: Logits) -> None:
    """But for the last bit: interpolation weights add up to 1 within rounding."""
    gated = _logits(make(name, torch.ones(1, 1, 5, 4), at=at), _image())
    for found, expected in zip(gated, without(name), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "at"), FITTING)
def test_a_residual_guide_of_zeros_changes_no_bit(name: str, at: Place, make: Make, without: Logits) -> None:
    gated = _logits(make(name, torch.zeros(1, 1, 5, 4), at=at, residual=True), _image())
    for found, expected in zip(gated, without(name), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("name", "at"),
    # A backbone sees the image beside a gate at the input.
    [(name, at) for name, at in FITTING if at == "features" or (at == "input" and not KINDS[name].uses_backbone)],
)
def test_zeros_let_nothing_of_the_image_through(name: str, at: Place, make: Make, without: Logits) -> None:
    """No path leads around the gates: two images give the same bits."""
    model = make(name, torch.zeros(1, 1, 5, 4), at=at)
    assert torch.equal(_logits(model, _image(0))[0], _logits(model, _image(1))[0])
    assert not torch.equal(without(name)[0], without(name, seed=1)[0])


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if "bottleneck" in kind.guided_at])
@torch.no_grad()
def test_zeros_at_the_bottleneck_leave_the_other_maps_alone(
    name: str, make: Make, plain: Callable[[str], Model]
) -> None:
    bare, image = plain(name), _image(size=(64, 64))
    dense = bare.backbone(image) if bare.backbone is not None else []
    *finer, deepest = bare.segmenter.encode((image - bare.mean) / bare.std, dense)
    expected = bare.segmenter.decode([*finer, torch.zeros_like(deepest)], (64, 64))[0]
    assert torch.equal(_logits(make(name, torch.zeros(1, 1, 4, 4), at="bottleneck"), image)[0], expected)


@pytest.mark.parametrize(("name", "at"), FITTING)
def test_a_hole_in_the_guide_shows_where_it_is(name: str, at: Place, make: Make, without: Logits) -> None:
    """The upper right quarter of the guide is 0: the quarter of the logits that changes most is the same.

    Turned, transposed or mirrored it would be another one.
    """
    # A scan reads on to the end of the map, and small decoders above few cells mix them all.
    margin = 1.2 if name in {"u-kan", "u-mamba", "sam2-unet"} else 2
    side = 256 if name == "u-kan" else 128
    guide, corner = torch.ones(1, 1, 8, 8), (0, 1)
    guide[0, 0, :4, 4:] = 0
    gated = _logits(make(name, guide, at=at), _image(size=(side, side)))[0]
    change = (gated - without(name, size=(side, side))[0]).abs().mean(dim=(0, 1))
    quarters = torch.nn.functional.avg_pool2d(change[None], side // 2)[0]
    others = (quarters.sum() - quarters[corner]) / 3
    assert quarters[corner] > margin * others
    assert quarters[corner] == quarters.max()


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.uses_backbone])
def test_no_segmenter_changes_the_dense_maps_it_is_given(name: str, plain: Callable[[str], Model]) -> None:
    """They may be kept for the next epoch."""
    model, image = plain(name), _image()
    assert model.backbone is not None
    dense = model.backbone(image)
    before = [item.clone() for item in dense]
    model(image, get_or_compute=lambda _: dense)
    assert all(torch.equal(item, kept) for item, kept in zip(dense, before, strict=True))


@pytest.mark.parametrize("num_classes", [2, 4])
def test_a_guide_per_class_has_a_map_for_each_foreground_class_of_the_data(
    num_classes: int, small_segmenter: Callable[[str], ComponentSettings], small_backbone: ComponentSettings
) -> None:
    settings = ModelSettings(small_segmenter("unet"), small_backbone, guide=GuideSettings(per_class=True))
    guide = build_model(settings, num_classes=num_classes)(_image()).guide
    assert guide is not None
    assert guide.shape[1] == num_classes - 1


def test_the_number_of_maps_cannot_be_typed(
    small_segmenter: Callable[[str], ComponentSettings], small_backbone: ComponentSettings
) -> None:
    settings = ModelSettings(small_segmenter("unet"), small_backbone, guide=GuideSettings(options={"maps": 3}))
    with pytest.raises(ConfigError, match="unknown option 'maps'"):
        build_model(settings, num_classes=4)
