"""MONAI's networks for volumes: cut in two, they compute what MONAI's own forward computes."""

from typing import Any

import pytest
import torch

from guidino_cli.models.segmenters.registry import SEGMENTER_INFO, SEGMENTERS
from guidino_cli.registry import create

pytest.importorskip("monai")
NAMES = [name for name, row in SEGMENTER_INFO.items() if row.dims == 3 and row.needs == "monai"]


def _make(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    chosen = {**SEGMENTER_INFO[name].small, **options}
    channels = chosen.pop("in_channels", 4)
    return create("segmenter", name, SEGMENTERS, chosen, num_classes=2, in_channels=channels)


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_encoder_and_decoder_together_are_monais_network(name: str) -> None:
    segmenter, volume = _make(name).eval(), torch.rand(1, 4, 32, 32, 64)
    found = segmenter.decode(segmenter.encode(volume, []), (32, 32, 64))[0]
    # Its UNETR takes volumes of one size.
    if name == "unetr3d":
        segmenter = _make(name, image_size=[32, 32, 64]).eval()
        found = segmenter.decode(segmenter.encode(volume, []), (32, 32, 64))[0]
    assert torch.equal(found, segmenter.net(volume))


@pytest.mark.parametrize(
    ("name", "options", "millions"),
    [
        ("unet3d", {}, 1.98),
        ("segresnet3d", {"width": 16}, 4.70),
        ("unetr3d", {"image_size": 64}, 92.69),
        ("vnet", {}, 45.60),
        ("swin-unetr3d", {"width": 24}, 15.70),
        ("swin-unetr3d", {}, 62.19),
    ],
)
def test_the_weights_are_those_of_monais_classes(name: str, options: dict, millions: float) -> None:
    """Counted on MONAI 1.6.1's own classes with one channel and two or three classes."""
    with torch.device("meta"):
        segmenter = create("segmenter", name, SEGMENTERS, options, num_classes=2, in_channels=1)
    assert round(sum(weight.numel() for weight in segmenter.parameters()) / 1e6, 2) == pytest.approx(millions, abs=0.01)


@torch.no_grad()
def test_v_net_fills_up_channels_that_do_not_divide_sixteen_with_zeros() -> None:
    three, four = _make("vnet", in_channels=3).eval(), _make("vnet", in_channels=4).eval()
    volume = torch.rand(1, 3, 16, 16, 16)
    filled = torch.cat([volume, torch.zeros(1, 1, 16, 16, 16)], dim=1)
    for found, expected in zip(three.encode(volume, []), four.encode(filled, []), strict=True):
        assert torch.equal(found, expected)


def test_v_net_refuses_more_channels_than_its_first_maps() -> None:
    with pytest.raises(Exception, match="adds the image to 16 maps, so it takes at most as many channels"):
        _make("vnet", in_channels=17)


@pytest.mark.parametrize("size", [40, [32, 16], [32, 32, 8]])
def test_unetr_needs_patches_of_whole_cells(size: Any) -> None:
    with pytest.raises(Exception, match=r"expected a multiple of 16|expected one for each of 3 axes"):
        _make("unetr3d", image_size=size)


def test_a_single_cell_at_the_bottom_can_be_learned_from() -> None:
    segmenter = _make("unet3d").train()
    logits = segmenter.decode(segmenter.encode(torch.rand(1, 4, 4, 4, 4), []), (4, 4, 4))[0]
    logits.square().mean().backward()
    assert torch.isfinite(logits).all()
