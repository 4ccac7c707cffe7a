"""The guide terms in closed form."""

import math

import pytest
import torch
import torch.nn.functional as F

from guidino_cli.losses.guide import guide_cross_entropy, guide_mean_squared_error


def test_undecided_costs_the_logarithm_of_two() -> None:
    guide = torch.full((1, 1, 4, 4), 0.5)
    assert guide_cross_entropy(guide, torch.rand(1, 1, 4, 4)).item() == pytest.approx(math.log(2))


def test_it_is_equation_3_averaged_over_the_pixels_of_the_cells() -> None:
    torch.manual_seed(0)
    guide, pixels = torch.rand(2, 1, 3, 3), (torch.rand(2, 1, 48, 48) > 0.7).float()
    spread = guide.repeat_interleave(16, dim=2).repeat_interleave(16, dim=3)
    expected = F.binary_cross_entropy(spread, pixels)
    torch.testing.assert_close(guide_cross_entropy(guide, F.avg_pool2d(pixels, 16)), expected)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_guide_at_the_end_of_its_range_has_a_finite_cost(value: float) -> None:
    wrong = guide_cross_entropy(torch.full((1, 1, 2, 2), value), torch.full((1, 1, 2, 2), 1 - value))
    right = guide_cross_entropy(torch.full((1, 1, 2, 2), value), torch.full((1, 1, 2, 2), value))
    assert 10 < wrong.item() < 20
    assert right.item() == pytest.approx(0, abs=1e-5)


def test_the_least_cost_is_at_the_share_of_foreground() -> None:
    target = torch.full((1, 1, 1, 1), 0.3)
    costs = {g: guide_cross_entropy(torch.full((1, 1, 1, 1), g), target).item() for g in (0.2, 0.3, 0.4)}
    assert min(costs, key=costs.__getitem__) == 0.3


def test_the_squared_error_is_the_mean_over_cells() -> None:
    guide, target = torch.tensor([[[[0.5, 1.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
    assert guide_mean_squared_error(guide, target).item() == pytest.approx(0.125)


@pytest.mark.parametrize("term", [guide_cross_entropy, guide_mean_squared_error])
def test_a_half_precision_guide_is_computed_in_full_precision(term) -> None:
    assert term(torch.full((1, 1, 2, 2), 0.5).bfloat16(), torch.zeros(1, 1, 2, 2)).dtype == torch.float32
