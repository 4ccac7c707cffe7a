"""The student says of one crop what the teacher says of another."""

import math

import pytest
import torch

from guidino_cli.ssl.losses.dino import dino_loss


def test_a_student_who_says_nothing_has_ln_k_whatever_the_target() -> None:
    targets = torch.softmax(torch.randn(2, 3, 8), dim=-1)
    loss = dino_loss(torch.zeros(4, 3, 8), targets, temperature=0.1, same_views=False)
    assert float(loss) == pytest.approx(math.log(8), abs=1e-5)


def test_one_pair_is_the_cross_entropy() -> None:
    # Student [3/4, 1/4] at temperature 1/2: scores ln(3)/2 and 0; target [1/3, 2/3].
    student = torch.tensor([[[0.5 * math.log(3), 0.0]]])
    loss = dino_loss(student, torch.tensor([[[1 / 3, 2 / 3]]]), temperature=0.5, same_views=False)
    assert float(loss) == pytest.approx(-(math.log(3 / 4) / 3 + 2 * math.log(1 / 4) / 3))


def test_a_view_is_not_compared_with_itself() -> None:
    # Student's view 0 says class 0 and meets target 1 (class 1), and the other way round: both pairs are wrong.
    sure = 20.0 * torch.eye(2).view(2, 1, 2)
    targets = torch.eye(2).view(2, 1, 2)
    assert float(dino_loss(sure, targets, temperature=1.0, same_views=True)) == pytest.approx(20.0, abs=1e-4)
    assert float(dino_loss(sure, targets, temperature=1.0, same_views=False)) == pytest.approx(10.0, abs=1e-4)


def test_it_is_least_where_the_student_says_the_target() -> None:
    target = torch.tensor([0.7, 0.2, 0.1])
    right = (0.1 * target.log()).view(1, 1, 3)
    entropy = -float((target * target.log()).sum())
    loss = dino_loss(right, target.view(1, 1, 3), temperature=0.1, same_views=False)
    assert float(loss) == pytest.approx(entropy, abs=1e-5)
    assert float(dino_loss(1.2 * right, target.view(1, 1, 3), temperature=0.1, same_views=False)) > entropy
