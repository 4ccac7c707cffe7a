"""Segmentation losses in closed form."""

import math

import pytest
import torch
import torch.nn.functional as F
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


def test_the_margin_of_several_classes_is_to_the_strongest_other() -> None:
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


@pytest.mark.parametrize("num_classes", [2, 3, 9])
def test_undecided_costs_the_logarithm_of_the_number_of_classes(num_classes: int) -> None:
    mask = torch.randint(0, num_classes, (2, 4, 4))
    assert cross_entropy(torch.zeros(2, num_classes, 4, 4), mask).item() == pytest.approx(math.log(num_classes))


def test_cross_entropy_of_two_classes_is_binary_cross_entropy_of_their_difference() -> None:
    logits, mask = torch.randn(2, 2, 4, 4), torch.randint(0, 2, (2, 4, 4))
    expected = F.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], mask.float())
    torch.testing.assert_close(cross_entropy(logits, mask), expected)


def test_half_precision_logits_are_computed_in_full_precision() -> None:
    assert cross_entropy(torch.zeros(1, 2, 2, 2).half(), torch.zeros(1, 2, 2).long()).dtype == torch.float32


def test_the_deterministic_cross_entropy_is_the_same_loss() -> None:
    logits, mask = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randint(0, 3, (2, 4, 5))
    plain = cross_entropy(logits, mask)
    torch.use_deterministic_algorithms(True)
    try:
        fixed = cross_entropy(logits, mask)
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(fixed, plain)
    torch.testing.assert_close(torch.autograd.grad(fixed, logits), torch.autograd.grad(plain, logits))


SURE = 100.0


def _logits(labels: torch.Tensor, num_classes: int) -> torch.Tensor:
    """Logits that are certain of these labels."""
    return SURE * torch.nn.functional.one_hot(labels, num_classes).movedim(-1, 1).float()


def test_a_perfect_prediction_costs_nothing() -> None:
    mask = torch.tensor([[[0, 1], [1, 0]]])
    assert dice_loss(_logits(mask, 2), mask).item() == pytest.approx(0, abs=1e-6)


def test_the_opposite_of_the_truth_costs_one() -> None:
    mask = torch.tensor([[[0, 1], [1, 0]]])
    assert dice_loss(_logits(1 - mask, 2), mask).item() == pytest.approx(1, abs=1e-5)


def test_undecided_about_a_full_mask_costs_a_third() -> None:
    """2 * 0.5 n / (0.5 n + n) = 2 / 3."""
    assert dice_loss(torch.zeros(1, 2, 8, 8), torch.ones(1, 8, 8).long()).item() == pytest.approx(1 / 3, abs=1e-5)


def test_sums_run_over_the_batch() -> None:
    """One full and one empty mask, undecided: 2 * 0.5 n / (n + n) = 1 / 2; the mean over samples would be 1 / 3."""
    mask = torch.stack([torch.ones(8, 8), torch.zeros(8, 8)]).long()
    assert dice_loss(torch.zeros(2, 2, 8, 8), mask).item() == pytest.approx(1 / 2, abs=1e-5)


def test_foreground_classes_have_equal_weight_and_the_background_none() -> None:
    """Class 1 is right, class 2 is missed."""
    mask = torch.tensor([[[0, 0, 1, 2]]])
    found = torch.tensor([[[0, 0, 1, 0]]])
    assert dice_loss(_logits(found, 3), mask).item() == pytest.approx(1 / 2, abs=1e-5)


def test_a_class_absent_from_both_costs_nothing() -> None:
    mask = torch.zeros(1, 4, 4).long()
    assert dice_loss(_logits(mask, 2), mask).item() == pytest.approx(0, abs=1e-6)


def test_half_precision_logits_are_summed_in_full_precision() -> None:
    """2^17 pixels of probability one overflow fp16 (65504)."""
    mask = torch.ones(2, 256, 256).long()
    assert dice_loss(_logits(mask, 2).half(), mask).item() == pytest.approx(0, abs=1e-6)


def test_undecided_costs_the_logarithm_of_two() -> None:
    guide = torch.full((1, 1, 4, 4), 0.5)
    assert guide_cross_entropy(guide, torch.rand(1, 1, 4, 4)).item() == pytest.approx(math.log(2))


def test_the_guide_loss_is_equation_3_averaged_over_the_pixels_of_the_cells() -> None:
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


def test_the_guide_loss_is_minimal_at_the_fraction_of_foreground() -> None:
    target = torch.full((1, 1, 1, 1), 0.3)
    costs = {g: guide_cross_entropy(torch.full((1, 1, 1, 1), g), target).item() for g in (0.2, 0.3, 0.4)}
    assert min(costs, key=costs.__getitem__) == 0.3


def test_the_squared_error_is_the_mean_over_cells() -> None:
    guide, target = torch.tensor([[[[0.5, 1.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
    assert guide_mean_squared_error(guide, target).item() == pytest.approx(0.125)


@pytest.mark.parametrize("term", [guide_cross_entropy, guide_mean_squared_error])
def test_a_half_precision_guide_is_computed_in_full_precision(term) -> None:
    assert term(torch.full((1, 1, 2, 2), 0.5).bfloat16(), torch.zeros(1, 1, 2, 2)).dtype == torch.float32


def _binary(z: Tensor) -> Tensor:
    """Logits of two classes whose foreground probability is the sigmoid of z (B, H, W)."""
    return torch.stack([torch.zeros_like(z), z], dim=1)


def test_an_image_of_one_class_has_weights_of_one() -> None:
    """z = 0 everywhere, all foreground, 4 x 5 pixels: cross-entropy ln 2, overlap 10, union 30 - 10."""
    mask = torch.ones(1, 4, 5, dtype=torch.long)
    expected = math.log(2) + 1 - (10 + 1) / (20 + 1)
    assert structure_loss(_binary(torch.zeros(1, 4, 5)), mask).item() == pytest.approx(expected)


def test_an_empty_mask_that_is_found_costs_next_to_nothing() -> None:
    mask = torch.zeros(1, 4, 5, dtype=torch.long)
    assert structure_loss(_binary(torch.full((1, 4, 5), -20.0)), mask).item() == pytest.approx(0, abs=1e-6)


def test_pixels_that_differ_from_their_surroundings_have_more_weight() -> None:
    """Four pixels, one of them foreground: the square covers all, so its share is 1/4; weights 4.75, 2.25 thrice.

    z is ln 3 on the foreground pixel (p 3/4) and 0 elsewhere (p 1/2).
    """
    mask = torch.tensor([[[1, 0, 0, 0]]])
    z = torch.tensor([[[math.log(3), 0, 0, 0]]])
    entropy = (4.75 * math.log(4 / 3) + 3 * 2.25 * math.log(2)) / (4.75 + 3 * 2.25)
    overlap = 4.75 * 0.75
    total = 4.75 * 1.75 + 3 * 2.25 * 0.5
    expected = entropy + 1 - (overlap + 1) / (total - overlap + 1)
    assert structure_loss(_binary(z), mask).item() == pytest.approx(expected)


def test_the_square_around_a_pixel_reaches_fifteen_pixels_far() -> None:
    """Of 40 x 1 pixels the first is foreground; pixels 1 to 15 see it, among 16 + t of them, the others do not."""
    mask = torch.zeros(1, 40, 1, dtype=torch.long)
    mask[0, 0, 0] = 1
    weights = [1 + 5 * (1 - 1 / 16), *(1 + 5 / (16 + t) for t in range(1, 16)), *[1.0] * 24]
    # z = 0: the cross-entropy is ln 2 whatever the weights are, so the second term tells them.
    overlap, total = weights[0] / 2, weights[0] + sum(weights) / 2
    expected = math.log(2) + 1 - (overlap + 1) / (total - overlap + 1)
    assert structure_loss(_binary(torch.zeros(1, 40, 1)), mask).item() == pytest.approx(expected)


def test_as_coded_the_cross_entropy_has_no_weights_and_the_square_reaches_outside_the_image() -> None:
    """Four pixels, one of them foreground, in squares of 961 pixels: its share is 1/961 everywhere.

    z is ln 3 on the foreground pixel (p 3/4) and 0 elsewhere (p 1/2).
    """
    mask = torch.tensor([[[1, 0, 0, 0]]])
    z = torch.tensor([[[math.log(3), 0, 0, 0]]])
    entropy = (math.log(4 / 3) + 3 * math.log(2)) / 4
    inside, outside = 1 + 5 * 960 / 961, 1 + 5 / 961
    overlap = inside * 0.75
    total = inside * 1.75 + 3 * outside * 0.5
    expected = entropy + 1 - (overlap + 1) / (total - overlap + 1)
    assert structure_loss_with_plain_cross_entropy(_binary(z), mask).item() == pytest.approx(expected)


def test_as_coded_the_cross_entropy_is_a_mean_over_the_batch_and_each_image_has_its_iou() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 2, 6, 6), torch.randint(0, 2, (3, 6, 6))
    each = [structure_loss_with_plain_cross_entropy(logits[i : i + 1], mask[i : i + 1]) for i in range(3)]
    whole = structure_loss_with_plain_cross_entropy(logits, mask)
    torch.testing.assert_close(whole, torch.stack(each).mean())
    assert abs(whole.item() - structure_loss(logits, mask).item()) > 0.01


def test_images_have_equal_weight() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 2, 6, 6), torch.randint(0, 2, (3, 6, 6))
    each = [structure_loss(logits[i : i + 1], mask[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(structure_loss(logits, mask), torch.stack(each).mean())


def test_each_of_several_classes_is_compared_with_all_others() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 3, 6, 6), torch.randint(0, 3, (2, 6, 6))
    p = logits.softmax(dim=1)
    each = [structure_loss(_binary(torch.logit(p[:, k])), (mask == k).long()) for k in (1, 2)]
    torch.testing.assert_close(structure_loss(logits, mask), torch.stack(each).mean())


def test_confident_logits_have_finite_gradients() -> None:
    logits = torch.tensor([300.0, -300.0, 300.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4).clone().requires_grad_()
    loss = structure_loss(logits, torch.ones(1, 4, 4, dtype=torch.long))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


# --- Pixels that do not count


def _left_half_counts() -> tuple[Tensor, Tensor, Tensor]:
    """Logits and mask of three classes, 40 x 48, and booleans of the left half; no class ends beside the middle."""
    torch.manual_seed(0)
    mask = torch.zeros(2, 40, 48).long()
    mask[0, 5:20, 3:15], mask[1, 10:30, 4:20], mask[1, 12:20, 30:40] = 1, 2, 1
    valid = torch.zeros(2, 40, 48, dtype=torch.bool)
    valid[..., :24] = True
    return torch.randn(2, 3, 40, 48), mask, valid


@pytest.mark.parametrize(
    "term",
    [
        dice_loss,
        cross_entropy,
        lambda *given, **valid: cross_entropy(*given, weight=torch.tensor([1.0, 2.0, 3.0]), **valid),
        boundary_hinge,
        structure_loss,
    ],
    ids=["dice", "cross_entropy", "weighted cross_entropy", "boundary", "structure"],
)
def test_pixels_that_do_not_count_might_as_well_be_cut_off(term) -> None:
    logits, mask, valid = _left_half_counts()
    expected = term(logits[..., :24], mask[..., :24])
    torch.testing.assert_close(term(logits, mask, valid=valid), expected)
    torch.testing.assert_close(term(logits, mask, valid=torch.ones_like(valid)), term(logits, mask))


@pytest.mark.parametrize(
    "term", [dice_loss, cross_entropy, boundary_hinge, structure_loss, structure_loss_with_plain_cross_entropy]
)
def test_nothing_is_learned_from_pixels_that_do_not_count(term) -> None:
    logits, mask, valid = _left_half_counts()
    logits.requires_grad_()
    loss = term(logits, mask, valid=valid)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient[..., 24:].any()
    assert gradient[..., :24].any()
    other = torch.cat([logits[..., :24], torch.randn_like(logits[..., 24:])], dim=-1)
    assert term(other, mask, valid=valid).item() == loss.item()


@pytest.mark.parametrize(
    "term", [dice_loss, cross_entropy, boundary_hinge, structure_loss, structure_loss_with_plain_cross_entropy]
)
def test_an_image_of_which_nothing_counts_costs_nothing(term) -> None:
    logits, mask, valid = _left_half_counts()
    assert term(logits, mask, valid=torch.zeros_like(valid)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("term", [guide_cross_entropy, guide_mean_squared_error])
def test_a_cell_of_the_guide_counts_by_its_share(term) -> None:
    guide, target = torch.tensor([[[[0.5, 0.9]]]]), torch.tensor([[[[1.0, 0.0]]]])
    single = [term(guide[..., i : i + 1], target[..., i : i + 1]).item() for i in range(2)]
    weighted = term(guide, target, valid=torch.tensor([[[[1.0, 0.25]]]])).item()
    assert weighted == pytest.approx((single[0] + 0.25 * single[1]) / 1.25)
    assert term(guide, target, valid=torch.zeros(1, 1, 1, 2)).item() == 0
