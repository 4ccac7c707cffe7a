"""Swin-Unet, a U-Net of shifted windows."""

import pytest
import torch

from guidino_cli.models.segmenters.swin_unet import SwinUNet
from guidino_cli.models.window_attention import PatchExpanding

SMALL = {"width": 4, "depths": (2, 1, 1, 1), "heads": (1, 1, 2, 2), "window": 4}


def _block(c: int, heads: int, window: int) -> int:
    """Two norms, queries, keys and values, projection, displacements, two linear layers of fourfold width."""
    return 4 * c + 3 * c * (c + 1) + c * (c + 1) + (2 * window - 1) ** 2 * heads + 4 * c * (c + 1) + c * (4 * c + 1)


@pytest.mark.parametrize(("window", "count"), [(7, 27_168_132), (8, 27_175_524)])
def test_the_number_of_parameters_is_that_of_the_authors_network(window: int, count: int) -> None:
    """27.168 and 27.176 million in their code, with one class; here by hand."""
    levels = list(zip((96, 192, 384, 768), (3, 6, 12, 24), strict=True))
    down = 48 * 96 + 96 + 2 * 96 + sum(2 * _block(*level, window) for level in levels)
    down += sum(8 * c + 8 * c * c for c, _ in levels[:-1]) + 2 * 768
    up = sum(8 * c * c + 2 * c + 2 * c * c + c + 2 * _block(c, heads, window) for c, heads in levels[:-1])
    up += 2 * 96 + 16 * 96 * 96 + 2 * 96 + 96
    with torch.device("meta"):
        net = SwinUNet(num_classes=1, window=window)
    assert sum(p.numel() for p in net.parameters()) == down + up == count


def test_a_skip_is_what_a_stage_of_the_encoder_receives() -> None:
    """Above the bottleneck: blocks of a level change the next level's map, not their own."""
    torch.manual_seed(0)
    net, image = SwinUNet(num_classes=2, **SMALL).eval(), torch.rand(1, 3, 64, 64)
    before = net.encode(image, [])
    embedded = torch.nn.functional.layer_norm(net.embed(image).permute(0, 2, 3, 1), (4,)).permute(0, 3, 1, 2)
    torch.testing.assert_close(before[0], embedded)
    for level in range(3):
        torch.nn.init.constant_(net.stages[level][-1].mlp[-1].bias, level + 1.0)
        after = net.encode(image, [])
        changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
        assert changed == [i > level for i in range(4)]
        before = after


def test_stochastic_depth_rises_to_the_authors_0_2_and_is_the_same_on_the_way_up() -> None:
    with torch.device("meta"):
        net = SwinUNet(num_classes=2)
    down = [block.drop_path.share for stage in net.stages for block in stage]
    assert down == pytest.approx([0.2 * i / 7 for i in range(8)])
    assert [block.drop_path.share for stage in net.rise for block in stage] == down[:6]


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
