"""Metrics of scores of images: AUC, average precision and those of decisions, for many weightings at once.

Weights are how often each image was drawn, one row a draw of a bootstrap; a row of ones gives the metric itself.
"""

import numpy as np


def weighted_auc(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    Args:
        scores: (N,) numbers.
        truth: (N,) bool.
        weights: (B, N), 0 or more.

    Returns:
        (B,) in [0, 1]; NaN where no positive or no negative has a weight.
    """
    positives, negatives = _by_level(scores, truth, weights)
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    below = np.cumsum(negatives, axis=1) - negatives
    ranked = (positives * (below + negatives / 2)).sum(axis=1)
    return np.divide(ranked, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def weighted_average_precision(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average precision: precision at each score, weighted by the recall gained there; not interpolated.

    Args:
        scores: (N,) numbers.
        truth: (N,) bool.
        weights: (B, N), 0 or more.

    Returns:
        (B,) in [0, 1]; NaN where no positive has a weight.
    """
    positives, negatives = (part[:, ::-1] for part in _by_level(scores, truth, weights))
    found = np.cumsum(positives, axis=1)
    called = found + np.cumsum(negatives, axis=1)
    precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
    total = positives.sum(axis=1)
    gained = (precision * positives).sum(axis=1)
    return np.divide(gained, total, out=np.full(len(weights), np.nan), where=total > 0)


def weighted_decisions(predicted: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, balanced accuracy, precision, recall, F1 and Jaccard of one class.

    Precision is 0 where nothing was called positive though positives exist. What has no denominator is NaN.

    Args:
        predicted: (N,) bool.
        truth: (N,) bool.
        weights: (B, N), 0 or more.

    Returns:
        (B,) for each name.
    """
    tp, fp = weights @ (predicted & truth), weights @ (predicted & ~truth)
    fn, tn = weights @ (~predicted & truth), weights @ (~predicted & ~truth)
    recall, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    precision = np.where((tp + fp == 0) & (tp + fn > 0), 0.0, _ratio(tp, tp + fp))
    return {
        "accuracy": _ratio(tp + tn, tp + fp + fn + tn),
        "balanced_accuracy": (recall + specificity) / 2,
        "precision": precision,
        "recall": recall,
        "f1": _ratio(2 * tp, 2 * tp + fp + fn),
        "jaccard": _ratio(tp, tp + fp + fn),
    }


def _by_level(scores: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and negatives (B, L) at each distinct score, lowest first."""
    if not len(scores):
        return np.zeros((len(weights), 0)), np.zeros((len(weights), 0))
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf) > 0) if len(scores) > 1 else np.array([0])
    starts = starts if starts.size and starts[0] == 0 else np.concatenate([[0], starts])
    ordered, positive = weights[:, order].astype(np.float64), truth[order]
    positives = np.add.reduceat(ordered * positive, starts, axis=1)
    negatives = np.add.reduceat(ordered * ~positive, starts, axis=1)
    return positives, negatives


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
