"""nnWNet for volumes."""

import pytest
import torch

from guidino_cli.models.segmenters.nnwnet import NNWNet3d, _Average3d

WIDTHS = [32, 64, 128, 256, 320]


def _conv(before: int, after: int, kernel: int = 3, *, bias: bool = True) -> int:
    return before * after * kernel**3 + after * bias


def _residual(before: int, after: int) -> int:
    shortcut = _conv(before, after, 1) + 2 * after if before != after else 0
    return _conv(before, after) + _conv(after, after) + 4 * after + shortcut


def _move(before: int, after: int) -> int:
    """Up or down: a convolution without bias and its norm."""
    return _conv(before, after, bias=False) + 2 * after


def _bridge(before: int, after: int) -> int:
    return _conv(before, after) + 4 * after + _conv(after, 4 * after, 1) + _conv(4 * after, after, 1)


def test_the_weights_are_those_of_the_authors_network_counted_by_hand() -> None:
    """Their two U passes with one input channel and two classes; a local path of these widths, a global one of half."""
    c, g = WIDTHS, [width // 2 for width in WIDTHS]
    joined = [c[i] + g[i] for i in range(5)]
    count = _conv(1, c[0]) + _conv(c[0], c[0]) + 4 * c[0]
    for i in range(4):
        count += _conv(c[i], c[i]) + 2 * c[i] + _move(c[i], c[i + 1])  # the first descent
        count += _bridge(c[i], g[i])
        entry = c[4] if i == 3 else joined[i + 1]  # the first ascent
        count += _residual(entry, c[i + 1]) + _move(c[i + 1], c[i]) + _bridge(entry, g[i + 1])
        count += _residual(joined[i], c[i]) + _move(c[i], c[i + 1]) + _bridge(joined[i], g[i])  # the second descent
        count += _residual(joined[i + 1], c[i + 1]) + _move(c[i + 1], c[i])  # the second ascent
    count += _residual(joined[0], c[0]) + sum(_conv(width, 2, 1) for width in c)
    with torch.device("meta"):
        network = NNWNet3d(num_classes=2, in_channels=1)
    assert sum(weight.numel() for weight in network.parameters()) == count == 53_233_802


def test_five_levels_of_scores_each_half_the_size() -> None:
    network = NNWNet3d(num_classes=2, widths=[4, 4, 4, 4, 4])
    levels = network.decode(network.encode(torch.rand(2, 3, 16, 32, 48), []), (16, 32, 48))
    assert [tuple(level.shape[2:]) for level in levels] == [
        (16, 32, 48), (8, 16, 24), (4, 8, 12), (2, 4, 6), (1, 2, 3)
    ]  # fmt: skip


def test_a_thin_map_is_averaged_over_the_cells_that_exist() -> None:
    assert _Average3d()(torch.tensor([0.0, 3, 9]).view(1, 1, 1, 1, 3)).flatten().tolist() == [1.5, 4, 6]
    thick = torch.rand(1, 2, 3, 4, 5)
    expected = torch.nn.functional.avg_pool3d(thick, 3, stride=1, padding=1, count_include_pad=False)
    assert torch.equal(_Average3d()(thick), expected)
    # Two slices of three are thin: every cell of either has the same neighbours.
    thin = _Average3d()(thick[:, :, :2])
    torch.testing.assert_close(thin[:, :, 0], thin[:, :, 1])


@pytest.mark.parametrize("widths", [[8, 8, 8, 8], [8, 8, 8, 8, 7]])
def test_other_than_five_even_widths_are_refused(widths: list[int]) -> None:
    with pytest.raises(ValueError, match="expected five even numbers"):
        NNWNet3d(num_classes=2, widths=widths)
