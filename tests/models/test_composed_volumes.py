"""A model of volumes: the backbone sees slices, their maps are stacked, and a guide gates voxels."""

from typing import Literal

import pytest
import torch
from torch import Tensor

from guidino_cli.errors import DataError
from guidino_cli.models.base import Backbone, Guide, Segmenter
from guidino_cli.models.composed import Model
from guidino_cli.models.slicewise import fold_slices, stack_slices

Place = Literal["input", "bottleneck", "features"]


class Seen(Segmenter):
    """Remembers what it is given; its maps are ones at the volume's grid and at 1/2, 1/4 and 1/4 of it."""

    dims, stride = 3, (2, 4, 4)

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        self.image, self.dense = image, dense
        return [torch.ones_like(image[:, :1]), torch.ones_like(image[:, :1, ::2, ::4, ::4])]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        self.features, self.size = features, size_hw
        return [features[0].expand(-1, 2, -1, -1, -1), features[1].expand(-1, 2, -1, -1, -1)]


class Reads(Seen):
    uses_backbone = True


class SliceMeans(Backbone):
    """Its one map holds the mean of each image in 2 x 2 cells; remembers the batches it saw."""

    channels, level_channels, stride, identity, is_frozen = 1, [1], 16, {"weights": "none", "sha256": "0"}, True

    def __init__(self, *, frozen: bool = True) -> None:
        super().__init__()
        self.is_frozen = frozen
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> list[Tensor]:
        self.seen.append(tuple(image.shape))
        return [image.mean(dim=(1, 2, 3), keepdim=True).expand(-1, 1, 2, 2)]


class Same(Guide):
    def forward(self, dense: Tensor) -> Tensor:
        return dense


class Constant(Guide):
    def forward(self, dense: Tensor) -> Tensor:
        return torch.full((len(dense), 1, 2, 2), 0.25)


def _volume(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_slices_of_volumes_are_a_batch_of_images_in_order() -> None:
    volume = torch.arange(2 * 3 * 4.0).view(2, 3, 4, 1, 1)
    slices = fold_slices(volume)
    assert slices.shape == (8, 3, 1, 1)
    # The second volume's third slice.
    assert slices[6].flatten().tolist() == volume[1, :, 2].flatten().tolist() == [14, 18, 22]
    assert torch.equal(stack_slices(slices, 2), volume)


@pytest.mark.parametrize(("depth", "batches"), [(4, [8]), (40, [32, 32, 16])])
def test_a_frozen_backbone_sees_slices_a_few_at_once(depth: int, batches: list[int]) -> None:
    segmenter, backbone, volume = Reads(), SliceMeans(), _volume(2, 3, depth, 8, 8)
    Model(segmenter, backbone=backbone)(volume)
    assert backbone.seen == [(count, 3, 8, 8) for count in batches]
    torch.testing.assert_close(segmenter.dense[0][:, 0, :, 0, 0], volume.mean(dim=(1, 3, 4)))


def test_a_trained_backbone_sees_all_slices_at_once() -> None:
    backbone = SliceMeans(frozen=False)
    Model(Reads(), backbone=backbone)(_volume(2, 3, 40, 8, 8))
    assert backbone.seen == [(80, 3, 8, 8)]


def test_a_cache_is_given_the_maps_of_whole_volumes() -> None:
    kept: list[Tensor] = []

    def keep(compute):  # type: ignore[no-untyped-def]
        kept.extend(compute())
        return kept

    Model(Reads(), backbone=SliceMeans())(_volume(2, 3, 4, 8, 8), get_or_compute=keep)
    assert [item.shape for item in kept] == [(2, 1, 4, 2, 2)]


def test_the_guide_of_a_volume_has_a_map_for_every_slice() -> None:
    volume = _volume(2, 3, 4, 8, 8)
    guide = Model(Seen(), backbone=SliceMeans(), guide=Same())(volume).guide
    assert guide is not None
    assert guide.shape == (2, 1, 4, 2, 2)
    torch.testing.assert_close(guide[..., 0, 0][:, 0], volume.mean(dim=(1, 3, 4)))


@pytest.mark.parametrize("at", ["input", "bottleneck", "features"])
def test_a_guide_gates_the_place_it_is_for(at: Place) -> None:
    segmenter, volume = Seen(), _volume(1, 3, 4, 8, 8)
    Model(segmenter, backbone=SliceMeans(), guide=Constant(), guide_at=at, in_channels=3)(volume)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1, 1)
    factors = {"input": (0.25, 1, 1), "bottleneck": (1, 1, 0.25), "features": (1, 0.25, 0.25)}[at]
    torch.testing.assert_close(segmenter.image, (volume - mean) / std * factors[0])
    assert torch.equal(segmenter.features[0], torch.full((1, 1, 4, 8, 8), factors[1]))
    assert torch.equal(segmenter.features[1], torch.full((1, 1, 2, 2, 2), factors[2]))


def test_slices_with_a_guide_of_their_own_are_gated_by_it() -> None:
    """Volumes of slices 0, 1/4, 1/2 and 3/4: that is their guide, and at half the slices it is 5/28 and 16/28.

    Weights of 3/4, 3/4 and 1/4 of slices 0, 1 and 2 give 5/16, and 1/4, 3/4 and 3/4 of 1, 2 and 3 give 1; over 7/4.
    """
    segmenter = Seen()
    volume = (torch.arange(4.0) / 4).view(1, 1, 4, 1, 1).expand(1, 1, 4, 8, 8)
    Model(segmenter, backbone=SliceMeans(), guide=Same(), guide_at="features", in_channels=1)(volume)
    assert segmenter.features[0][0, 0, :, 3, 5].tolist() == [0, 0.25, 0.5, 0.75]
    torch.testing.assert_close(segmenter.features[1][0, 0, :, 1, 0], torch.tensor([5 / 28, 16 / 28]))


def test_a_volume_of_any_size_is_padded_for_the_network_and_cut_again() -> None:
    segmenter = Reads()
    prediction = Model(segmenter, backbone=SliceMeans(), guide=Same(), guide_at="bottleneck")(_volume(2, 3, 5, 7, 9))
    assert segmenter.size == (6, 8, 12)
    assert segmenter.image.shape == (2, 3, 6, 8, 12)
    # Of two cells over nine columns, three cover the twelve.
    assert segmenter.dense[0].shape == (2, 1, 6, 3, 3)
    # Of three, two and three cells over 6, 8 and 12 voxels, as many cover 5, 7 and 9.
    assert [tuple(level.shape) for level in prediction.logits] == [(2, 2, 5, 7, 9), (2, 2, 3, 2, 3)]


def test_images_are_refused_by_a_network_for_volumes_and_the_other_way_round() -> None:
    with pytest.raises(DataError, match=r"takes volumes \(B, C, Z, H, W\), found 4 axes: \(1, 3, 8, 8\)"):
        Model(Seen())(_volume(1, 3, 8, 8))

    class Flat(Seen):
        dims, stride = 2, 4

    with pytest.raises(DataError, match=r"takes images \(B, C, H, W\), found 5 axes: \(1, 3, 4, 8, 8\)"):
        Model(Flat())(_volume(1, 3, 4, 8, 8))
