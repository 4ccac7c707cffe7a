"""U-KAN, and the splines of its layers."""

import pytest
import torch

from guidino_cli.models.segmenters.ukan import UKAN, KANLinear

STEP = 0.4


@pytest.mark.parametrize(("widths", "millions"), [((128, 160, 256), 6.357), ((256, 320, 512), 25.359)])
def test_the_number_of_parameters_is_that_of_the_papers_network(widths: tuple[int, ...], millions: float) -> None:
    with torch.device("meta"):
        net = UKAN(num_classes=1, widths=widths)
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 3) == millions


def test_a_layer_has_ten_parameters_for_each_pair_of_channels() -> None:
    assert sum(p.numel() for p in KANLinear(3, 7).parameters()) == 10 * 3 * 7


def test_within_the_grid_the_splines_sum_to_one() -> None:
    total = KANLinear(1, 1).basis(torch.linspace(-1, 1, 101)).sum(-1)
    torch.testing.assert_close(total, torch.ones(101))


@pytest.mark.parametrize("knot", range(6))
def test_at_a_knot_three_splines_are_a_sixth_four_sixths_and_a_sixth(knot: int) -> None:
    expected = torch.zeros(8)
    expected[knot : knot + 3] = torch.tensor([1 / 6, 4 / 6, 1 / 6])
    torch.testing.assert_close(KANLinear(1, 1).basis(torch.tensor(-1 + STEP * knot)), expected, atol=1e-6, rtol=0)


def test_half_way_between_two_knots_four_splines_are_1_23_23_and_1_forty_eighths() -> None:
    expected = torch.tensor([0, 0, 1, 23, 23, 1, 0, 0]) / 48
    torch.testing.assert_close(KANLinear(1, 1).basis(torch.tensor(0.0)), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("x", [-1 - 3 * STEP, 1 + 3 * STEP, 17.0, -1e6])
def test_beyond_three_intervals_outside_the_grid_all_splines_vanish(x: float) -> None:
    assert KANLinear(1, 1).basis(torch.tensor(x)).abs().max().item() < 1e-12


def test_coefficients_that_are_the_places_of_the_splines_make_the_identity() -> None:
    """Cubic B-splines reproduce straight lines."""
    layer = KANLinear(1, 1)
    with torch.no_grad():
        layer.base.zero_()
        layer.scale.fill_(1)
        layer.spline.copy_(layer.centres.view(1, 1, 8))
        x = torch.linspace(-1, 1, 21).unsqueeze(1)
        torch.testing.assert_close(layer(x), x, atol=1e-6, rtol=0)


def test_the_scale_multiplies_the_spline_and_not_the_base() -> None:
    layer, x = KANLinear(2, 3), torch.rand(5, 2)
    with torch.no_grad():
        whole = layer(x)
        base = torch.nn.functional.silu(x) @ layer.base.T
        layer.scale.mul_(2)
        torch.testing.assert_close(layer(x) - base, 2 * (whole - base))


def test_far_outside_the_grid_a_layer_is_its_base_alone() -> None:
    layer, x = KANLinear(2, 3), torch.tensor([[9.0, -40.0]])
    torch.testing.assert_close(layer(x), torch.nn.functional.silu(x) @ layer.base.T)


def test_the_maps_are_at_a_half_to_a_thirty_second() -> None:
    features = UKAN(num_classes=2, widths=(8, 4, 6)).encode(torch.rand(2, 3, 64, 32), [])
    sizes = [(1, 32, 16), (2, 16, 8), (8, 8, 4), (4, 4, 2), (6, 2, 1)]
    assert [tuple(item.shape[1:]) for item in features] == sizes


def test_two_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="expected three"):
        UKAN(num_classes=2, widths=(16, 32))
