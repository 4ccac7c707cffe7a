"""Scores of a mask without truth: values by hand, the same for a whole and for its parts."""

import numpy as np
import pytest
import torch

from guidino_cli.engine.prediction.accumulation import CasePart
from guidino_cli.engine.prediction.quality import CaseQuality, QualitySums


def part(foreground: list[float], guide: list[float] | None = None, members: list[list[int]] | None = None) -> CasePart:
    """A row of pixels of two classes."""
    p = torch.tensor(foreground)
    probabilities = torch.stack([1 - p, p])[:, None]
    labels = (p > 0.5).numpy().astype(np.uint8)[None]
    maps = None if guide is None else torch.tensor(guide)[None, None]
    return CasePart(0, labels, probabilities, maps, [np.array([row], dtype=np.uint8) for row in members or []])


def quality(*parts: CasePart, classes: int = 2) -> CaseQuality:
    sums = QualitySums(classes)
    for item in parts:
        sums.add(item)
    return sums.result()


def test_scores_of_four_pixels_by_hand() -> None:
    found = quality(part([0.9, 0.7, 0.2, 0.0], guide=[1.0, 0.6, 0.2, 0.0]))
    assert found.mean_probability == pytest.approx(0.8)
    # 2 (0.9 + 0.7) / (1.8 + 2)
    assert found.soft_dice == pytest.approx(3.2 / 3.8)
    assert found.contrast == pytest.approx(0.8 - 0.1)
    assert found.agreement is None
    assert found.surety == found.mean_probability


def test_agreement_is_the_mean_dice_of_members_with_the_mask() -> None:
    # The mask is 1 1 0 0: Dice 2 * 1 / (2 + 1) and 2 * 2 / (2 + 3).
    found = quality(part([0.9, 0.7, 0.2, 0.0], members=[[1, 0, 0, 0], [1, 1, 1, 0]]))
    assert found.agreement == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert found.surety == found.agreement


def test_an_empty_mask_has_the_lowest_scores() -> None:
    found = quality(part([0.4, 0.3], guide=[0.9, 0.1], members=[[1, 0], [0, 0]]))
    assert found == CaseQuality(0.0, 0.0, 0.0, 0.0)
    assert quality(part([0.9, 0.1])).emptied() == CaseQuality()


def test_a_mask_that_fills_the_image_has_a_contrast_with_nothing() -> None:
    assert quality(part([0.9, 0.9], guide=[0.5, 0.7])).contrast == pytest.approx(0.6)


def test_parts_give_the_scores_of_the_whole() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(3, 8, 5, generator=generator).softmax(dim=0)
    guide = torch.rand(2, 8, 5, generator=generator)
    labels = probabilities.argmax(dim=0).numpy()
    member = (labels + (np.arange(8) % 4 == 0)[:, None]) % 3
    whole = quality(CasePart(0, labels, probabilities, guide, [member]), classes=3)
    rows = [slice(0, 3), slice(3, 8)]
    parts = [CasePart(r.start, labels[r], probabilities[:, r], guide[:, r], [member[r]]) for r in rows]
    found = quality(*parts, classes=3)
    assert vars(found) == pytest.approx(vars(whole))


def test_classes_of_different_size_count_alike_and_absent_ones_not_at_all() -> None:
    probabilities = torch.zeros(4, 1, 5)
    probabilities[1, 0, :4], probabilities[2, 0, 4] = 0.6, 1.0
    probabilities[0] = 1 - probabilities[1] - probabilities[2]
    labels = np.array([[1, 1, 1, 1, 2]])
    assert quality(CasePart(0, labels, probabilities), classes=4).mean_probability == pytest.approx((0.6 + 1.0) / 2)


def test_each_class_is_compared_with_its_own_guide_map() -> None:
    probabilities = torch.eye(3)[[0, 1, 2]].T[:, None]
    guide = torch.tensor([[[0.1, 0.9, 0.3]], [[0.0, 0.2, 0.6]]])
    found = quality(CasePart(0, np.array([[0, 1, 2]]), probabilities, guide), classes=3)
    assert found.contrast == pytest.approx(((0.9 - 0.2) + (0.6 - 0.1)) / 2)
