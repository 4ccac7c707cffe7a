"""The weighted sum of loss terms: deep supervision, the guide's target, errors."""

import math

import pytest
import torch

from guidino_cli.engine.training.loss import SegmentationLoss, guide_target, guide_target_of_counted
from guidino_cli.errors import ConfigError
from guidino_cli.types import Prediction

RIGHT, UNDECIDED = 100.0, 0.0
LN2 = math.log(2)


def _levels(*certainties: float) -> list[torch.Tensor]:
    """Levels of 16, 8, 4, ... pixels for a mask of zeros: certain of it, or undecided."""
    return [
        torch.stack([torch.full((1, 16 >> i, 16 >> i), value), torch.zeros(1, 16 >> i, 16 >> i)], dim=1)
        for i, value in enumerate(certainties)
    ]


MASK = torch.zeros(1, 16, 16).long()
GUIDE = torch.full((1, 1, 2, 2), 0.5)


def test_the_loss_is_the_weighted_sum_of_its_terms() -> None:
    terms = SegmentationLoss({"cross_entropy": 2, "guide": 0.5}, has_guide=True)(
        Prediction(_levels(UNDECIDED), GUIDE), MASK
    )
    assert terms["cross_entropy"].item() == pytest.approx(2 * LN2)
    assert terms["guide"].item() == pytest.approx(0.5 * LN2)
    assert terms["loss"].item() == pytest.approx(2.5 * LN2)


@pytest.mark.parametrize("wrong", range(5))
def test_a_level_has_half_the_weight_of_the_finer_one_and_all_sum_to_one(wrong: int) -> None:
    levels = _levels(*[UNDECIDED if i == wrong else RIGHT for i in range(5)])
    loss = SegmentationLoss({"cross_entropy": 1}, has_guide=False)(Prediction(levels), MASK)["loss"]
    assert loss.item() == pytest.approx(LN2 * 2.0 ** (4 - wrong) / 31)


@pytest.mark.parametrize("wrong", range(3))
def test_a_network_may_weigh_its_levels_alike(wrong: int) -> None:
    levels = _levels(*[UNDECIDED if i == wrong else RIGHT for i in range(3)])
    objective = SegmentationLoss({"cross_entropy": 1}, has_guide=False, level_weights=(1, 1, 1))
    assert objective(Prediction(levels), MASK)["loss"].item() == pytest.approx(LN2 / 3)


def test_a_network_without_its_coarser_levels_has_the_weights_of_the_others() -> None:
    objective = SegmentationLoss({"cross_entropy": 1}, has_guide=False, level_weights=(1, 1, 1))
    assert objective(Prediction(_levels(UNDECIDED)), MASK)["loss"].item() == pytest.approx(LN2)


@pytest.mark.parametrize("weights", [{"guide": 0.1}, {}])
def test_the_weights_of_the_levels_do_not_depend_on_a_guide(weights: dict[str, float]) -> None:
    gradients = []
    for guide, extra in ((None, {}), (GUIDE, weights)):
        levels = [level.requires_grad_() for level in _levels(*[UNDECIDED] * 5)]
        objective = SegmentationLoss({"dice": 1, "cross_entropy": 1, **extra}, has_guide=guide is not None)
        objective(Prediction(levels, guide), MASK)["loss"].backward()
        gradients.append([level.grad for level in levels])
    for plain, guided in zip(*gradients, strict=True):
        assert torch.equal(plain, guided)


def test_two_levels_are_two_levels_and_not_logits_and_a_guide() -> None:
    loss = SegmentationLoss({"cross_entropy": 1}, has_guide=False)(Prediction(_levels(RIGHT, UNDECIDED)), MASK)["loss"]
    assert loss.item() == pytest.approx(LN2 / 3)


def test_the_mask_of_a_coarse_level_is_not_shifted() -> None:
    """Left half background, right half foreground, at every scale."""
    mask = torch.zeros(1, 16, 16).long()
    mask[..., 8:] = 1
    levels = []
    for side in (16, 8, 4, 2):
        truth = (torch.arange(side) >= side // 2).float().expand(1, side, side)
        levels.append(torch.stack([RIGHT * (1 - truth), RIGHT * truth], dim=1))
    assert SegmentationLoss({"cross_entropy": 1}, has_guide=False)(Prediction(levels), mask)[
        "loss"
    ].item() == pytest.approx(0)


def test_a_term_of_weight_zero_is_not_computed() -> None:
    terms = SegmentationLoss({"dice": 1, "cross_entropy": 0}, has_guide=False)(Prediction(_levels(RIGHT)), MASK)
    assert set(terms) == {"dice", "loss"}


def test_without_a_guide_term_the_guide_does_not_enter_the_loss() -> None:
    terms = SegmentationLoss({"dice": 1}, has_guide=True)(Prediction(_levels(RIGHT), GUIDE), MASK)
    assert set(terms) == {"dice", "loss"}


# --- The guide's target


def test_the_guide_target_is_the_fraction_of_foreground_in_a_cell() -> None:
    mask = torch.zeros(1, 32, 32).long()
    mask[0, 0, 0] = 1
    mask[0, 16:, 16:24] = 2
    expected = torch.tensor([[[[1 / 256, 0], [0, 1 / 2]]]])
    torch.testing.assert_close(guide_target(mask, GUIDE), expected)


def test_the_top_left_pixels_of_the_cells_are_not_the_whole() -> None:
    """The authors' target would be one everywhere."""
    mask = torch.zeros(1, 64, 64).long()
    mask[:, ::16, ::16] = 1
    torch.testing.assert_close(guide_target(mask, torch.zeros(1, 1, 4, 4)), torch.full((1, 1, 4, 4), 1 / 256))


def test_the_target_keeps_the_centre_of_an_object() -> None:
    y, x = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    mask = ((y - 100.0) ** 2 + (x - 140.0) ** 2 <= 30**2).long()[None]
    target = guide_target(mask, torch.zeros(1, 1, 16, 16))[0, 0]
    centres = 16 * torch.arange(16) + 7.5
    found = [(target.sum(dim=1 - axis) * centres).sum() / target.sum() for axis in (0, 1)]
    assert [item.item() for item in found] == pytest.approx([100, 140], abs=0.5)


def test_a_thin_line_does_not_vanish() -> None:
    mask = torch.zeros(1, 64, 64).long()
    mask[:, 5] = 1
    assert guide_target(mask, torch.zeros(1, 1, 4, 4)).sum().item() * 256 == pytest.approx(64)


def test_a_pixel_on_the_border_of_two_cells_counts_in_both_by_its_area() -> None:
    """Five pixels in two cells of 2.5: the middle one is a fifth of either."""
    mask = torch.tensor([[[0, 0, 1, 0, 0]] * 5])
    torch.testing.assert_close(guide_target(mask, torch.zeros(1, 1, 1, 2))[0, 0], torch.tensor([[0.2, 0.2]]))


def test_a_grid_finer_than_the_mask_repeats_it_by_area() -> None:
    """Two pixels in three cells: the middle one is half of either."""
    mask = torch.tensor([[[0, 1], [0, 1]]])
    target = guide_target(mask, torch.zeros(1, 1, 3, 3))[0, 0]
    torch.testing.assert_close(target, torch.tensor([[0.0, 0.5, 1.0]] * 3))


@pytest.mark.parametrize("grid", [(5, 7), (19, 19), (70, 53)])
def test_the_target_holds_the_foreground_of_the_mask_on_any_grid(grid: tuple[int, int]) -> None:
    torch.manual_seed(0)
    mask = (torch.rand(2, 33, 50) > 0.7).long()
    target = guide_target(mask, torch.zeros(1, 1, *grid))
    torch.testing.assert_close(target.mean(dim=(1, 2, 3)), mask.float().mean(dim=(1, 2)))


def test_several_guide_maps_cover_one_class_each() -> None:
    mask = torch.zeros(1, 32, 32).long()
    mask[0, :16], mask[0, 16:] = 1, 2
    target = guide_target(mask, torch.zeros(1, 2, 2, 2))
    assert target[0].tolist() == [[[1, 1], [0, 0]], [[0, 0], [1, 1]]]


# --- Refusals


def test_an_unknown_term_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"train\.loss: unknown term 'dise'; did you mean 'dice'"):
        SegmentationLoss({"dise": 1}, has_guide=False)


def test_a_guide_term_without_a_guide_is_refused() -> None:
    with pytest.raises(ConfigError, match="'guide', but the model has no guide"):
        SegmentationLoss({"dice": 1, "guide": 0.1}, has_guide=False)


@pytest.mark.parametrize("weights", [{}, {"dice": 0}, {"guide": 1}])
def test_a_loss_without_a_term_for_the_segmentation_is_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="no term for the segmentation"):
        SegmentationLoss(weights, has_guide=True)


def test_class_weights_weigh_the_cross_entropy_and_no_other_term() -> None:
    # One pixel of class 1 with cross-entropy ln 2 and three of class 0 with 0: weighted 3 to 1, (3 ln 2) / (3 + 3).
    logits = torch.zeros(1, 2, 2, 2)
    logits[0, 0] = RIGHT
    logits[0, :, 0, 0] = UNDECIDED
    mask = torch.zeros(1, 2, 2).long()
    mask[0, 0, 0] = 1
    weights = {"cross_entropy": 1.0, "dice": 1.0}
    plain = SegmentationLoss(weights, has_guide=False)(Prediction([logits]), mask)
    weighted = SegmentationLoss(weights, has_guide=False, class_weights=[1, 3])(Prediction([logits]), mask)
    assert plain["cross_entropy"].item() == pytest.approx(LN2 / 4)
    assert weighted["cross_entropy"].item() == pytest.approx(LN2 / 2)
    assert torch.equal(plain["dice"], weighted["dice"])


def test_ignored_pixels_count_neither_in_the_levels_nor_in_the_guide() -> None:
    """Of 16 x 16 pixels the right half does not count; of the left, the upper half is foreground."""
    mask = torch.zeros(1, 16, 16).long()
    mask[:, :8], mask[..., 8:] = 1, 255
    right = torch.stack([torch.zeros(1, 16, 16), 200.0 * (mask == 1) - 100.0], dim=1)
    right[..., 8:] = 50.0
    target, share = guide_target_of_counted(mask, torch.zeros(1, 1, 2, 2))
    assert target.tolist() == [[[[1, 0], [0, 0]]]]
    assert share.tolist() == [[[[1, 0], [1, 0]]]]
    loss = SegmentationLoss({"dice": 1, "cross_entropy": 1, "guide": 1}, has_guide=True, has_ignored=True)
    terms = loss(Prediction([right], torch.tensor([[[[0.5, 0.1], [0.5, 0.9]]]])), mask)
    assert terms["dice"].item() == pytest.approx(0, abs=1e-6)
    assert terms["cross_entropy"].item() == pytest.approx(0, abs=1e-6)
    assert terms["guide"].item() == pytest.approx(LN2)
