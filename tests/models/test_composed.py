"""Any guide at any place of any segmenter; and what a gate really multiplies."""

from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from guidino_cli.config import ComponentSettings, GuideSettings, ModelSettings
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.models import SEGMENTERS, build_model
from guidino_cli.models.base import Backbone, Guide, Segmenter
from guidino_cli.models.composed import Model
from guidino_cli.models.segmenters.registry import SEGMENTER_INFO
from guidino_cli.registry import find

Place = Literal["input", "bottleneck", "features"]
PLACES: tuple[Place, ...] = ("input", "bottleneck", "features")
AGGREGATES = ("mean", "softmax", "logsumexp")
BACKBONE = ComponentSettings("random", {"hidden_size": 32, "depth": 2, "heads": 2})
FITTING = [
    (name, place)
    for name in SEGMENTERS
    if SEGMENTER_INFO[name].dims == 2
    for place in PLACES
    if place in (kind := find("", name, SEGMENTERS)).guided_at and (place != "input" or kind.reads_image)
]
# A guide sees dense maps and gives a map, whatever the segmenter: every aggregate at every place is enough.
MIXED = [(*pair, AGGREGATES[(i + i // len(PLACES)) % len(AGGREGATES)]) for i, pair in enumerate(FITTING)]
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)


class Seen(Segmenter):
    """Remembers what `encode` was given and what `decode` was given; its maps are ones at 1 and 1/4 of the image."""

    stride = 16

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        self.image = image
        coarse = image[:, :1, ::4, ::4]
        return [torch.ones_like(image[:, :1]), torch.ones_like(coarse)]

    def decode(self, features: list[Tensor], size_hw: tuple[int, int]) -> list[Tensor]:
        self.features = features
        return [features[0].expand(-1, 2, -1, -1)]


class Means(Segmenter):
    """Its scores are the first channel of the image, and its means over 2 x 2 and 4 x 4 pixels."""

    stride = 4

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        return [image[:, :1]]

    def decode(self, features: list[Tensor], size_hw: tuple[int, int]) -> list[Tensor]:
        return [features[0], nn.functional.avg_pool2d(features[0], 2), nn.functional.avg_pool2d(features[0], 4)]


class Columns(Backbone):
    """Its only map holds the column index as a share of the width, on a grid of one row."""

    channels, stride, identity, is_frozen = 1, 16, {"weights": "none", "sha256": "0"}, True

    def __init__(self, cells: int) -> None:
        super().__init__()
        self.cells = cells

    def forward(self, image: Tensor) -> list[Tensor]:
        return [torch.linspace(0, 1, self.cells).view(1, 1, 1, -1).expand(image.shape[0], -1, -1, -1)]


class Constant(Guide):
    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = values

    def forward(self, dense: Tensor) -> Tensor:
        return torch.tensor(self.values).view(1, -1, 1, 1).expand(dense.shape[0], -1, 2, 2)


class Same(Guide):
    def forward(self, dense: Tensor) -> Tensor:
        return dense


def _seen(
    guide: nn.Module, *, at: Place, size: tuple[int, int] = (32, 32), cells: int = 4, residual: bool = False
) -> Seen:
    segmenter = Seen()
    Model(segmenter, backbone=Columns(cells), guide=guide, guide_at=at, residual=residual)(_image(size))
    return segmenter


def _image(size: tuple[int, int]) -> Tensor:
    torch.manual_seed(0)
    return torch.rand(1, 3, *size)


@pytest.mark.parametrize(("name", "place", "aggregate"), MIXED)
def test_any_guide_fits_any_segmenter_at_any_place(
    name: str,
    place: Place,
    aggregate: str,
    small_segmenter: Callable[[str], ComponentSettings],
    small_backbone: ComponentSettings,
) -> None:
    guide = GuideSettings(at=place, options={"prototypes": 4, "aggregate": aggregate})
    model = build_model(ModelSettings(small_segmenter(name), small_backbone, guide=guide), num_classes=2)
    prediction = model(torch.rand(2, 3, 33, 41))
    torch.stack([level.square().mean() for level in prediction.logits]).sum().backward()
    assert prediction.logits[0].shape == (2, 2, 33, 41)
    assert prediction.guide is not None
    assert prediction.guide.shape == (2, 1, 3, 3)
    assert prediction.guide.min() >= 0
    assert prediction.guide.max() <= 1
    idle = [key for key, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not idle


def test_a_guide_at_the_input_multiplies_the_normalised_image() -> None:
    seen = _seen(Constant(0.25), at="input")
    torch.testing.assert_close(seen.image, (_image((32, 32)) - MEAN) / STD * 0.25)


def test_a_guide_at_the_input_leaves_the_features_alone() -> None:
    assert all(torch.equal(item, torch.ones_like(item)) for item in _seen(Constant(0.25), at="input").features)


def test_a_guide_at_the_bottleneck_multiplies_the_deepest_map_only() -> None:
    seen = _seen(Constant(0.25), at="bottleneck")
    assert torch.equal(seen.features[0], torch.ones(1, 1, 32, 32))
    assert torch.equal(seen.features[1], torch.full((1, 1, 8, 8), 0.25))
    torch.testing.assert_close(seen.image, (_image((32, 32)) - MEAN) / STD)


def test_a_guide_at_the_features_multiplies_every_map() -> None:
    assert all(torch.equal(item, torch.full_like(item, 0.25)) for item in _seen(Constant(0.25), at="features").features)


def test_a_residual_gate_multiplies_by_one_plus_the_guide() -> None:
    assert torch.equal(
        _seen(Constant(0.25), at="bottleneck", residual=True).features[1], torch.full((1, 1, 8, 8), 1.25)
    )


def test_of_several_guide_maps_the_largest_gates() -> None:
    assert torch.equal(_seen(Constant(0.25, 0.75), at="bottleneck").features[1], torch.full((1, 1, 8, 8), 0.75))


@pytest.mark.parametrize("width", [32, 40, 33])
def test_the_guide_covers_the_image_and_not_its_padding(width: int) -> None:
    """Two cells, 0 and 1: half-way between them, at the middle of the image, the gate is one half."""
    gate = _seen(Same(), at="features", size=(32, width), cells=2).features[0][0, 0, 0]
    centres = (torch.arange(width) + 0.5) / width
    torch.testing.assert_close(gate[:width], (2 * centres - 0.5).clamp(0, 1))


def test_the_padding_of_a_guide_repeats_its_edge() -> None:
    gate = _seen(Same(), at="features", size=(32, 40), cells=2).features[0][0, 0, 0]
    assert torch.equal(gate[40:], torch.ones(8))


@pytest.mark.parametrize("axis", [-1, -2])
def test_a_guide_that_is_finer_along_one_axis_is_averaged(axis: int) -> None:
    """One line of eight is 1: triangles of twice that width give it 1 - 0.5 / 8 and its neighbour 1 - 7.5 / 8 of 8. The
    nearest two lines alone would give one half."""

    class Stripes(Guide):
        def forward(self, dense: Tensor) -> Tensor:
            line = (torch.arange(64) % 8 == 3).float().expand(1, 1, 8, 64)
            return line if axis == -1 else line.transpose(-1, -2)

    gate = _seen(Stripes(), at="bottleneck").features[1]
    torch.testing.assert_close(gate[..., 2:-2, 2:-2], torch.full((1, 1, 4, 4), 1 / 8))


def test_the_image_is_normalised_once_for_the_segmenter() -> None:
    segmenter = Seen()
    Model(segmenter)(MEAN.expand(1, 3, 32, 32))
    assert torch.equal(segmenter.image, torch.zeros(1, 3, 32, 32))


def test_without_a_guide_there_is_none_in_the_prediction() -> None:
    assert Model(Seen())(_image((32, 32))).guide is None


def test_the_weights_of_the_segmenter_do_not_depend_on_the_guide() -> None:
    """Otherwise a plain run and a guided run of one seed would start from different networks."""
    torch.manual_seed(0)
    plain = build_model(ModelSettings(ComponentSettings("unet", {"width": 4})), num_classes=2)
    torch.manual_seed(0)
    guided = build_model(
        ModelSettings(ComponentSettings("unet", {"width": 4}), BACKBONE, guide=GuideSettings()), num_classes=2
    )
    for key, value in plain.segmenter.state_dict().items():
        assert torch.equal(value, guided.segmenter.state_dict()[key])


def test_a_backbone_that_nobody_reads_is_refused() -> None:
    tiny = ComponentSettings("random", {"hidden_size": 32, "depth": 1, "heads": 2})
    with pytest.raises(ConfigError, match=r"does not read a backbone: set model\.guide"):
        build_model(ModelSettings(ComponentSettings("unet"), backbone=tiny), num_classes=2)


def test_coarser_scores_of_a_padded_image_cover_the_image_alone() -> None:
    # 7 x 10 pixels of which each row is 0 to 9; padded to 8 x 12. Its 2.5 cells of 4 pixels become 3 of 10/3.
    image = torch.arange(10.0).expand(1, 3, 7, 10) * STD + MEAN
    fine, half, quarter = Model(Means())(image).logits
    assert (fine.shape, half.shape, quarter.shape) == ((1, 1, 7, 10), (1, 1, 4, 5), (1, 1, 2, 3))
    torch.testing.assert_close(half[0, 0, 0], torch.tensor([0.5, 2.5, 4.5, 6.5, 8.5]))
    # The centres of those cells lie at pixels 7/6, 27/6 and 47/6; of the three means the last is (8 + 9 + 9 + 9) / 4.
    last = 5.5 + (47 / 6 - 5.5) / 4 * (8.75 - 5.5)
    torch.testing.assert_close(quarter[0, 0, 0], torch.tensor([1.5, 4.5, last]))


@pytest.mark.parametrize(("width", "columns"), [(32, 2), (48, 3), (40, 3)])
def test_a_map_of_the_image_is_continued_over_its_padding(width: int, columns: int) -> None:
    """Whole cells stay as they are and the last is repeated; of 40 pixels, 3 cells of 40 / 3 become 5 of 64 / 5."""

    class Asks(Seen):
        uses_backbone, stride = True, 32

        def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
            self.dense = dense[0]
            return super().encode(image, dense)

    segmenter = Asks()
    Model(segmenter, backbone=Columns(columns))(_image((32, width)))
    expected = {
        32: [0.0, 1],
        48: [0, 0.5, 1, 1],
        # Centres at 6.4, 19.2, 32 and so on, of which 20/3, 20 and 100/3 hold 0, 0.5 and 1.
        40: [0, 0.5 * (19.2 - 20 / 3) / (40 / 3), 0.5 + 0.5 * (32 - 20) / (40 / 3), 1, 1],
    }[width]
    torch.testing.assert_close(segmenter.dense[0, 0, 0], torch.tensor(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("channels", [2, 4])
def test_other_numbers_of_channels_are_refused_without_a_backbone_too(channels: int) -> None:
    with pytest.raises(DataError, match=f"images of {channels} channels, expected 1"):
        Model(Means())(torch.rand(1, channels, 8, 8))
