"""Swin-UMamba-D: its size, the four paths over a map, and who hears of whom."""

import pytest
import torch
from torch import Tensor

from guidino_cli.models.segmenters.swin_umamba import SS2D, SwinUMamba, VSSBlock, cross_merge, cross_scan

SMALL = {"num_classes": 2, "width": 8, "depths": [1, 1, 1], "rising": 1, "states": 4}


def _weights(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _block(c: int) -> int:
    """C to 4 C, 3 x 3 of each of E = 2 C, four times E to R + 32, R to E, E, 16 E and E; two norms; E to C."""
    e, r = 2 * c, c // 16
    four = 4 * (e * (r + 32) + r * e + e + 16 * e + e)
    return c * 4 * c + 10 * e + four + 2 * e + e * c + 2 * c


def test_a_block_has_the_weights_of_vmambas() -> None:
    with torch.device("meta"):
        assert _weights(VSSBlock(96)) == _block(96)


def test_the_stem_is_the_authors_one_convolution_and_norm_of_4896_weights() -> None:
    with torch.device("meta"):
        network = SwinUMamba(num_classes=1)
    assert _weights(network.embed) + _weights(network.norm_embed) == 48 * 96 + 96 + 2 * 96 == 4896


def test_stochastic_depth_rises_to_the_bottleneck_and_falls_to_0_at_the_finest_map() -> None:
    """On the way up from 0.2 to 0 over six blocks, those of the coarsest level first."""
    with torch.device("meta"):
        network = SwinUMamba(num_classes=1)
    down = [block.drop_path.share for stage in network.stages for block in stage]
    up = [block.drop_path.share for stage in reversed(network.rise) for block in stage]
    assert down == pytest.approx([0.2 * i / 14 for i in range(15)])
    assert up == pytest.approx([0.2, 0.16, 0.12, 0.08, 0.04, 0])


def test_the_parameters_counted_by_hand() -> None:
    widths = (96, 192, 384, 768)
    down = 48 * 96 + 96 + 2 * 96
    down += sum(depth * _block(c) for depth, c in zip((2, 2, 9, 2), widths, strict=True))
    down += sum(8 * c + 8 * c * c for c in widths[:-1])
    up = sum(2 * c * 4 * c + 2 * c + 2 * c * c + c + 2 * _block(c) for c in widths[:-1])
    up += 16 * 96 * 96 + 2 * 96 + 97 + sum(c + 1 for c in widths[:-2])
    with torch.device("meta"):
        assert _weights(SwinUMamba(num_classes=1)) == down + up == 27_490_371


def test_the_four_paths_of_a_map_of_two_by_three() -> None:
    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert cross_scan(x)[0, :, 0].tolist() == [
        [0, 1, 2, 3, 4, 5],
        [0, 3, 1, 4, 2, 5],
        [5, 4, 3, 2, 1, 0],
        [5, 2, 4, 1, 3, 0],
    ]


def test_what_the_paths_say_is_added_where_it_belongs() -> None:
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(cross_merge(cross_scan(x), (4, 5)), 4 * x)


def _reach(layer: SS2D, cell: tuple[int, int]) -> Tensor:
    """Which cells of a 6 x 7 map reach one of them."""
    x = torch.randn(1, 6, 7, 8, requires_grad=True)
    layer(x)[0, cell[0], cell[1]].sum().backward()
    assert x.grad is not None
    return x.grad[0].abs().amax(dim=-1) > 0


@pytest.mark.parametrize("cell", [(0, 0), (3, 2), (5, 6)])
def test_every_cell_hears_of_every_other(cell: tuple[int, int]) -> None:
    torch.manual_seed(0)
    assert _reach(SS2D(8, states=4), cell).all()


def test_a_square_map_on_its_side_gives_the_result_on_its_side() -> None:
    """With the weights of rows and columns alike, and a convolution that is its own transpose."""
    torch.manual_seed(0)
    layer = SS2D(8, states=4)
    with torch.no_grad():
        layer.local.weight.copy_((layer.local.weight + layer.local.weight.transpose(2, 3)) / 2)
        for weight in (layer.x_proj.weight, layer.dt_proj.weight, layer.dt_bias, layer.A_log, layer.D):
            half = len(weight) // 4
            for first, second in ((0, 1), (2, 3)):
                weight[second * half : (second + 1) * half] = weight[first * half : (first + 1) * half]
        x = torch.randn(1, 5, 5, 8)
        torch.testing.assert_close(layer(x.transpose(1, 2)), layer(x).transpose(1, 2), rtol=1e-4, atol=1e-5)


def test_the_coarsest_map_of_the_decoder_has_no_scores() -> None:
    """nnU-Net weighs them 0; the others then count 4/7, 2/7 and 1/7 with the authors' four levels."""
    network = SwinUMamba(**SMALL)
    logits = network.decode(network.encode(torch.randn(1, 3, 32, 48), []), (32, 48))
    assert [level.shape[-2:] for level in logits] == [(32, 48), (8, 12)]


def test_without_deep_supervision_there_is_one_head() -> None:
    network = SwinUMamba(**SMALL, deep_supervision=False)
    logits = network.decode(network.encode(torch.randn(1, 3, 16, 16), []), (16, 16))
    assert [level.shape for level in logits] == [(1, 2, 16, 16)]


@pytest.mark.parametrize("options", [{"depths": [2]}, {"depths": [1, 0]}])
def test_options_that_cannot_be_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="expected one or more blocks"):
        SwinUMamba(**{**SMALL, **options})
