"""nnU-Net's networks for volumes."""

from typing import Any, Literal

import pytest
import torch

from guidino_cli.models.segmenters.nnunet import NNUNet, NNUNet3d

STRIDES = [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]]
KERNELS = [[1, 3, 3], *[[3, 3, 3]] * 5]
Encoder = Literal["residual", "plain"]


@pytest.mark.parametrize(
    ("encoder", "plan", "theirs"),
    [
        ("plain", {}, 31_195_594),
        ("residual", {}, 102_349_770),
        ("plain", {"strides": STRIDES, "kernels": KERNELS}, 30_703_498),
        ("residual", {"strides": STRIDES, "kernels": KERNELS}, 101_857_674),
    ],
)
def test_the_weights_are_nnu_nets_but_for_the_head_that_it_gives_weight_zero(
    encoder: Encoder, plan: dict[str, Any], theirs: int
) -> None:
    """Counted with dynamic_network_architectures 0.4.4 of nnU-Net 2.8.1, one channel and two classes."""
    with torch.device("meta"):
        network = NNUNet3d(num_classes=2, in_channels=1, encoder=encoder, **plan)
    assert sum(weight.numel() for weight in network.parameters()) == theirs - (320 * 2 + 2)


def test_maps_and_scores_have_the_sizes_of_the_plan() -> None:
    network = NNUNet3d(num_classes=2, widths=[4] * 6, strides=STRIDES, kernels=KERNELS)
    assert network.stride == (8, 32, 32)
    maps = network.encode(torch.rand(1, 3, 16, 64, 32), [])
    sizes = [(16, 64, 32), (16, 32, 16), (8, 16, 8), (4, 8, 4), (2, 4, 2), (2, 2, 1)]
    assert [tuple(item.shape[2:]) for item in maps] == sizes
    assert [tuple(item.shape[2:]) for item in network.decode(maps, (16, 64, 32))] == sizes[:4]


@pytest.mark.parametrize("encoder", ["plain", "residual"])
def test_one_slice_is_segmented_as_the_image_that_it_is(encoder: Encoder) -> None:
    """With flat kernels and strides the network is the two-dimensional one."""
    options: dict[str, Any] = {"num_classes": 2, "encoder": encoder, "widths": [4, 6, 8], "blocks": [1, 2, 1]}
    flat, solid = (
        NNUNet(**options),
        NNUNet3d(**options, strides=[[1, 1, 1], [1, 2, 2], [1, 2, 2]], kernels=[[1, 3, 3]] * 3),
    )
    weights = {key: value.reshape(solid.state_dict()[key].shape) for key, value in flat.state_dict().items()}
    solid.load_state_dict(weights)
    image = torch.rand(2, 3, 16, 24)
    expected = flat.decode(flat.encode(image, []), (16, 24))
    found = solid.decode(solid.encode(image[:, :, None], []), (1, 16, 24))
    for level, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(level[:, :, 0], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"strides": STRIDES[:3]}, "expected 3 numbers for each of the 6 widths"),
        ({"kernels": [[3, 3]] * 6}, "expected 3 numbers for each of the 6 widths"),
        ({"strides": [[0, 1, 1], *STRIDES[1:]]}, "expected 3 numbers for each of the 6 widths"),
        ({"kernels": [[2, 3, 3], *KERNELS[1:]]}, "expected odd sides"),
    ],
)
def test_a_plan_that_does_not_fit_the_widths_is_refused(plan: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NNUNet3d(num_classes=2, **plan)


def test_without_deep_supervision_there_is_one_level_of_scores() -> None:
    network = NNUNet3d(num_classes=2, widths=[4, 4, 4], blocks=[1, 1, 1], deep_supervision=False)
    assert len(network.decode(network.encode(torch.rand(1, 3, 8, 8, 8), []), (8, 8, 8))) == 1
