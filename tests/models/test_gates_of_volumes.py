"""What a gate does in every segmenter of volumes: ones change nothing, zeros stop everything, a hole stays a hole."""

from collections.abc import Callable
from functools import cache
from typing import Literal

import pytest
import torch
from torch import Tensor

from guidino_cli.config import ComponentSettings, GuideSettings, ModelSettings
from guidino_cli.models import SEGMENTERS, build_backbone, build_model
from guidino_cli.models.base import Guide
from guidino_cli.models.composed import Model
from guidino_cli.models.segmenters.registry import SEGMENTER_INFO
from guidino_cli.registry import find

Place = Literal["input", "bottleneck", "features"]
Make = Callable[..., Model]
Plain = Callable[[str], Model]
KINDS = {name: find("segmenter", name, SEGMENTERS) for name, row in SEGMENTER_INFO.items() if row.dims == 3}
FITTING = [
    (name, place)
    for name, kind in KINDS.items()
    for place in ("input", "bottleneck", "features")
    if place != "input" or kind.reads_image
]
# No side is a multiple of any stride.
ODD = (9, 17, 19)


class Fixed(Guide):
    """Map z of a volume is slice z of the given guide (1, G, Z, h, w); the model asks slice by slice."""

    def __init__(self, guide: Tensor) -> None:
        super().__init__()
        self.slices = guide[0].transpose(0, 1)

    def forward(self, dense: Tensor) -> Tensor:
        return self.slices.repeat(len(dense) // len(self.slices), 1, 1, 1)


@pytest.fixture(scope="module")
def plain(
    small_segmenter: Callable[[str], ComponentSettings], small_backbone: ComponentSettings
) -> Callable[[str], Model]:
    """A model without a guide, in evaluation mode; made once, for nothing here learns."""

    @cache
    def model(name: str) -> Model:
        torch.manual_seed(0)
        settings = ModelSettings(small_segmenter(name), small_backbone if KINDS[name].uses_backbone else None)
        return build_model(settings, num_classes=2, dims=3).eval()

    return model


@pytest.fixture(scope="module")
def make(plain: Plain, small_backbone: ComponentSettings) -> Make:
    """The same weights with a guide."""
    other = build_backbone(small_backbone.name, small_backbone.options)

    def model(name: str, guide: Tensor, *, at: Place = "input", residual: bool = False) -> Model:
        bare = plain(name)
        backbone = bare.backbone or other
        return Model(bare.segmenter, backbone=backbone, guide=Fixed(guide), guide_at=at, residual=residual).eval()

    return model


def _volume(seed: int = 0, size: tuple[int, ...] = ODD) -> Tensor:
    return torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def _logits(model: Model, image: Tensor) -> list[Tensor]:
    return model(image).logits


@pytest.mark.parametrize(("name", "at"), FITTING)
def test_any_guide_learns_at_any_place_of_any_segmenter(
    name: str,
    at: Place,
    small_segmenter: Callable[[str], ComponentSettings],
    small_backbone: ComponentSettings,
) -> None:
    guide = GuideSettings(at=at, options={"prototypes": 4, "aggregate": "softmax"})
    model = build_model(ModelSettings(small_segmenter(name), small_backbone, guide=guide), num_classes=2, dims=3)
    prediction = model(torch.rand(2, 3, *ODD))
    torch.stack([level.square().mean() for level in prediction.logits]).sum().backward()
    assert prediction.logits[0].shape == (2, 2, *ODD)
    assert prediction.guide is not None
    # Patches of 16 pixels within every slice.
    assert prediction.guide.shape == (2, 1, 9, 2, 2)
    idle = [key for key, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not idle


@pytest.mark.parametrize(("name", "at"), FITTING)
def test_ones_and_residual_zeros_change_nothing(name: str, at: Place, make: Make, plain: Plain) -> None:
    expected = _logits(plain(name), _volume())
    ones = _logits(make(name, torch.ones(1, 1, 9, 3, 2), at=at), _volume())
    zeros = _logits(make(name, torch.zeros(1, 1, 9, 3, 2), at=at, residual=True), _volume())
    for found, same, wanted in zip(ones, zeros, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
        assert torch.equal(same, wanted)


@pytest.mark.parametrize(
    ("name", "at"),
    # A backbone sees the image beside a gate at the input.
    [(name, at) for name, at in FITTING if at == "features" or (at == "input" and not KINDS[name].uses_backbone)],
)
def test_zeros_let_nothing_of_the_volume_through(name: str, at: Place, make: Make, plain: Plain) -> None:
    """No path leads around the gates: two volumes give the same bits."""
    model = make(name, torch.zeros(1, 1, 9, 3, 2), at=at)
    assert torch.equal(_logits(model, _volume(0))[0], _logits(model, _volume(1))[0])
    assert not torch.equal(_logits(plain(name), _volume(0))[0], _logits(plain(name), _volume(1))[0])


@pytest.mark.parametrize("name", KINDS)
def test_a_hole_in_the_guide_shows_where_it_is(name: str, make: Make, plain: Plain) -> None:
    """One eighth of the guide is 0, later slices, upper rows, right columns: the logits change most there.

    Turned, transposed or mirrored it would be another eighth.
    """
    at: Place = "features" if KINDS[name].uses_backbone else "input"
    volume = _volume(size=(64, 64, 64))
    guide, corner = torch.ones(1, 1, 64, 4, 4), (1, 0, 1)
    guide[0, 0, 32:, :2, 2:] = 0
    change = (_logits(make(name, guide, at=at), volume)[0] - _logits(plain(name), volume)[0]).abs().mean(dim=(0, 1))
    eighths = torch.nn.functional.avg_pool3d(change[None], 32)[0]
    others = (eighths.sum() - eighths[corner]) / 7
    assert eighths[corner] > 1.5 * others
    assert eighths[corner] == eighths.max()
