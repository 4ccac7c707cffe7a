"""The benchmark's light 3-D decoder."""

import pytest
import torch

from guidino_cli.models.segmenters.light3d import Light3D

NORMS, HEAD = 2 * (128 + 64 + 32 + 16), 16 * 2 + 2
KERNELS = 27 * (128 * 128 + 128 * 64 + 64 * 32 + 32 * 16)


@pytest.mark.parametrize("channels", [384, 768, 1024])
def test_the_weights_are_those_of_one_projection_four_maps_and_four_blocks(channels: int) -> None:
    taps = channels * (128 + 128 + 64 + 32) + 128 + 128 + 64 + 32
    network = Light3D(num_classes=2, dense_channels=[channels] * 4)
    expected = channels * 128 + 128 + taps + KERNELS + NORMS + HEAD
    assert sum(weight.numel() for weight in network.parameters()) == expected
    # Of ViT-S, ViT-B and ViT-L.
    assert expected == {384: 917_986, 768: 1_102_306, 1024: 1_225_186}[channels]


def test_the_blocks_add_maps_from_the_deepest_to_the_shallowest() -> None:
    """Of different widths, so that another order would not fit; the bottleneck is of the deepest."""
    network = Light3D(num_classes=2, dense_channels=[3, 5, 7, 11])
    maps = [torch.rand(1, channels, 4, 2, 2) for channels in (3, 5, 7, 11)]
    features = network.encode(torch.empty(1, 3, 4, 32, 32), maps)
    assert [item.shape[1] for item in features] == [32, 64, 128, 128, 128]
    torch.testing.assert_close(features[0], network.taps[3](maps[0]))
    torch.testing.assert_close(features[-1], network.project(maps[3]))


def test_the_deepest_map_alone_is_enough() -> None:
    network = Light3D(num_classes=3, dense_channels=[8])
    features = network.encode(torch.empty(1, 3, 4, 32, 48), [torch.rand(1, 8, 4, 2, 3)])
    assert len(features) == 2
    assert network.decode(features, (4, 32, 48))[0].shape == (1, 3, 4, 32, 48)


def test_the_grid_doubles_within_slices_only() -> None:
    network, seen = Light3D(num_classes=2, dense_channels=[8] * 4), []
    for block in network.blocks:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape[2:])))
    network.decode(network.encode(torch.empty(0), [torch.rand(1, 8, 5, 2, 3)] * 4), (5, 32, 48))
    assert seen == [(5, 2, 3), (5, 4, 6), (5, 8, 12), (5, 16, 24)]


def test_more_maps_than_blocks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"each of 2 blocks, found 4 maps; set model\.backbone\.options\.layers"):
        Light3D(num_classes=2, dense_channels=[8] * 4, widths=[8, 4])
