"""ConvexAdam: known warps are found, in two and three dimensions, and the parts equal those of the authors' package."""

from math import pi

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from guidino_cli.registration.convex import displacement_vectors, matching_costs, solve_coupled
from guidino_cli.registration.convexadam import CellGrid, ConvexAdamSettings, find_short_axis, register_features
from guidino_cli.registration.mind import mind_ssc


def texture(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    smooth = gaussian_filter(noise, 1.5) / gaussian_filter(noise, 1.5).std() + 2 * gaussian_filter(noise, 4) / (
        gaussian_filter(noise, 4).std()
    )
    return np.asarray(smooth.astype(np.float32))


def waves(shape: tuple[int, ...], amplitude: float) -> np.ndarray:
    """A smooth field (n, *S) of up to `amplitude` pixels that vanishes at the border."""
    places = [np.sin(pi * (index + 0.5) / size) for index, size in zip(np.indices(shape), shape, strict=True)]
    bump = np.prod(places, axis=0)
    return np.stack([amplitude * bump * sign for sign in (1, -1, 0.5)[: len(shape)]]).astype(np.float32)


def warped(image: np.ndarray, field: np.ndarray) -> np.ndarray:
    """By scipy, with cubic splines: value at x + u(x)."""
    return np.asarray(map_coordinates(image, np.indices(image.shape) + field, order=3, mode="nearest"))


def features(image: np.ndarray) -> torch.Tensor:
    return mind_ssc(torch.from_numpy(image))


@pytest.mark.parametrize(
    ("shape", "spacing", "amplitude"),
    [((66, 73), (1, 1), 5), ((36, 40, 44), (1, 1, 1), 4), ((12, 60, 66), (5, 1, 1), 3)],
    ids=["image", "volume", "thick slices"],
)
def test_a_known_smooth_warp_is_found_within_half_a_pixel(
    shape: tuple[int, ...], spacing: tuple[float, ...], amplitude: float
) -> None:
    moving = texture(shape)
    field = waves(shape, amplitude)
    # Pixels of thick slices are moved by fractions of a slice.
    field /= np.array(spacing, dtype=np.float32).reshape(-1, *[1] * len(shape))
    fixed = warped(moving, field)
    found = register_features(features(fixed), features(moving), spacing, ConvexAdamSettings(grid=4))
    error = np.sqrt(np.square(found - field).sum(axis=0))
    assert error.mean() < 0.5
    # Otherwise a field of zeros would do.
    assert np.sqrt(np.square(field).sum(axis=0)).mean() > 2.5 * error.mean()


@pytest.mark.parametrize("shape", [(48, 55), (24, 30, 26)])
def test_an_image_onto_itself_does_not_move(shape: tuple[int, ...]) -> None:
    same = features(texture(shape))
    found = register_features(same, same, (1.0,) * len(shape), ConvexAdamSettings(steps=10))
    assert float(np.abs(found).max()) < 0.05


def test_cells_are_as_nearly_cubic_as_whole_pixels_allow() -> None:
    assert CellGrid.of((1, 1, 1), 6) == CellGrid((6, 6, 6), (1, 1, 1))
    # 6 mm in the plane, one slice of 10 mm.
    assert CellGrid.of((10, 1, 1), 6) == CellGrid((1, 6, 6), (10 / 6, 1, 1))


def test_an_axis_of_one_cell_is_found() -> None:
    assert find_short_axis((7, 13), (1, 1), ConvexAdamSettings()) is None
    assert find_short_axis((13, 6), (1, 1), ConvexAdamSettings()) == 1
    with pytest.raises(ValueError, match="less than two cells"):
        register_features(torch.zeros(1, 13, 6), torch.zeros(1, 13, 6), (1, 1), ConvexAdamSettings())


def test_the_cheapest_displacement_leads_to_the_same_features() -> None:
    moving = torch.randn(1, 3, 12, 12)
    fixed = moving.roll((-2, 1), dims=(2, 3))
    costs = matching_costs(fixed, moving, (3, 2))
    best = displacement_vectors((3, 2))[costs[:, 6, 6].argmin()]
    # What is at (6, 6) of the fixed image lies at (8, 5) of the moving one.
    assert best.tolist() == [2, -1]


def test_the_search_equals_that_of_the_authors_package() -> None:
    theirs = pytest.importorskip("convexAdam.convex_adam_utils", reason="the package convexAdam is not installed")
    other = torch.rand(1, 12, 8, 10, 6)
    one = other.roll((2, -1), dims=(2, 4)) + 0.3 * torch.rand(other.shape)
    shape = [4 * size for size in other.shape[2:]]
    costs, best = theirs.correlate(one, other, 2, 4, shape, 12)
    steps = torch.nn.functional.affine_grid(2 * torch.eye(3, 4)[None], (1, 1, 5, 5, 5), align_corners=True)
    mesh = steps.permute(0, 4, 1, 2, 3).reshape(3, -1, 1)
    expected = theirs.coupled_convex(costs, best, mesh, 4, shape)
    found = solve_coupled(matching_costs(one, other, (2, 2, 2)), displacement_vectors((2, 2, 2)), torch.ones(3))
    assert found[0, :, 4, 5, 3].tolist() == pytest.approx([-2, 0, 1], abs=0.2)
    assert found.allclose(expected, atol=1e-5)


def test_the_field_is_near_that_of_the_authors_package() -> None:
    theirs = pytest.importorskip("convexAdam.convex_adam_MIND", reason="the package convexAdam is not installed")
    moving = texture((32, 40, 24))
    field = waves(moving.shape, 3)
    fixed = warped(moving, field)
    expected = theirs.convex_adam_pt(fixed, moving, grid_sp=4, dtype=torch.float32, device=torch.device("cpu"))
    found = register_features(features(fixed), features(moving), (1, 1, 1), ConvexAdamSettings(grid=4))
    assert np.abs(np.moveaxis(expected, -1, 0) - found).mean() < 0.15
