"""Loss terms of volumes, in closed form."""

import math

import pytest
import torch
from torch import Tensor

from guidino_cli.losses import (
    boundary_hinge,
    cross_entropy,
    dice_loss,
    guide_cross_entropy,
    guide_mean_squared_error,
    structure_loss,
    structure_loss_with_plain_cross_entropy,
)

PIXEL_TERMS = [
    boundary_hinge,
    cross_entropy,
    dice_loss,
    structure_loss,
    structure_loss_with_plain_cross_entropy,
]


def _slab(depth: int = 4) -> Tensor:
    """(1, depth, 2, 2): background in the first half of the slices, foreground in the others."""
    mask = torch.zeros(1, depth, 2, 2).long()
    mask[:, depth // 2 :] = 1
    return mask


def _scores(z: Tensor) -> Tensor:
    """Two-class logits whose difference is z (B, Z, H, W)."""
    return torch.stack([torch.zeros_like(z), z], dim=1)


def test_undecided_about_a_full_volume_costs_a_third() -> None:
    """p = 1/2, y = 1: Dice is 2 * 1/2 / (1/2 + 1)."""
    full = torch.ones(2, 3, 4, 5).long()
    assert dice_loss(_scores(torch.zeros(2, 3, 4, 5)), full).item() == pytest.approx(1 / 3, abs=1e-5)


def test_the_dice_loss_sums_over_slices_and_batch() -> None:
    """Of 8 foreground voxels in two volumes 6 are found and 2 others with them: Dice 12/16 of the sums."""
    truth, found = torch.zeros(2, 4, 2, 2).long(), torch.zeros(2, 4, 2, 2)
    truth[0, 0], truth[1, 3] = 1, 1
    found[0, 0], found[1, 3, 0], found[1, 1, 0] = 1, 1, 1
    assert dice_loss(_scores(200 * found - 100), truth).item() == pytest.approx(1 / 4, abs=1e-5)


@pytest.mark.parametrize("num_classes", [2, 5])
def test_undecided_costs_the_logarithm_of_the_number_of_classes(num_classes: int) -> None:
    assert cross_entropy(torch.zeros(2, num_classes, 4, 2, 2), _slab().expand(2, -1, -1, -1)).item() == pytest.approx(
        math.log(num_classes)
    )


def test_class_weights_weigh_the_voxels_of_a_volume() -> None:
    """Half background at cost log 4, half foreground at log 4/3, of weights 1 and 3."""
    z = torch.full((1, 4, 2, 2), math.log(3.0))
    expected = (math.log(4) + 3 * math.log(4 / 3)) / 4
    assert cross_entropy(_scores(z), _slab(), weight=torch.tensor([1.0, 3])).item() == pytest.approx(expected)


def test_the_deterministic_cross_entropy_is_the_same_loss() -> None:
    logits, mask, weight = torch.randn(2, 3, 4, 5, 6), torch.randint(3, (2, 4, 5, 6)), torch.rand(3)
    expected = cross_entropy(logits, mask, weight=weight)
    torch.use_deterministic_algorithms(True)
    try:
        torch.testing.assert_close(cross_entropy(logits, mask, weight=weight), expected)
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_boundary_of_a_volume_runs_between_slices_too() -> None:
    """Wrong by 8 in one slice at a time: only the two at the contour cost, each half of the boundary."""
    costs = []
    for place in range(8):
        z = 2.0 * _slab(8) - 1
        z[:, place] *= -7
        costs.append(boundary_hinge(_scores(z), _slab(8)).item())
    assert costs == pytest.approx([0, 0, 0, 4, 4, 0, 0, 0])


@pytest.mark.parametrize("term", [structure_loss, structure_loss_with_plain_cross_entropy])
def test_every_slice_is_an_image_of_the_structure_loss(term) -> None:  # type: ignore[no-untyped-def]
    logits, mask = torch.randn(1, 3, 4, 9, 9), torch.randint(3, (1, 4, 9, 9))
    slices = torch.stack([logits[0, :, z] for z in range(4)])
    torch.testing.assert_close(term(logits, mask), term(slices, mask[0]))


@pytest.mark.parametrize("term", [cross_entropy, dice_loss])
def test_slices_that_do_not_count_might_as_well_be_cut_off(term) -> None:  # type: ignore[no-untyped-def]
    logits, mask = torch.randn(2, 3, 5, 8, 8), torch.randint(3, (2, 5, 8, 8))
    valid = torch.ones(2, 5, 8, 8, dtype=torch.bool)
    valid[:, 3:] = False
    torch.testing.assert_close(term(logits, mask, valid=valid), term(logits[:, :, :3], mask[:, :3]))


@pytest.mark.parametrize(("ignored", "costs"), [(7, (4, 4)), (5, (8, 0)), (2, (0, 8))])
def test_beside_a_slice_that_does_not_count_there_is_no_boundary(ignored: int, costs: tuple[int, int]) -> None:
    """The contour is between slices 3 and 4, either of which is wrong by 8."""
    valid = torch.ones(1, 8, 2, 2, dtype=torch.bool)
    valid[:, ignored] = False
    for place, cost in zip((3, 4), costs, strict=True):
        z = 2.0 * _slab(8) - 1
        z[:, place] *= -7
        assert boundary_hinge(_scores(z), _slab(8), valid=valid).item() == pytest.approx(cost)


@pytest.mark.parametrize("term", PIXEL_TERMS)
def test_nothing_is_learned_from_voxels_that_do_not_count(term) -> None:  # type: ignore[no-untyped-def]
    logits, mask = torch.randn(1, 3, 4, 6, 6, requires_grad=True), torch.randint(3, (1, 4, 6, 6))
    valid = torch.ones(1, 4, 6, 6, dtype=torch.bool)
    valid[:, 3], valid[..., 5] = False, False
    term(logits, mask, valid=valid).backward()
    assert logits.grad is not None
    assert not logits.grad.abs().sum(dim=1)[~valid].any()
    assert logits.grad.abs().sum(dim=1)[valid].any()


def test_the_guide_terms_are_means_over_slices_and_cells() -> None:
    """Guide 1/4 and 3/4 in two slices of targets 1/2 and 1."""
    guide = torch.tensor([0.25, 0.75]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 3, 3)
    target = torch.tensor([0.5, 1.0]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 3, 3)
    costs = (-0.5 * math.log(0.25) - 0.5 * math.log(0.75), -math.log(0.75))
    assert guide_cross_entropy(guide, target).item() == pytest.approx(sum(costs) / 2, rel=1e-5)
    assert guide_mean_squared_error(guide, target).item() == pytest.approx(1 / 16)
    # The second slice counts a third as much as the first.
    share = torch.tensor([1.0, 1 / 3]).view(1, 1, 2, 1, 1).expand(1, 1, 2, 3, 3)
    weighted = (costs[0] + costs[1] / 3) / (4 / 3)
    assert guide_cross_entropy(guide, target, valid=share).item() == pytest.approx(weighted, rel=1e-5)
