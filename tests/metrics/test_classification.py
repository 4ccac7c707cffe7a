"""Metrics of scores: against scikit-learn with the same weights, and by hand where nothing is defined."""

import numpy as np
import pytest

from guidino_cli.metrics.classification import weighted_auc, weighted_average_precision, weighted_decisions


def _draw(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    # Rounded, so that there are ties.
    scores = generator.random(60).round(1)
    truth = generator.random(60) < 0.3 + 0.4 * scores
    weights = generator.multinomial(60, np.full(60, 1 / 60), size=4)
    return scores, truth, np.concatenate([np.ones((1, 60), np.int64), weights])


@pytest.mark.parametrize("seed", [0, 1])
def test_auc_and_average_precision_are_those_of_scikit_learn(seed: int) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    scores, truth, weights = _draw(seed)
    for row, auc, precision in zip(
        weights,
        weighted_auc(scores, truth, weights),
        weighted_average_precision(scores, truth, weights),
        strict=True,
    ):
        assert auc == pytest.approx(roc_auc_score(truth, scores, sample_weight=row))
        assert precision == pytest.approx(average_precision_score(truth, scores, sample_weight=row))


def test_decisions_are_those_of_scikit_learn() -> None:
    from sklearn import metrics

    scores, truth, weights = _draw(2)
    called = scores >= 0.5
    found = weighted_decisions(called, truth, weights)
    for place, row in enumerate(weights):
        assert found["accuracy"][place] == pytest.approx(metrics.accuracy_score(truth, called, sample_weight=row))
        assert found["balanced_accuracy"][place] == pytest.approx(
            metrics.balanced_accuracy_score(truth, called, sample_weight=row)
        )
        for name in ("precision", "recall", "f1", "jaccard"):
            expected = getattr(metrics, f"{name}_score")(truth, called, sample_weight=row)
            assert found[name][place] == pytest.approx(expected), name


def test_three_images_by_hand() -> None:
    scores, truth = np.array([0.9, 0.8, 0.1]), np.array([True, False, True])
    ones = np.ones((1, 3))
    # One of two pairs is in order; precision 1 at the first positive and 2/3 at the second.
    assert weighted_auc(scores, truth, ones)[0] == 0.5
    assert weighted_average_precision(scores, truth, ones)[0] == pytest.approx((1 + 2 / 3) / 2)


@pytest.mark.parametrize("truth", [[True, True], [False, False]])
def test_auc_without_positives_or_negatives_is_not_a_number(truth: list[bool]) -> None:
    assert np.isnan(weighted_auc(np.array([0.1, 0.9]), np.array(truth), np.ones((1, 2)))[0])


def test_equal_scores_have_an_auc_of_one_half() -> None:
    assert weighted_auc(np.full(4, 0.3), np.array([True, False, True, False]), np.ones((1, 4)))[0] == 0.5


def test_no_images_have_no_metric() -> None:
    none = np.zeros(0)
    assert np.isnan(weighted_auc(none, none.astype(bool), np.ones((2, 0)))).all()
    assert np.isnan(weighted_average_precision(none, none.astype(bool), np.ones((2, 0)))).all()


def test_calling_nothing_positive_has_precision_zero_where_positives_exist() -> None:
    found = weighted_decisions(np.zeros(3, bool), np.array([True, False, False]), np.ones((1, 3)))
    assert (found["precision"][0], found["f1"][0], found["recall"][0]) == (0.0, 0.0, 0.0)
    absent = weighted_decisions(np.zeros(2, bool), np.zeros(2, bool), np.ones((1, 2)))
    assert np.isnan([absent["precision"][0], absent["f1"][0], absent["recall"][0]]).all()
