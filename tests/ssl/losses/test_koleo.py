"""Features keep a distance from their nearest neighbours."""

import math

import pytest
import torch

from guidino_cli.ssl.losses.koleo import grouped_koleo, koleo_loss


def test_three_points_on_a_circle_by_hand() -> None:
    # Angles 0, 60 and 180 degrees: distances to the nearest are 1, 1 and 2 sin 60 = sqrt 3; lengths do not count.
    angles = torch.tensor([0.0, math.pi / 3, math.pi])
    points = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.tensor([[1.0], [5.0], [0.1]])
    assert float(koleo_loss(points)) == pytest.approx(-math.log(math.sqrt(3)) / 3, abs=1e-5)


def test_opposite_points_are_as_far_apart_as_can_be() -> None:
    assert float(koleo_loss(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))) == pytest.approx(-math.log(2), abs=1e-5)


def test_equal_points_have_a_large_but_finite_loss_and_gradient() -> None:
    points = torch.ones(2, 3, requires_grad=True)
    loss = koleo_loss(points)
    loss.backward()
    assert 15 < float(loss) < 25
    assert bool(points.grad.isfinite().all())  # type: ignore[union-attr]


def test_its_gradient_drives_neighbours_apart() -> None:
    points = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]], requires_grad=True)
    koleo_loss(points).backward()
    moved = (points - 0.01 * points.grad).detach()  # type: ignore[operator]
    assert float(koleo_loss(moved)) < float(koleo_loss(points.detach()))


def test_neighbours_are_looked_for_within_groups_only() -> None:
    # Two pairs: 60 degrees apart in each, so that distances are 1; the pairs themselves lie on each other.
    angles = torch.tensor([0.0, math.pi / 3, 0.0, math.pi / 3])
    points = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert float(grouped_koleo(points, size=2)) == pytest.approx(0, abs=1e-5)
    assert float(grouped_koleo(points, size=None)) == float(koleo_loss(points)) > 10
