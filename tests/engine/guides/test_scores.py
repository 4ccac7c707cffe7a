"""The guide alone against the truth."""

import math

import numpy as np
import pytest

from guidino_cli.engine.guides.scores import MapScoreAccumulator, choose_thresholds
from guidino_cli.metrics.overlap import auroc

VALUES = np.array([[0.3, 0.5], [0.5, 0.75]], dtype=np.float32)
TRUTH = np.array([[False, False], [True, True]])


def test_a_value_equal_to_the_threshold_is_foreground() -> None:
    score = MapScoreAccumulator("a").score(VALUES, TRUTH)
    assert score.iou_at(0.5) == pytest.approx(2 / 3)
    assert score.iou_at(0.3) == 0.5
    assert score.iou_at(0.301) == pytest.approx(2 / 3)
    assert score.iou_at(0.501) == 0.5
    assert score.iou_at(1.0) == 0.0


def test_images_without_foreground_are_counted_but_have_neither_auroc_nor_iou() -> None:
    tally = MapScoreAccumulator("a")
    tally.score(VALUES, TRUTH)
    empty = tally.score(VALUES, np.zeros((2, 2), dtype=bool))
    assert math.isnan(empty.auroc)
    assert math.isnan(empty.iou_at(0.5))
    assert (tally.used, tally.with_foreground, tally.total) == (1, 1, 2)
    assert tally.mean_iou(0.5) == pytest.approx(2 / 3)


def test_an_image_without_truth_has_values_only() -> None:
    tally = MapScoreAccumulator("a")
    score = tally.score(VALUES, None)
    assert (score.low, score.high) == pytest.approx((0.3, 0.75))
    assert score.mean == pytest.approx(0.5125)
    assert math.isnan(score.foreground)
    assert math.isnan(tally.mean_iou(0.5))
    assert (tally.used, tally.total) == (0, 1)


def test_pooled_auroc_ranks_the_pixels_of_all_images_together() -> None:
    tally, generator = MapScoreAccumulator("a"), np.random.default_rng(0)
    pairs = [(generator.random((6, 5)).astype(np.float32), generator.random((6, 5)) < 0.4) for _ in range(3)]
    # Pixels of an image without foreground are background for the pixels of the others.
    pairs.append((np.full((6, 5), 0.5, dtype=np.float32), np.zeros((6, 5), dtype=bool)))
    for values, truth in pairs:
        tally.score(values, truth)
    together = auroc(np.concatenate([a for a, _ in pairs]), np.concatenate([b for _, b in pairs]))
    assert tally.pooled_auroc == pytest.approx(together, abs=1e-5)


@pytest.mark.parametrize(
    ("low", "high", "thresholds"),
    [
        (0.01, 0.95, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
        (0.43, 0.56, [0.44, 0.46, 0.48, 0.5, 0.52, 0.54, 0.56]),
        (0.1, 0.3, [0.1, 0.15, 0.2, 0.25, 0.3, 0.5]),
        (0.161, 0.178, [0.162, 0.164, 0.166, 0.168, 0.17, 0.172, 0.174, 0.176, 0.178, 0.5]),
    ],
)
def test_thresholds_are_round_lie_within_the_values_and_hold_a_half(
    low: float, high: float, thresholds: list[float]
) -> None:
    assert choose_thresholds(low, high) == thresholds


@pytest.mark.parametrize(
    ("at_most", "thresholds"), [(3, [0.0, 0.5, 1.0]), (6, [0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0]), (2, [0.0, 0.5, 1.0])]
)
def test_a_wide_range_has_few_thresholds(at_most: int, thresholds: list[float]) -> None:
    assert choose_thresholds(0.0, 1.0, at_most=at_most) == thresholds


def test_a_volume_scores_as_the_image_of_all_its_slices() -> None:
    generator = np.random.default_rng(3)
    values = generator.random((5, 6, 7)).astype(np.float32)
    truth = generator.random((5, 6, 7)) < values
    image, volume = MapScoreAccumulator("foreground"), MapScoreAccumulator("foreground")
    flat = image.score(values.reshape(5, 42), truth.reshape(5, 42))
    found = volume.score_volume(values, truth)
    assert found.auroc == pytest.approx(flat.auroc, abs=1e-5)
    assert (found.low, found.high, found.foreground) == (flat.low, flat.high, flat.foreground)
    assert found.mean == pytest.approx(flat.mean)
    assert np.array_equal(found.iou, flat.iou)
    assert volume.pooled_auroc == image.pooled_auroc
    assert volume.mean_iou(0.5) == image.mean_iou(0.5)


def test_a_volume_of_one_value_per_side_is_ranked_perfectly() -> None:
    values = np.full((2, 2, 2), 0.25, dtype=np.float32)
    values[1] = 0.75
    score = MapScoreAccumulator("foreground").score_volume(values, values > 0.5)
    assert (score.auroc, score.iou_at(0.5), score.iou_at(0.2), score.foreground) == (1.0, 1.0, 0.5, 0.5)


def test_a_volume_without_foreground_has_no_auroc_and_no_iou() -> None:
    scores = MapScoreAccumulator("foreground")
    score = scores.score_volume(np.full((2, 3, 4), 0.5, dtype=np.float32), np.zeros((2, 3, 4), dtype=bool))
    assert np.isnan(score.auroc)
    assert np.isnan(score.iou_at(0.5))
    assert (scores.total, scores.used, scores.with_foreground) == (1, 0, 0)
