"""Soft Dice in closed form."""

import pytest
import torch

from guidino_cli.losses.dice import dice_loss

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


def test_foreground_classes_count_alike_and_the_background_not_at_all() -> None:
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
