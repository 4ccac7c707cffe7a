"""Distances of images and sets by hand, their level on images of the same source, and their power on others."""

import numpy as np
import pytest
from scipy.stats import energy_distance

from guidino_cli.engine.drift.distances import image_drift, set_drift
from guidino_cli.engine.drift.reference import DriftReference


def on_a_line(training: list[float], held_back: list[float]) -> DriftReference:
    """A reference of one axis."""
    parts = [np.array(values, dtype=np.float32)[:, None] for values in (training, held_back)]
    return DriftReference(np.zeros(1, np.float32), np.eye(1, dtype=np.float32), parts[0], parts[1], "0", True)


def gaussian_reference(seed: int, *, count: int = 60) -> DriftReference:
    random = np.random.default_rng(seed)
    return DriftReference.fit(random.normal(size=(100, 8)), random.normal(size=(count, 8)), instrument="0")


def test_distance_and_p_value_of_an_image_are_those_of_its_rank_among_the_held_back_ones() -> None:
    # Distances to the training images at 0 are the numbers themselves; of 20, 95 % of 21 are below the largest.
    reference = on_a_line([0] * 5, list(range(1, 21)))
    found = image_drift(reference, np.array([[0.0], [10.0], [20.0], [30.0]]))
    assert found.distance.tolist() == pytest.approx([0, 0.5, 1, 1.5])
    assert found.p_value.tolist() == pytest.approx([1, 12 / 21, 2 / 21, 1 / 21])


def test_distance_to_the_training_images_is_the_mean_of_the_nearest_five() -> None:
    reference = on_a_line([0, 1, 2, 3, 4, 100], [2.0] * 20)
    # 2 is at 2, 1, 0, 1, 2 of its neighbours, 1.2 on average; 7 at 3, 4, 5, 6, 7.
    assert image_drift(reference, np.array([[7.0]])).distance.tolist() == pytest.approx([5 / 1.2])


def test_the_statistic_of_a_set_is_the_energy_distance() -> None:
    random = np.random.default_rng(0)
    training, held_back, new = random.normal(size=30), random.normal(size=40), random.normal(0.5, 1, 10)
    pool = np.concatenate([held_back, new])
    draws = [random.choice(pool, 10, replace=False) for _ in range(4000)]
    limit = np.quantile([energy_distance(draw, training) ** 2 for draw in draws], 0.95)
    expected = energy_distance(new, training) ** 2 / limit
    found = set_drift(on_a_line(training.tolist(), held_back.tolist()), new[:, None])
    assert found.distance == pytest.approx(expected, rel=0.1)


def test_p_value_of_one_far_image_is_that_of_its_rank() -> None:
    reference = on_a_line([0] * 20, [0.1 * number for number in range(19)])
    found = set_drift(reference, np.array([[50.0]]))
    assert found.p_value == pytest.approx(1 / 20, abs=0.03)
    assert found.distance >= 1


def test_at_most_a_twentieth_of_sets_of_the_same_source_is_called_drift() -> None:
    found = []
    for seed in range(100):
        reference = gaussian_reference(seed)
        new = np.random.default_rng(1000 + seed).normal(size=(30, 8))
        found.append(set_drift(reference, reference.place(new)).p_value <= 0.05)
    # Of 100 with a probability of 0.05, more than 11 come in 1 of 200 repetitions.
    assert sum(found) <= 11


def test_few_images_of_the_same_source_are_beyond_the_limit() -> None:
    beyond = []
    for seed in range(50):
        reference = gaussian_reference(seed)
        new = np.random.default_rng(1000 + seed).normal(size=(20, 8))
        beyond += image_drift(reference, reference.place(new)).distance.tolist()
    assert 0.02 < np.mean(np.array(beyond) > 1) < 0.08


@pytest.mark.parametrize("change", [lambda x: x + 0.7, lambda x: 1.6 * x], ids=["shifted", "spread"])
def test_thirty_images_of_another_source_are_drift(change) -> None:  # type: ignore[no-untyped-def]
    reference = gaussian_reference(0)
    new = change(np.random.default_rng(1).normal(size=(30, 8)))
    found = set_drift(reference, reference.place(new))
    assert found.p_value < 0.01
    assert found.distance > 1


def test_the_same_images_have_the_same_distance_in_any_order() -> None:
    reference = gaussian_reference(0)
    new = reference.place(np.random.default_rng(1).normal(0.2, 1, (30, 8)))
    first, second = set_drift(reference, new), set_drift(reference, new[::-1])
    assert second.distance == pytest.approx(first.distance, rel=0.1)
    assert second.p_value == pytest.approx(first.p_value, abs=0.05)
