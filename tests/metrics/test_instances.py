"""Found, split, merged and missed instances of lines of pixels, told by eye."""

import numpy as np
import pytest

from guidino_cli.metrics.instances import InstanceComparison, compare_instances, pool_instances


def line(*runs: tuple[int, int]) -> np.ndarray:
    """A line of (number, length) runs."""
    return np.concatenate([np.full(length, number) for number, length in runs])[None]


def statuses(comparison: InstanceComparison) -> dict[int, str]:
    return {item.number: item.status for item in comparison.true}


TRUTH = line((1, 10), (0, 2), (2, 10), (0, 2), (3, 10))


@pytest.mark.parametrize(
    ("prediction", "expected"),
    [
        (TRUTH, {1: "found", 2: "found", 3: "found"}),
        (line((1, 5), (9, 5), (0, 2), (2, 10), (0, 2), (3, 10)), {1: "split", 2: "found", 3: "found"}),
        (line((1, 10), (0, 2), (2, 22)), {1: "found", 2: "merged", 3: "merged"}),
        (line((1, 10), (0, 2), (2, 6), (4, 16)), {1: "found", 2: "found", 3: "found"}),
        (line((1, 4), (0, 8), (2, 10), (0, 2), (3, 10)), {1: "missed", 2: "found", 3: "found"}),
        (line((5, 4), (6, 18), (0, 2), (3, 10)), {1: "merged", 2: "merged", 3: "found"}),
    ],
)
def test_what_became_of_three_instances(prediction: np.ndarray, expected: dict[int, str]) -> None:
    assert statuses(compare_instances(prediction, TRUTH)) == expected


def test_a_part_below_a_tenth_splits_nothing() -> None:
    prediction = TRUTH.copy()
    prediction[0, 0] = 7
    assert statuses(compare_instances(prediction, TRUTH, min_part=0.11))[1] == "found"
    assert statuses(compare_instances(prediction, TRUTH, min_part=0.1))[1] == "split"


def test_predicted_instances_of_the_background_are_extra() -> None:
    prediction = line((1, 10), (7, 2), (2, 10), (8, 2), (3, 10))
    comparison = compare_instances(prediction, TRUTH)
    assert comparison.extra == (7, 8)
    assert pool_instances([comparison, comparison]) == {
        "found": 6, "split": 0, "merged": 0, "split and merged": 0, "missed": 0, "extra": 4,
    }  # fmt: skip


def test_numbers_do_not_matter() -> None:
    prediction = line((1, 5), (9, 5), (0, 2), (2, 22))
    other = np.array([0, 4, 3, 0, 0, 0, 0, 0, 0, 8])[prediction]
    first, second = compare_instances(prediction, TRUTH), compare_instances(other, TRUTH)
    assert statuses(first) == statuses(second) == {1: "split", 2: "merged", 3: "merged"}
