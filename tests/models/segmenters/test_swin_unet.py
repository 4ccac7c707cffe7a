"""Swin-Unet, a U-Net of shifted windows."""

import pytest
import torch

from guidino_cli.models.segmenters.swin_unet import SwinUNet
from guidino_cli.models.window_attention import PatchExpanding

SMALL = {"width": 4, "depths": (2, 1, 1, 1), "heads": (1, 1, 2, 2), "window": 4}


@pytest.mark.parametrize(("window", "millions"), [(7, 27.168), (8, 27.176)])
def test_the_number_of_parameters_is_that_of_the_papers_network(window: int, millions: float) -> None:
    with torch.device("meta"):
        net = SwinUNet(num_classes=1, window=window)
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 3) == millions


def test_the_maps_are_at_a_quarter_to_a_thirty_second_with_doubling_channels() -> None:
    features = SwinUNet(num_classes=2, **SMALL).encode(torch.rand(1, 3, 64, 32), [])
    assert [tuple(item.shape[1:]) for item in features] == [(4, 16, 8), (8, 8, 4), (16, 4, 2), (32, 2, 1)]


def test_expanding_lays_a_cell_out_as_a_square() -> None:
    torch.manual_seed(0)
    expand, x = PatchExpanding(4, 2, 2), torch.randn(1, 2, 2, 4)
    changed = x.clone()
    changed[0, 0, 1] += torch.randn(4)
    differs = (expand(x) != expand(changed)).any(-1)[0]
    assert expand(x).shape == (1, 4, 4, 2)
    assert differs.nonzero().tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]


def test_fewer_levels_make_a_smaller_stride() -> None:
    assert SwinUNet(num_classes=2, width=4, depths=(1, 1), heads=(1, 1), window=4).stride == 8


def test_depths_and_heads_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one of each"):
        SwinUNet(num_classes=2, depths=(2, 2), heads=(1, 2, 4))
