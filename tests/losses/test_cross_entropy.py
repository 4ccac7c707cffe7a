"""Cross-entropy in closed form."""

import math

import pytest
import torch
import torch.nn.functional as F

from guidino_cli.losses.cross_entropy import cross_entropy


@pytest.mark.parametrize("num_classes", [2, 3, 9])
def test_undecided_costs_the_logarithm_of_the_number_of_classes(num_classes: int) -> None:
    mask = torch.randint(0, num_classes, (2, 4, 4))
    assert cross_entropy(torch.zeros(2, num_classes, 4, 4), mask).item() == pytest.approx(math.log(num_classes))


def test_of_two_classes_it_is_the_binary_cross_entropy_of_their_difference() -> None:
    logits, mask = torch.randn(2, 2, 4, 4), torch.randint(0, 2, (2, 4, 4))
    expected = F.binary_cross_entropy_with_logits(logits[:, 1] - logits[:, 0], mask.float())
    torch.testing.assert_close(cross_entropy(logits, mask), expected)


def test_half_precision_logits_are_computed_in_full_precision() -> None:
    assert cross_entropy(torch.zeros(1, 2, 2, 2).half(), torch.zeros(1, 2, 2).long()).dtype == torch.float32


def test_the_form_with_a_fixed_order_of_sums_is_the_same_loss() -> None:
    logits, mask = torch.randn(2, 3, 4, 5, requires_grad=True), torch.randint(0, 3, (2, 4, 5))
    plain = cross_entropy(logits, mask)
    torch.use_deterministic_algorithms(True)
    try:
        fixed = cross_entropy(logits, mask)
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(fixed, plain)
    torch.testing.assert_close(torch.autograd.grad(fixed, logits), torch.autograd.grad(plain, logits))
