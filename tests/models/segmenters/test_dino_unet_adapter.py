"""Dino U-Net's adapter: the convolutional pyramid and deformable attention."""

import math

import pytest
import torch
from torch import Tensor

from guidino_cli.models.segmenters.dino_unet_adapter import (
    DeformableAttention,
    Extractor,
    SpatialPrior,
    ViTAdapter,
    _maps,
    _tokens,
    cell_centres,
    sample_bilinear,
)


def _adapter() -> ViTAdapter:
    torch.manual_seed(0)
    return ViTAdapter(in_channels=3, channels=32, drop_path=0.3).eval()


def _dense() -> list[torch.Tensor]:
    return [torch.randn(1, 32, 4, 6) for _ in range(4)]


def test_the_prior_has_a_map_at_a_quarter_an_eighth_a_sixteenth_and_a_thirty_second() -> None:
    maps = SpatialPrior(3, 8, width=4)(torch.rand(2, 3, 64, 96))
    assert [item.shape for item in maps] == [(2, 8, 16, 24), (2, 8, 8, 12), (2, 8, 4, 6), (2, 8, 2, 3)]


def test_tokens_are_cells_row_by_row_and_come_back_as_maps() -> None:
    maps = [torch.arange(6.0).view(1, 1, 2, 3), torch.arange(6.0, 8.0).view(1, 1, 1, 2)]
    tokens = torch.cat([_tokens(item) for item in maps], dim=1)
    assert tokens.flatten().tolist() == list(range(8))
    assert all(torch.equal(a, b) for a, b in zip(_maps(tokens, [(2, 3), (1, 2)]), maps, strict=True))


def test_a_scale_is_thought_over_by_itself() -> None:
    """A change of the second grid's tokens does not reach the first through the depthwise convolution."""
    feed_forward, sizes = Extractor(32, drop_path=0.0).feed_forward, [(2, 2), (1, 1)]
    tokens = torch.randn(1, 5, 32)
    changed = tokens.clone()
    changed[:, 4] += 1
    before, after = feed_forward(tokens, sizes), feed_forward(changed, sizes)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4], after[:, 4])


def test_a_dropped_branch_is_missing_for_a_whole_sample_and_right_on_average() -> None:
    """At a probability of 0.75 a branch of ones is 0 or 4, everywhere alike in a sample."""
    torch.manual_seed(0)
    extractor = Extractor(32, drop_path=0.75).train()
    dropped = extractor.drop_path(torch.ones(2000, 3, 5))
    assert torch.equal(dropped, dropped[:, :1, :1].expand_as(dropped))
    assert set(dropped[:, 0, 0].tolist()) == {0.0, 4.0}
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.15)


def test_nothing_is_dropped_in_evaluation() -> None:
    branch = torch.ones(50, 3, 5)
    assert torch.equal(Extractor(32, drop_path=0.75).eval().drop_path(branch), branch)


def test_every_one_of_the_four_maps_matters_at_every_scale() -> None:
    adapter, image, dense = _adapter(), torch.rand(1, 3, 64, 96), _dense()
    with torch.no_grad():
        before = adapter(image, dense)
        for level in range(4):
            other = [item + (1 + torch.randn_like(item)) * (i == level) for i, item in enumerate(dense)]
            after = adapter(image, other)
            # The last extractors leave the finest scales of tokens no way around the deepest map.
            assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True)), level


def test_a_map_looks_back_at_the_part_of_the_image_that_it_covers() -> None:
    """The star of a fresh extractor reaches 4 of 16 columns: what changes at the right end is unseen at the left."""
    torch.manual_seed(0)
    extractor = Extractor(32, drop_path=0.0).eval()
    places, sizes = cell_centres([(1, 16)], torch.device("cpu")), [(1, 16)]
    tokens, dense = torch.randn(1, 16, 32), torch.randn(1, 32, 1, 16)
    changed = dense.clone()
    changed[..., 15] += torch.randn(1, 32, 1)
    with torch.no_grad():
        seen = (extractor(tokens, places, sizes, dense) != extractor(tokens, places, sizes, changed)).any(dim=2)[0]
    # Four columns of looking, and one of the depthwise convolution.
    assert seen.tolist() == [False] * 10 + [True] * 6


SIZE = (3, 5)


def _ramp(height: int = 4, width: int = 8) -> Tensor:
    """(1, 1, 2, h, w): the first channel is the column of a cell, the second its row."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([columns, rows]).float()[None, None]


def _at(x: float, y: float) -> Tensor:
    """One query, one head, one point."""
    return torch.tensor([x, y]).view(1, 1, 1, 1, 2)


def _plain(attention: DeformableAttention) -> DeformableAttention:
    """Values and results go through unchanged: D is the width of the values."""
    width = attention.values.out_features
    with torch.no_grad():
        attention.values.weight.copy_(torch.eye(width))
        attention.out.weight.copy_(torch.eye(width))
    return attention


def test_the_centre_of_a_cell_has_the_value_of_the_cell() -> None:
    found = sample_bilinear(_ramp(), _at(5.5 / 8, 2.5 / 4))
    torch.testing.assert_close(found.flatten(), torch.tensor([5.0, 2.0]))


def test_between_two_cells_the_value_is_between_theirs() -> None:
    found = sample_bilinear(_ramp(), _at(5.75 / 8, 2.5 / 4))
    torch.testing.assert_close(found.flatten(), torch.tensor([5.25, 2.0]))


def test_outside_the_map_there_is_nothing() -> None:
    """Half a cell outside, on the edge's line between the last centre and 0 one cell on, nothing further out."""
    ones = torch.ones(1, 1, 1, 4, 8)
    assert [sample_bilinear(ones, _at(x / 8, 0.5)).item() for x in (8.0, 8.5, 9.0)] == pytest.approx([0.5, 0.0, 0.0])


def test_every_head_looks_at_its_own_values() -> None:
    values = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1, 1).expand(1, 2, 1, 4, 4)
    found = sample_bilinear(values, torch.full((1, 3, 2, 1, 2), 0.5))
    assert torch.equal(found, torch.tensor([1.0, 2.0]).view(1, 2, 1, 1, 1).expand(1, 2, 1, 3, 1))


def test_centres_go_row_by_row_and_grid_by_grid() -> None:
    expected = [[0.25, 0.5], [0.75, 0.5], [0.5, 0.25], [0.5, 0.75]]
    assert torch.equal(cell_centres([(1, 2), (2, 1)], torch.device("cpu")), torch.tensor(expected))


def test_fresh_heads_look_along_the_directions_of_a_circle_one_to_four_cells_away() -> None:
    """Of four heads: right, down, left, up; of eight the second looks along the diagonal of a square."""
    axes = DeformableAttention(8, heads=4).offsets.bias.view(4, 4, 2)
    steps = torch.arange(1.0, 5.0)
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])
    torch.testing.assert_close(axes, directions[:, None] * steps[:, None], atol=1e-6, rtol=0)
    diagonal = DeformableAttention(16, heads=8).offsets.bias.view(8, 4, 2)[1]
    torch.testing.assert_close(diagonal, steps[:, None].expand(4, 2))


def test_fresh_attention_is_the_mean_of_the_places_that_its_heads_look_at() -> None:
    """One head, to the right, from column 1 of 8: columns 2, 3, 4 and 5, of which the mean is 3.5; the row stays."""
    attention = _plain(DeformableAttention(2, heads=1, ratio=1.0))
    tokens = _ramp()[0].flatten(2).transpose(1, 2)
    found = attention(torch.randn(1, 1, 2), torch.tensor([[1.5 / 8, 2.5 / 4]]), tokens, (4, 8))
    torch.testing.assert_close(found, torch.tensor([[[3.5, 2.0]]]))


def test_weights_choose_among_the_points() -> None:
    attention = _plain(DeformableAttention(2, heads=1, ratio=1.0))
    with torch.no_grad():
        attention.weights.bias.copy_(torch.tensor([0.0, 0.0, math.log(6.0), 0.0]))
    tokens = _ramp()[0].flatten(2).transpose(1, 2)
    found = attention(torch.randn(1, 1, 2), torch.tensor([[1.5 / 8, 2.5 / 4]]), tokens, (4, 8))
    # (2 + 3 + 6 x 4 + 5) / 9
    torch.testing.assert_close(found[0, 0, 0], torch.tensor(34 / 9))


def test_a_constant_map_is_found_constant_inside_and_less_at_the_edge() -> None:
    """The star of four heads and four points reaches four cells: the middle of 11 sees ones alone, a corner half."""
    attention = _plain(DeformableAttention(8, heads=4, ratio=1.0))
    places = cell_centres([(11, 11)], torch.device("cpu"))
    found = attention(torch.randn(1, 121, 8), places, torch.ones(1, 121, 8), (11, 11))[0].unflatten(0, (11, 11))
    torch.testing.assert_close(found[4:7, 4:7], torch.ones(3, 3, 8))
    torch.testing.assert_close(found[0, 0], torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0]))


def test_offsets_are_cells_of_the_map_that_is_asked_whatever_its_shape() -> None:
    """To the right, by 1 to 4 of 16 columns, and by 1 to 4 of 8: from the same place the latter is twice as far."""
    attention = _plain(DeformableAttention(2, heads=1, ratio=1.0))
    place, query = torch.tensor([[0.25, 0.5]]), torch.zeros(1, 1, 2)
    ends = []
    for width in (8, 16):
        tokens = _ramp(4, width)[0].flatten(2).transpose(1, 2)
        # Mean offset 2.5 cells from column 0.25 w - 0.5, whose centre is (column + 0.5) / w.
        ends.append((attention(query, place, tokens, (4, width))[0, 0, 0] + 0.5) / width)
    torch.testing.assert_close(torch.stack(ends), torch.tensor([0.25 + 2.5 / 8, 0.25 + 2.5 / 16]))


def test_places_are_exact_where_the_rest_is_in_bfloat16() -> None:
    """(x + 0.5) / 48 has no exact bfloat16; sampling the ramp there would miss the column by a tenth."""
    attention = _plain(DeformableAttention(2, heads=1, ratio=1.0))
    with torch.no_grad():
        attention.offsets.bias.zero_()
    places = cell_centres([(1, 48)], torch.device("cpu"))
    tokens = _ramp(1, 48)[0].flatten(2).transpose(1, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = attention(torch.zeros(1, 48, 2), places, tokens, (1, 48))
    # Columns below 49 are whole numbers that bfloat16 holds.
    torch.testing.assert_close(found[0, :, 0].float(), torch.arange(48.0), atol=1e-2, rtol=0)


def test_every_weight_gets_a_gradient() -> None:
    attention = DeformableAttention(32)
    tokens = torch.randn(2, 15, 32)
    attention(torch.randn(2, 4, 32), torch.rand(4, 2), tokens, SIZE).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in attention.parameters())


def test_heads_that_cannot_share_the_values_are_refused() -> None:
    with pytest.raises(ValueError, match="20 channels of values cannot be shared out among 16 heads"):
        DeformableAttention(40)
