"""Displacement fields: where they sample, which way they point, and what their Jacobians are."""

import numpy as np
import pytest
import torch

from guidino_cli.registration.fields import (
    box_matrices,
    jacobian_determinants,
    sample,
    smooth_box,
    smooth_by_matrices,
    warp_image,
    warp_labels,
)


@pytest.mark.parametrize("shape", [(7, 9), (5, 7, 9)])
def test_a_constant_field_takes_the_value_at_the_displaced_pixel(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    field = np.zeros((len(shape), *shape), dtype=np.float32)
    field[-1], field[-2] = 2, -1
    warped = warp_image(values, field)
    # What is at column c + 2 and row r - 1 of the moving image is seen at (r, c).
    assert warped[..., 1:, :-2] == pytest.approx(values[..., :-1, 2:], abs=1e-5)
    lowest = values.reshape(2, -1).min(axis=1).reshape(2, *[1] * len(shape))
    assert np.allclose(warped[..., -2:], lowest, atol=1e-5)


def test_half_a_pixel_is_the_mean_of_two() -> None:
    row = torch.arange(6.0).view(1, 1, 1, 6).repeat(1, 1, 3, 1)
    field = torch.zeros(1, 2, 3, 6)
    field[:, 1] = 0.5
    assert sample(row, field)[0, 0, 1, :5].tolist() == pytest.approx([0.5, 1.5, 2.5, 3.5, 4.5])


def test_labels_are_those_of_the_nearest_pixel_and_0_outside() -> None:
    labels = np.array([[70_001, 2, 3, 4]], dtype=np.int64)
    field = np.zeros((2, 1, 4), dtype=np.float32)
    field[1] = [0.4, 0.6, 0.4, 1.0]
    assert warp_labels(labels, field).tolist() == [[70_001, 3, 3, 0]]


@pytest.mark.parametrize(("shape", "scale"), [((8, 10), 1.1), ((6, 8, 10), 0.8)])
def test_the_determinant_of_a_scaling_is_its_power(shape: tuple[int, ...], scale: float) -> None:
    field = (scale - 1) * np.indices(shape, dtype=np.float32)
    assert jacobian_determinants(field) == pytest.approx(scale ** len(shape), rel=1e-4)


def test_a_mirrored_axis_folds_everywhere() -> None:
    field = np.zeros((2, 5, 6), dtype=np.float32)
    field[1] = -2 * np.arange(6)
    assert np.allclose(jacobian_determinants(field), -1)


def test_the_box_counts_zeros_beyond_the_border() -> None:
    assert smooth_box(torch.ones(1, 1, 3, 3))[0, 0].tolist() == [
        pytest.approx([4 / 9, 6 / 9, 4 / 9]),
        pytest.approx([6 / 9, 1, 6 / 9]),
        pytest.approx([4 / 9, 6 / 9, 4 / 9]),
    ]


@pytest.mark.parametrize("shape", [(1, 7), (6, 9), (2, 5, 8)])
def test_the_mean_over_a_box_is_one_along_each_axis_in_turn(shape: tuple[int, ...]) -> None:
    values = torch.randn(2, len(shape), *shape, generator=torch.Generator().manual_seed(0))
    found = smooth_by_matrices(values, box_matrices(shape, times=3, like=values))
    assert torch.allclose(found, smooth_box(values, times=3), atol=1e-6)
