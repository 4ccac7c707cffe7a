"""Projection head, EMA teacher, schedules, and collapse statistics."""

import math

import pytest
import torch
from torch import nn

from guidino_cli.ssl.collapse import effective_rank, mean_cosine
from guidino_cli.ssl.networks import DINOHead, ema_update, frozen_copy
from guidino_cli.ssl.schedules import cosine_schedule, linear_schedule, warmup_cosine_schedule


def test_logits_of_a_head_have_the_standard_deviation_of_its_prototypes() -> None:
    head = DINOHead(8, prototypes=4000, hidden=16, bottleneck=32, last_std=0.1)
    scores = head(torch.randn(3, 8))
    assert scores.shape == (3, 4000)
    # Cut at two standard deviations, a normal distribution of 0.1 has 0.088.
    assert scores.std(dim=1).tolist() == pytest.approx([0.088] * 3, rel=0.05)


def test_ema_update_moves_by_one_minus_momentum() -> None:
    student = nn.Linear(1, 1, bias=False)
    nn.init.constant_(student.weight, 1.0)
    teacher = frozen_copy(student)
    nn.init.constant_(student.weight, 3.0)
    ema_update(teacher, student, momentum=0.75)
    assert float(teacher.weight) == 1.5
    assert not teacher.weight.requires_grad
    ema_update(teacher, student, momentum=0.0)
    assert float(teacher.weight) == 3.0


def test_linear_schedule_rises_and_stays() -> None:
    assert [linear_schedule(step, steps=4, start=0.04, end=0.08) for step in (0, 1, 4, 9)] == pytest.approx(
        [0.04, 0.05, 0.08, 0.08]
    )


def test_cosine_schedule_is_midway_at_half_time() -> None:
    assert [cosine_schedule(step, steps=10, start=1.0, end=0.0) for step in (0, 5, 10, 20)] == pytest.approx(
        [1, 0.5, 0, 0]
    )


def test_warmup_cosine_schedule_warms_up_and_falls_or_stays() -> None:
    rates = [warmup_cosine_schedule(step, steps=12, peak=4.0, final=0.0, warmup=4) for step in (0, 3, 4, 8)]
    assert rates == pytest.approx([0.0, 3.0, 4.0, 2.0])
    assert warmup_cosine_schedule(11, steps=12, peak=4.0, final=None, warmup=4) == 4.0


def test_effective_rank_counts_directions_of_equal_variance() -> None:
    # Plus and minus each of three axes: a covariance with three equal eigenvalues.
    axes = torch.eye(5)[:3]
    assert float(effective_rank(torch.cat([axes, -axes]))) == pytest.approx(3)


def test_equal_features_have_rank_one_and_cosine_one() -> None:
    features = torch.ones(6, 4)
    assert float(effective_rank(features)) == pytest.approx(1)
    assert float(mean_cosine(features)) == pytest.approx(1)


def test_mean_cosine_skips_pairs_of_a_row_with_itself() -> None:
    # Cosines of three pairs: 0, -1 and 0.
    features = torch.tensor([[1.0, 0.0], [0.0, 3.0], [-2.0, 0.0]])
    assert float(mean_cosine(features)) == pytest.approx(-1 / 3)
    assert math.isfinite(float(effective_rank(features)))
