"""What a gate does in every segmenter there is: ones change nothing, zeros let nothing through, a hole stays a hole."""

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor

from guidino_cli.config import GuideSettings, ModelSettings, Part
from guidino_cli.errors import ConfigError
from guidino_cli.models import SEGMENTERS, build_backbone, build_model
from guidino_cli.models.base import Guide
from guidino_cli.models.composed import Model
from guidino_cli.registry import find

Place = Literal["input", "bottleneck", "features"]
Make = Callable[..., Model]
KINDS = {name: find("segmenter", name, SEGMENTERS) for name in SEGMENTERS}
FITTING = [
    (name, place)
    for name, kind in KINDS.items()
    for place in ("input", "bottleneck", "features")
    if place != "input" or kind.reads_image
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


@pytest.fixture
def make(small_segmenter: Callable[[str], Part], small_backbone: Part) -> Make:
    """A model in evaluation mode; the same weights with and without a guide."""

    def model(name: str, *, guide: Tensor | None = None, at: Place = "input", residual: bool = False) -> Model:
        torch.manual_seed(0)
        settings = ModelSettings(small_segmenter(name), small_backbone if KINDS[name].uses_backbone else None)
        plain = build_model(settings, num_classes=2).eval()
        if guide is None:
            return plain
        backbone = plain.backbone or build_backbone(small_backbone.name, small_backbone.options)
        return Model(plain.segmenter, backbone=backbone, guide=Fixed(guide), guide_at=at, residual=residual).eval()

    return model


def _image(seed: int = 0, size: tuple[int, int] = ODD) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def _logits(model: Model, image: Tensor) -> list[Tensor]:
    return model(image).logits


@pytest.mark.parametrize(("name", "at"), FITTING)
def test_a_guide_of_ones_changes_nothing(name: str, at: Place, make: Make) -> None:
    """But for the last bit: interpolation weights add up to 1 within rounding."""
    gated = _logits(make(name, guide=torch.ones(1, 1, 5, 4), at=at), _image())
    for with_guide, without in zip(gated, _logits(make(name), _image()), strict=True):
        torch.testing.assert_close(with_guide, without, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "at"), FITTING)
def test_a_residual_guide_of_zeros_changes_no_bit(name: str, at: Place, make: Make) -> None:
    gated = _logits(make(name, guide=torch.zeros(1, 1, 5, 4), at=at, residual=True), _image())
    for with_guide, without in zip(gated, _logits(make(name), _image()), strict=True):
        assert torch.equal(with_guide, without)


@pytest.mark.parametrize(
    ("name", "at"),
    # A backbone sees the image beside a gate at the input.
    [(name, at) for name, at in FITTING if at == "features" or (at == "input" and not KINDS[name].uses_backbone)],
)
def test_zeros_let_nothing_of_the_image_through(name: str, at: Place, make: Make) -> None:
    """No path leads around the gates: two images give the same bits."""
    model = make(name, guide=torch.zeros(1, 1, 5, 4), at=at)
    assert torch.equal(_logits(model, _image(0))[0], _logits(model, _image(1))[0])
    assert not torch.equal(_logits(make(name), _image(0))[0], _logits(make(name), _image(1))[0])


@pytest.mark.parametrize("name", SEGMENTERS)
def test_zeros_at_the_bottleneck_leave_the_other_maps_alone(name: str, make: Make) -> None:
    plain, image = make(name), _image(size=(64, 64))
    dense = plain.backbone(image) if plain.backbone is not None else []
    with torch.no_grad():
        *finer, deepest = plain.segmenter.encode((image - plain.mean) / plain.std, dense)
        expected = plain.segmenter.decode([*finer, torch.zeros_like(deepest)], (64, 64))[0]
    assert torch.equal(_logits(make(name, guide=torch.zeros(1, 1, 4, 4), at="bottleneck"), image)[0], expected)


@pytest.mark.parametrize(("name", "at"), FITTING)
def test_a_hole_in_the_guide_shows_where_it_is(name: str, at: Place, make: Make) -> None:
    """The upper right quarter of the guide is 0: the quarter of the logits that changes most is the same.

    Turned, transposed or mirrored it would be another one.
    """
    # A scan reads on to the end of the map, and small decoders above few cells mix them all.
    margin = 1.2 if name in {"u-kan", "u-mamba", "sam2-unet"} else 2
    side = 256 if name == "u-kan" else 128
    guide, corner = torch.ones(1, 1, 8, 8), (0, 1)
    guide[0, 0, :4, 4:] = 0
    image = _image(size=(side, side))
    change = (_logits(make(name, guide=guide, at=at), image)[0] - _logits(make(name), image)[0]).abs().mean(dim=(0, 1))
    quarters = torch.nn.functional.avg_pool2d(change[None], side // 2)[0]
    others = (quarters.sum() - quarters[corner]) / 3
    assert quarters[corner] > margin * others
    assert quarters[corner] == quarters.max()


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.uses_backbone])
def test_no_segmenter_changes_the_dense_maps_it_is_given(name: str, make: Make) -> None:
    """They may be kept for the next epoch."""
    model, image = make(name), _image()
    assert model.backbone is not None
    dense = model.backbone(image)
    before = [item.clone() for item in dense]
    model(image, recall=lambda _: dense)
    assert all(torch.equal(item, kept) for item, kept in zip(dense, before, strict=True))


@pytest.mark.parametrize("num_classes", [2, 4])
def test_a_guide_per_class_has_a_map_for_each_foreground_class_of_the_data(
    num_classes: int, small_segmenter: Callable[[str], Part], small_backbone: Part
) -> None:
    settings = ModelSettings(small_segmenter("unet"), small_backbone, guide=GuideSettings(per_class=True))
    guide = build_model(settings, num_classes=num_classes)(_image()).guide
    assert guide is not None
    assert guide.shape[1] == num_classes - 1


def test_the_number_of_maps_cannot_be_typed(small_segmenter: Callable[[str], Part], small_backbone: Part) -> None:
    settings = ModelSettings(small_segmenter("unet"), small_backbone, guide=GuideSettings(options={"maps": 3}))
    with pytest.raises(ConfigError, match="unknown option 'maps'"):
        build_model(settings, num_classes=4)
