"""The boundary hinge in closed form."""

import pytest
import torch

from guidino_cli.losses.boundary import boundary_hinge


def _halves(width: int = 8) -> torch.Tensor:
    """Left half background, right half foreground."""
    mask = torch.zeros(1, 4, width).long()
    mask[..., width // 2 :] = 1
    return mask


def _scores(z: torch.Tensor) -> torch.Tensor:
    """Two-class logits whose difference is z (B, H, W)."""
    return torch.stack([torch.zeros_like(z), z], dim=1)


def test_undecided_costs_the_margin() -> None:
    assert boundary_hinge(_scores(torch.zeros(1, 4, 8)), _halves()).item() == pytest.approx(1)


@pytest.mark.parametrize(("z", "cost"), [(1.0, 0.0), (3.0, 0.0), (0.25, 0.75), (-2.0, 3.0)])
def test_the_cost_is_what_is_missing_to_the_margin(z: float, cost: float) -> None:
    mask = _halves()
    assert boundary_hinge(_scores(z * (2.0 * mask - 1)), mask).item() == pytest.approx(cost)


def test_the_boundary_is_one_pixel_on_either_side() -> None:
    """Wrong by 8 in one column at a time: only the two columns at the contour cost, each half of the boundary."""
    costs = []
    for column in range(8):
        z = 2.0 * _halves() - 1
        z[..., column] *= -7
        costs.append(boundary_hinge(_scores(z), _halves()).item())
    assert costs == pytest.approx([0, 0, 0, 4, 4, 0, 0, 0])


@pytest.mark.parametrize("label", [0, 1])
def test_the_edge_of_the_image_is_no_boundary(label: int) -> None:
    assert boundary_hinge(_scores(torch.zeros(1, 4, 4)), torch.full((1, 4, 4), label)).item() == 0


def test_of_several_classes_the_margin_is_to_the_strongest_other() -> None:
    """Logits (0, 2, 1): class 1 wins by 1 over class 2, so its own side costs nothing."""
    logits = torch.tensor([0.0, 2.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 4, 8)
    inside = boundary_hinge(logits, _halves())
    # Class 1: right on the foreground side (0), wrong by 1 on the other (2); half each. Class 2 has no boundary (0).
    assert inside.item() == pytest.approx((0.5 * 0 + 0.5 * 2 + 0) / 2)


def test_the_gradient_reaches_wrong_boundary_pixels_only() -> None:
    z = torch.zeros(1, 4, 8, requires_grad=True)
    boundary_hinge(_scores(z), _halves()).backward()
    assert z.grad is not None
    assert (z.grad[0, 0] != 0).tolist() == [False, False, False, True, True, False, False, False]
