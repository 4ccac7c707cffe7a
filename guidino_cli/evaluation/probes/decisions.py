"""From scores to decisions: the highest class, or thresholds that validation chose."""

from typing import Literal, get_args

import numpy as np

from guidino_cli.evaluation.probes.problem import ProbeFit

ThresholdRule = Literal["0.5", "youden", "f1"]
THRESHOLD_RULES: tuple[str, ...] = get_args(ThresholdRule)


def decide(fit: ProbeFit, *, is_multilabel: bool, rule: str) -> tuple[np.ndarray, list[float]]:
    """Decisions about the tested samples.

    More than two exclusive classes are decided by the highest score, whatever the rule.

    Args:
        fit: Of a solver.
        is_multilabel: Whether the classes are independent.
        rule: "0.5"; "youden", the largest sum of sensitivity and specificity; or "f1", the largest F1: both on the
            scores by which the settings were chosen.

    Returns:
        (T, K) bool, and the threshold of each class, none for the highest score.
    """
    count = fit.test.shape[1]
    if not is_multilabel and count > 2:
        called = fit.test.argmax(axis=1)[:, None] == np.arange(count)
        return called, []
    if not is_multilabel:
        threshold = choose_threshold(fit.val[:, 1], fit.val_labels[:, 1], rule)
        positive = fit.test[:, 1] >= threshold
        return np.stack([~positive, positive], axis=1), [1 - threshold, threshold]
    thresholds = [choose_threshold(fit.val[:, number], fit.val_labels[:, number], rule) for number in range(count)]
    return fit.test >= np.array(thresholds), thresholds


def choose_threshold(scores: np.ndarray, labels: np.ndarray, rule: str) -> float:
    """The threshold at or above which a sample is positive; .5 where the rule has no positive or no negative.

    Args:
        scores: (N,).
        labels: (N,) of 0, 1 and -1, which is left out.
        rule: See `decide`.
    """
    known = labels >= 0
    scores, truth = scores[known], labels[known] == 1
    if rule == "0.5" or not truth.any() or truth.all():
        return 0.5
    levels = np.unique(scores)
    called = scores[None] >= levels[:, None]
    tp, fp = (called & truth).sum(axis=1), (called & ~truth).sum(axis=1)
    if rule == "youden":
        quality = tp / truth.sum() - fp / (~truth).sum()
    else:
        quality = 2 * tp / (tp + fp + truth.sum())
    return float(levels[int(quality.argmax())])
