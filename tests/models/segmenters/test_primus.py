"""Primus."""

import math
from typing import Literal

import pytest
import torch
from torch import nn

from guidino_cli.models.segmenters.primus import Primus, _rotated, _rotations

SMALL = {"width": 24, "depth": 2, "heads": 2}


@pytest.mark.parametrize(
    ("size", "count"), [("S", 26_351_774), ("B", 98_173_994), ("M", 152_021_402), ("L", 332_177_954)]
)
def test_the_weights_are_those_of_the_authors_network(size: Literal["S", "B", "M", "L"], count: int) -> None:
    """Counted with dynamic_network_architectures 0.4.4, one channel, two classes, a patch of 160 voxels."""
    with torch.device("meta"):
        network = Primus(num_classes=2, in_channels=1, size=size)
    assert sum(weight.numel() for weight in network.parameters()) == count


def test_the_decoders_widths_fall_by_the_same_factor() -> None:
    """From 864 to twice the classes in three steps of 6: 864, 144, 24, and then the classes."""
    with torch.device("meta"):
        convs = [layer for layer in Primus(num_classes=2).decoder if isinstance(layer, nn.ConvTranspose3d)]
    assert [(conv.in_channels, conv.out_channels) for conv in convs] == [(864, 144), (144, 24), (24, 2)]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_a_token_sees_of_another_depends_on_the_way_between_them(axis: int) -> None:
    grid = [1, 1, 1]
    grid[axis] = 5
    query, key = torch.randn(12).expand(1, 1, 5, 12), torch.randn(12).expand(1, 1, 5, 12)
    codes = _rotations(grid, 12, like=query)
    products = (_rotated(query, codes) @ _rotated(key, codes).transpose(-1, -2))[0, 0]
    for step in range(-4, 5):
        along = products.diagonal(step)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=1e-4, atol=1e-4)
    # ... and not only on its length.
    assert (products[0, 1] - products[1, 0]).abs() > 1e-3


def test_a_rotation_turns_pairs_of_channels_by_the_place_along_each_axis() -> None:
    """Of six channels one pair for each axis, all at speed 1: by 1 row and 2 columns."""
    codes = _rotations([1, 2, 3], 6, like=torch.empty(0))
    found = _rotated(torch.tensor([1.0, 0, 1, 0, 1, 0]).expand(1, 1, 6, 6), codes)[0, 0, 5]
    expected = [1, 0, math.cos(1), math.sin(1), math.cos(2), math.sin(2)]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_the_codes_of_places_fit_the_patch_and_are_interpolated_for_others() -> None:
    network = Primus(num_classes=2, image_size=[16, 32, 24], **SMALL).eval()
    assert network.position.shape == (1, 24, 2, 4, 3)
    with torch.no_grad():
        for size in ((16, 32, 24), (8, 40, 24)):
            (features,) = network.encode(torch.rand(1, 3, *size), [])
            assert features.shape == (1, 24, *(side // 8 for side in size))
            assert network.decode([features], size)[0].shape == (1, 2, *size)


def test_blocks_begin_close_to_doing_nothing_the_deeper_the_closer() -> None:
    torch.manual_seed(0)
    network = Primus(num_classes=2, width=96, depth=4, heads=2, image_size=16)
    assert torch.equal(network.blocks[0].scale_mlp, torch.full((96,), 0.1))
    deviations = [block.out.weight.std().item() for block in network.blocks]
    expected = [0.02 / (2 * number) ** 0.5 for number in (1, 2, 3, 4)]
    assert deviations == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 20, "heads": 2}, "width is 20, expected a multiple of 12"),
        ({"image_size": 20}, "image_size is 20, expected a multiple of 8"),
        ({"image_size": [16, 16]}, "expected one for each of 3 axes"),
        ({"size": "XL"}, "expected S, B, M or L"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Primus(**{"num_classes": 2, **SMALL, **options})
