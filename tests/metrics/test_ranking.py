"""AUROC and IoU from counts."""

import numpy as np
import pytest

from guidino_cli.metrics.ranking import auroc, auroc_of_counts, iou_of_counts

TRUTH = np.array([False, False, True, True])


@pytest.mark.parametrize(
    ("values", "area"),
    [
        ([0.1, 0.2, 0.3, 0.4], 1.0),
        ([0.4, 0.3, 0.2, 0.1], 0.0),
        # Of four pairs three are in order.
        ([0.1, 0.3, 0.2, 0.4], 0.75),
        # One pair in order twice over, one equal: (1 + 1 + 1 + 0.5) / 4.
        ([0.1, 0.3, 0.3, 0.4], 0.875),
        ([0.5, 0.5, 0.5, 0.5], 0.5),
    ],
)
def test_auroc_is_the_share_of_pairs_in_order_and_ties_count_half(values: list[float], area: float) -> None:
    assert auroc(np.array(values), TRUTH) == area


def test_auroc_equals_the_comparison_of_every_pair() -> None:
    generator = np.random.default_rng(0)
    values, truth = generator.integers(0, 9, (7, 8)) / 8, generator.random((7, 8)) < 0.3
    inside, outside = values[truth][:, None], values[~truth][None]
    assert auroc(values, truth) == pytest.approx(((inside > outside) + 0.5 * (inside == outside)).mean())


@pytest.mark.parametrize("truth", [np.zeros(4, dtype=bool), np.ones(4, dtype=bool)])
def test_auroc_without_both_kinds_of_pixels_is_not_a_number(truth: np.ndarray) -> None:
    assert np.isnan(auroc(np.arange(4.0), truth))


def test_auroc_of_counts_needs_no_pixels() -> None:
    # Levels 0 and 1: of 2 x 3 pairs, 1 x 2 in order and 1 x 2 + 1 x 1 equal.
    assert auroc_of_counts(np.array([1, 1]), np.array([2, 1])) == pytest.approx((2 + 0.5 * 3) / 6)


def test_iou_of_everything_at_or_above_each_level() -> None:
    # Levels 0, 1, 2. At 0 all 3 of the truth and 3 others; at 1: 2 and 1; at 2: 1 and none.
    assert iou_of_counts(np.array([1, 1, 1]), np.array([2, 1, 0])) == pytest.approx([3 / 6, 2 / 4, 1 / 3])


def test_a_shape_that_differs_is_a_programmers_fault() -> None:
    with pytest.raises(ValueError, match="truth is"):
        auroc(np.zeros(3), np.zeros(4, dtype=bool))
