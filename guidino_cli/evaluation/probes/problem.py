"""What a solver is given and gives back: vectors and labels of one run, scores and how they came about."""

from dataclasses import dataclass

import numpy as np

from guidino_cli.metrics.classification import weighted_auc


@dataclass(frozen=True, eq=False)
class ProbeProblem:
    """Vectors and labels of one run.

    Attributes:
        train: (N, D) float32.
        train_labels: (N, K) of 0, 1 and -1 (unknown); of single labels one column holds 1.
        val: (M, D); M is 0 where the training part has to choose the settings.
        val_labels: (M, K).
        test: (T, D).
        inner: (N,) folds of the training part.
        is_multilabel: Whether the K labels are independent.
        seed: Of everything that is drawn.
    """

    train: np.ndarray
    train_labels: np.ndarray
    val: np.ndarray
    val_labels: np.ndarray
    test: np.ndarray
    inner: np.ndarray
    is_multilabel: bool
    seed: int

    @property
    def has_val(self) -> bool:
        """Whether there is a validation part."""
        return len(self.val) > 0


@dataclass(frozen=True, eq=False)
class ProbeFit:
    """Outcome of a solver.

    Attributes:
        test: (T, K) scores in [0, 1]; of single labels they sum to 1.
        val: (M, K) scores of samples that chose the settings: of val, or of training samples by a fit without them.
        val_labels: (M, K) their labels.
        choice: The setting that was chosen, such as "C 0.1"; "" if there is none.
        is_converged: Whether the solution is that of its problem; None where nothing is solved.
        remark: How it ended, such as "50 steps".
    """

    test: np.ndarray
    val: np.ndarray
    val_labels: np.ndarray
    choice: str
    is_converged: bool | None
    remark: str


def macro_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes of the AUC against the rest, where it is defined; NaN if it is nowhere.

    Args:
        scores: (N, K).
        labels: (N, K) of 0, 1 and -1, which is left out.
    """
    values = []
    for own, column in zip(scores.T, labels.T, strict=True):
        known = column >= 0
        values.append(weighted_auc(own[known], column[known] == 1, np.ones((1, int(known.sum()))))[0])
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def log_loss(scores: np.ndarray, labels: np.ndarray, *, is_multilabel: bool) -> float:
    """Mean of -log of the score of the true class, or over known labels of the cross-entropy of each."""
    safe = np.clip(scores, 1e-12, 1 - 1e-12)
    if not is_multilabel:
        return float(-np.log(safe[labels == 1]).mean())
    known = labels >= 0
    losses = np.where(labels == 1, -np.log(safe), -np.log1p(-safe))
    return float(losses[known].mean())


def rank_of(scores: np.ndarray, labels: np.ndarray, *, is_multilabel: bool) -> tuple[float, float]:
    """By what settings are chosen, the larger the better: AUC, then the log loss where it ties or is undefined."""
    auc = macro_auc(scores, labels)
    return (0.0 if np.isnan(auc) else auc), -log_loss(scores, labels, is_multilabel=is_multilabel)
