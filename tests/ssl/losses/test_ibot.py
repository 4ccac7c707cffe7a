"""The student says of hidden patches what the teacher says of them."""

import math

import pytest
import torch

from guidino_cli.ssl.losses.ibot import ibot_loss


def test_every_view_counts_the_mean_of_its_masked_patches() -> None:
    # View 0 hides one patch whose loss is ln 2, view 1 three of which one is right (0) and two are ln 2; two of four
    # views hide none.
    student = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    targets = torch.tensor([[1.0, 0.0]] * 4)
    weights = torch.tensor([1.0, 1 / 3, 1 / 3, 1 / 3])
    loss = ibot_loss(student, targets, weights=weights, views=4, temperature=0.1)
    assert float(loss) == pytest.approx((math.log(2) + 2 / 3 * math.log(2)) / 4)


def test_with_half_of_the_views_masked_a_student_who_says_nothing_has_half_of_ln_k() -> None:
    targets = torch.softmax(torch.randn(6, 16), dim=-1)
    weights = torch.tensor([1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 4, 1 / 4])
    loss = ibot_loss(torch.zeros(6, 16), targets, weights=weights, views=4, temperature=0.1)
    assert float(loss) == pytest.approx(math.log(16) / 2, abs=1e-5)
