"""Attention within shifted windows."""

import pytest
import torch
from torch import Tensor

from guidino_cli.models.window_attention import PatchMerging, SwinBlock, WindowAttention


def _by_hand(net: WindowAttention, x: Tensor, shift: int) -> Tensor:
    """One cell at a time: windows are what lies between lines at shift, shift + window, ...; no rolling, no padding."""
    _, h, w, channels = x.shape
    width = channels // net.heads
    cells = [(row, column) for row in range(h) for column in range(w)]
    places = [((row - shift) // net.window, (column - shift) // net.window) for row, column in cells]
    q, k, v = net.qkv(x.view(h * w, channels)).view(h * w, 3, net.heads, width).unbind(1)
    rows = []
    for i, (row, column) in enumerate(cells):
        others = [j for j, place in enumerate(places) if place == places[i]]
        span = 2 * net.window - 1
        steps = [(row - cells[j][0] + net.window - 1) * span + column - cells[j][1] + net.window - 1 for j in others]
        scores = torch.einsum("hd,jhd->jh", q[i], k[others]) / width**0.5 + net.bias[steps]
        rows.append(torch.einsum("jh,jhd->hd", scores.softmax(0), v[others]).flatten())
    return net.out(torch.stack(rows)).view_as(x)


def _attention(*, window: int = 4, shift: int = 0) -> WindowAttention:
    torch.manual_seed(0)
    net = WindowAttention(6, heads=2, window=window, shift=shift)
    # Large, so that a wrong bias is seen.
    torch.nn.init.normal_(net.bias)
    return net


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("size", [(8, 8), (8, 12), (5, 7), (9, 6)])
def test_a_cell_attends_to_its_window_alone_with_the_bias_of_each_displacement(
    size: tuple[int, int], shift: int
) -> None:
    net, x = _attention(shift=shift), torch.randn(1, *size, 6)
    torch.testing.assert_close(net(x), _by_hand(net, x, shift))


@pytest.mark.parametrize("size", [(4, 4), (3, 2), (4, 8)])
def test_a_map_no_larger_than_a_window_is_not_shifted(size: tuple[int, int]) -> None:
    net, x = _attention(shift=2), torch.randn(1, *size, 6)
    torch.testing.assert_close(net(x), _by_hand(net, x, 0))


def test_each_sample_of_a_batch_keeps_to_itself() -> None:
    net, x = _attention(shift=2), torch.randn(3, 6, 5, 6)
    torch.testing.assert_close(net(x), torch.cat([net(item) for item in x.split(1)]))


def test_displacements_of_a_window_of_two_by_paper_and_pencil() -> None:
    """Cells 00 01 10 11; from 11 to 00 is (1, 1), number (1 + 1) * 3 + (1 + 1); from 00 to 11 number 0."""
    expected = [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    assert _attention(window=2).displacement.tolist() == expected


def test_the_weights_do_not_depend_on_the_size_of_a_map() -> None:
    assert not any("displacement" in key for key in _attention().state_dict())


def test_a_number_of_heads_that_does_not_divide_the_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="6 channels cannot be shared by 4 heads"):
        WindowAttention(6, heads=4, window=2)


def test_a_block_whose_branches_say_nothing_changes_nothing() -> None:
    block = SwinBlock(6, heads=2, window=2)
    for layer in (block.attention.out, block.mlp[-1]):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    x = torch.randn(1, 4, 4, 6)
    assert torch.equal(block(x), x)


def test_merging_reads_each_square_of_four_cells_and_no_other() -> None:
    torch.manual_seed(0)
    merge, x = PatchMerging(3), torch.randn(1, 4, 4, 3)
    changed = x.clone()
    changed[0, 2:, :2] += torch.randn(2, 2, 3)
    differs = (merge(x) != merge(changed)).any(-1)[0]
    assert differs.tolist() == [[False, False], [True, False]]
