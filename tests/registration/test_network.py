"""The network that registers: integration of a velocity, its loss, and what a new one does."""

import numpy as np
import pytest
import torch

from guidino_cli.registration.fields import integrate_velocity, jacobian_determinants, measure_roughness
from guidino_cli.registration.network import (
    NetworkShape,
    RegistrationNetwork,
    compute_loss,
    make_dissimilarity,
)

pytest.importorskip("monai")


def test_a_constant_velocity_moves_by_itself_in_unit_time() -> None:
    velocity = torch.zeros(1, 2, 12, 14)
    velocity[:, 0], velocity[:, 1] = 1.5, -2
    assert torch.allclose(integrate_velocity(velocity, 7), velocity, atol=1e-5)


def test_a_linear_velocity_is_integrated_to_an_exponential() -> None:
    # dx/dt = x / 2 about the middle: after unit time x is exp(1/2) times as far from it.
    middle = 40
    distance = torch.arange(81.0) - middle
    velocity = torch.zeros(1, 2, 5, 81)
    velocity[:, 1] = distance / 2
    field = integrate_velocity(velocity, 7)[0, 1, 2]
    inside = distance.abs() < 15
    expected = (np.exp(0.5) - 1) * distance
    # Of the squarings of first-order steps, 1/2**7 of a unit each.
    assert torch.allclose(field[inside], expected[inside], rtol=0.01, atol=1e-4)


def test_an_integrated_field_folds_nothing_where_the_velocity_itself_would() -> None:
    rows = torch.arange(64.0)
    velocity = torch.zeros(1, 2, 64, 64)
    velocity[:, 0] = 6 * torch.sin(rows * (2 * np.pi / 16))[:, None]
    fields = velocity[0].numpy(), integrate_velocity(velocity, 7)[0].numpy()
    folds = [(jacobian_determinants(field) <= 0).mean() for field in fields]
    assert folds[0] > 0.2
    assert folds[1] == 0


def test_the_roughness_of_a_shear_is_its_squared_slope_over_the_axes() -> None:
    # Columns move by 0.5 cells more with each row: slope 0.5 of one of two components along one axis.
    field = torch.zeros(1, 2, 6, 5)
    field[:, 1] = 0.5 * torch.arange(6.0)[:, None]
    assert float(measure_roughness(field, (1, 1))) == pytest.approx(0.25 / 2)
    # Rows three times as far apart as columns: a third of the slope.
    assert float(measure_roughness(field, (3, 1))) == pytest.approx(0.25 / 9 / 2)


def test_an_axis_of_a_single_cell_has_no_slope() -> None:
    # Two slices are one cell of --cell 2.
    field = torch.zeros(1, 3, 1, 6, 5)
    field[:, 2] = 0.5 * torch.arange(6.0)[:, None]
    assert float(measure_roughness(field, (1, 1, 1))) == pytest.approx(0.25 / 3)


@pytest.mark.parametrize(("dims", "size"), [(2, (21, 30)), (3, (9, 12, 10))])
@pytest.mark.parametrize("cell", [1, 2])
def test_a_new_network_moves_nothing_on_images_of_any_size(dims: int, size: tuple[int, ...], cell: int) -> None:
    torch.manual_seed(0)
    network = RegistrationNetwork(NetworkShape(dims, 3, cell))
    fixed, moving = torch.rand(2, 1, 3, *size)
    field = network.find_field(fixed, moving, (1.0,) * dims)
    assert field.shape == (1, dims, *size)
    assert float(field.abs().max()) < 0.01


def test_the_weights_are_those_of_the_paper_figure() -> None:
    # Convolutions of 3 x 3 x 3 with bias: 2-16, 16-32, 32-32, 32-32 on the way down; 64-32 twice and 48-32 on the way
    # up; 32-16, 16-16 and 16-3 at full size.
    pairs = [(2, 16), (16, 32), (32, 32), (32, 32), (64, 32), (64, 32), (48, 32), (32, 16), (16, 16), (16, 3)]
    expected = sum(27 * first * second + second for first, second in pairs)
    network = RegistrationNetwork(NetworkShape(3, 1))
    assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_local_correlation_ignores_contrast_and_is_least_where_images_agree() -> None:
    # Windows of 9 x 9 at the border hold zeros of both images, which agree; of 96 x 96 they are a sixth.
    image = torch.rand(1, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    other = torch.rand(1, 1, 96, 96, generator=torch.Generator().manual_seed(1))
    correlation = make_dissimilarity("lncc", 2)
    assert float(correlation(image, image)) == pytest.approx(-1, abs=0.01)
    assert float(correlation(-0.3 * image, image)) == pytest.approx(-1, abs=0.02)
    # Windows at the border continue with zeros, which would correlate images of another mean.
    assert float(correlation(other - 0.5, image - 0.5)) > -0.1


def test_local_correlation_is_the_squared_pearson_correlation_of_each_window() -> None:
    first, second = np.random.default_rng(0).random((2, 9, 9))
    inside = [torch.from_numpy(item)[None, None].float() for item in (first, second)]
    losses = pytest.importorskip("monai.losses")
    found = losses.LocalNormalizedCrossCorrelationLoss(spatial_dims=2, kernel_size=9, reduction="none")(*inside)
    # The window of the middle is the whole image.
    assert -float(found[0, 0, 4, 4]) == pytest.approx(np.corrcoef(first.ravel(), second.ravel())[0, 1] ** 2, rel=1e-3)
    assert float(make_dissimilarity("lncc", 2)(*inside)) == pytest.approx(float(found.mean()), rel=1e-5)


def test_the_loss_is_that_of_the_warped_image_and_the_weighted_slopes() -> None:
    moving = torch.arange(8.0).view(1, 1, 1, 8).repeat(1, 1, 8, 1)
    # One column to the right everywhere: values are one higher, and 0 beyond the last column.
    field = torch.zeros(1, 2, 8, 8)
    field[:, 1] = 1
    fixed = moving + 1
    fixed[..., -1] = 0
    parts = compute_loss(field, fixed, moving, make_dissimilarity("features", 2), sides=(1, 1), smoothness=2)
    assert float(parts.total) == pytest.approx(0, abs=1e-5)
    field[:, 0] = 0.25 * torch.arange(8.0)
    parts = compute_loss(field, fixed, moving, make_dissimilarity("features", 2), sides=(1, 1), smoothness=2)
    assert float(parts.roughness) == pytest.approx(0.25**2 / 2)
    assert float(parts.total - parts.dissimilarity) == pytest.approx(0.25**2)
