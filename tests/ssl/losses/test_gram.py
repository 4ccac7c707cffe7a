"""Patches keep among each other the likenesses that a teacher saw."""

import math

import pytest
import torch

from guidino_cli.ssl.losses.gram import gram_loss


def test_equal_features_have_none() -> None:
    features = torch.randn(2, 5, 3)
    assert float(gram_loss(features, features)) == pytest.approx(0, abs=1e-12)


def test_lengths_and_a_common_rotation_change_nothing() -> None:
    features = torch.randn(2, 5, 2)
    turn = torch.tensor([[math.cos(1.0), -math.sin(1.0)], [math.sin(1.0), math.cos(1.0)]])
    assert float(gram_loss(3 * features @ turn, features)) == pytest.approx(0, abs=1e-10)


def test_two_patches_by_hand() -> None:
    # Student: at right angles, cosine 0; teacher: 60 degrees, cosine 1/2. Two of four entries differ by 1/2.
    student = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    teacher = torch.tensor([[[1.0, 0.0, 0.0], [0.5, math.sqrt(3) / 2, 0.0]]])
    assert float(gram_loss(student, teacher)) == pytest.approx(2 * 0.25 / 4)


def test_images_count_alike() -> None:
    student = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])
    assert float(gram_loss(student, teacher)) == pytest.approx((2 / 4 + 0) / 2)
