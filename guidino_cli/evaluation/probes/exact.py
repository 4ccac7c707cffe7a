"""Linear probe solved exactly: logistic regression by scikit-learn, its penalty chosen on validation."""

import warnings
from dataclasses import dataclass

import numpy as np

from guidino_cli.evaluation.probes.problem import ProbeFit, ProbeProblem, rank_of

C_VALUES = tuple(float(value) for value in np.logspace(-5, 1, 13))
"""Inverse strengths of the penalty: half decades from 1e-5 to 10, for sums of losses as scikit-learn's C."""
_TOLERANCE, _ROUGH = 1e-6, 1e-4
"""Of the solution, and of those that only choose C: scikit-learn's bound of the gradient's largest entry."""
_MAX_ITERATIONS = 10_000
_NEVER = -1e3
"""Logit of a class that is not in the training part."""


@dataclass(frozen=True, eq=False)
class LogisticSolution:
    """Weights of logistic regression on standardised vectors.

    Attributes:
        mean: (D,) of the training vectors.
        std: (D,) of the training vectors; 1 where they are constant.
        weights: (K, D).
        bias: (K,).
        is_multilabel: Sigmoid of each logit, or softmax over them.
        iterations: Of the label that took most.
        is_converged: Whether every label reached the tolerance.
    """

    mean: np.ndarray
    std: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    is_multilabel: bool
    iterations: int
    is_converged: bool

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """(N, K) probabilities."""
        logits = ((vectors - self.mean) / self.std) @ self.weights.T + self.bias
        if self.is_multilabel:
            return 1 / (1 + np.exp(-np.clip(logits, -500, 500)))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def solve_exact(problem: ProbeProblem) -> ProbeFit:
    """Fit each C of `C_VALUES`, keep the best on validation, or on folds of the training part without one."""
    if problem.has_val:
        paths = fit_path(problem.train, problem.train_labels, is_multilabel=problem.is_multilabel)
        val_scores = [solution.scores(problem.val) for solution in paths]
        val_labels = problem.val_labels
    else:
        val_scores, val_labels = _out_of_fold(problem), problem.train_labels
        paths = []
    ranks = [rank_of(scores, val_labels, is_multilabel=problem.is_multilabel) for scores in val_scores]
    best = max(range(len(ranks)), key=lambda place: ranks[place])
    if not paths:
        # The path up to the best one: each solution starts from the one before.
        paths = fit_path(
            problem.train, problem.train_labels, is_multilabel=problem.is_multilabel, values=C_VALUES[: best + 1]
        )
    solution = paths[best]
    edge = ", the end of its range" if best in {0, len(C_VALUES) - 1} else ""
    return ProbeFit(
        test=solution.scores(problem.test),
        val=val_scores[best],
        val_labels=val_labels,
        choice=f"C {C_VALUES[best]:.2g}{edge}",
        is_converged=solution.is_converged,
        remark=f"{solution.iterations} iterations",
    )


def fit_path(
    vectors: np.ndarray,
    labels: np.ndarray,
    *,
    is_multilabel: bool,
    values: tuple[float, ...] = C_VALUES,
    tolerance: float = _TOLERANCE,
) -> list[LogisticSolution]:
    """Solutions for rising C, each started from the one before.

    A label that is constant in the training part has the weight 0 and its share as score.

    Args:
        vectors: (N, D).
        labels: (N, K) of 0, 1 and -1.
        is_multilabel: Whether the labels are independent.
        values: Of C.
        tolerance: Bound of the gradient's largest entry.
    """
    table = vectors.astype(np.float64)
    mean, std = table.mean(axis=0), table.std(axis=0)
    std[std < 1e-12] = 1.0
    table = (table - mean) / std
    basis = np.eye(0)
    if table.shape[1] > len(table):
        # The penalty keeps the weights among the samples' span: in its coordinates the problem is the same, and small.
        basis = np.linalg.qr(table.T)[0]
        table = table @ basis
    if not is_multilabel:
        fits = _fit_classes(table, labels, values, tolerance)
        return [LogisticSolution(mean, std, _turn_back(fit[0], basis), fit[1], False, *fit[2:]) for fit in fits]
    columns = [_fit_label(table, labels[:, number], values, tolerance) for number in range(labels.shape[1])]
    solutions = []
    for place in range(len(values)):
        own = [column[place] for column in columns]
        weights = _turn_back(np.stack([fit[0] for fit in own]), basis)
        bias = np.array([fit[1] for fit in own])
        iterations, converged = max(fit[2] for fit in own), all(fit[3] for fit in own)
        solutions.append(LogisticSolution(mean, std, weights, bias, True, iterations, converged))
    return solutions


def _turn_back(weights: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Weights (K, D) of those in the coordinates of a basis (D, N); of an empty one they are what they were."""
    return weights @ basis.T if basis.size else weights


def _fit_classes(
    table: np.ndarray, labels: np.ndarray, values: tuple[float, ...], tolerance: float
) -> list[tuple[np.ndarray, np.ndarray, int, bool]]:
    """Softmax regression; of two classes as logits of 0 and of the second, and classes never seen far below all."""
    classes = labels.argmax(axis=1)
    seen = np.unique(classes)
    if len(seen) == 1:
        # A fold may hold all of the other classes.
        bias = np.where(np.arange(labels.shape[1]) == seen[0], 0.0, _NEVER)
        return [(np.zeros((labels.shape[1], table.shape[1])), bias, 0, True)] * len(values)
    fits = []
    for coefficients, intercept, iterations, converged in _regress(table, classes, values, tolerance):
        weights = np.zeros((labels.shape[1], table.shape[1]))
        bias = np.full(labels.shape[1], _NEVER)
        if len(seen) == 2:
            bias[seen[0]] = 0.0
            weights[seen[1]], bias[seen[1]] = coefficients[0], intercept[0]
        else:
            weights[seen], bias[seen] = coefficients, intercept
        fits.append((weights, bias, iterations, converged))
    return fits


def _fit_label(
    table: np.ndarray, labels: np.ndarray, values: tuple[float, ...], tolerance: float
) -> list[tuple[np.ndarray, float, int, bool]]:
    """One label against its absence, on the samples where it is known."""
    known = labels >= 0
    share = labels[known].mean() if known.any() else 0.5
    if share in {0.0, 1.0} or not known.any():
        safe = float(np.clip(share, 1e-6, 1 - 1e-6))
        return [(np.zeros(table.shape[1]), float(np.log(safe / (1 - safe))), 0, True)] * len(values)
    fits = _regress(table[known], labels[known], values, tolerance)
    return [(fit[0][0], float(fit[1][0]), fit[2], fit[3]) for fit in fits]


def _regress(
    table: np.ndarray, classes: np.ndarray, values: tuple[float, ...], tolerance: float
) -> list[tuple[np.ndarray, np.ndarray, int, bool]]:
    # It takes over a second to import.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(tol=tolerance, max_iter=_MAX_ITERATIONS, warm_start=True)
    fits = []
    for value in values:
        model.set_params(C=value)
        with warnings.catch_warnings():
            # The number of iterations tells.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(table, classes)
        iterations = int(np.max(model.n_iter_))
        fits.append((model.coef_.copy(), model.intercept_.copy(), iterations, iterations < _MAX_ITERATIONS))
    return fits


def _out_of_fold(problem: ProbeProblem) -> list[np.ndarray]:
    """(N, K) scores of the training samples for each C, each by a fit to the other folds."""
    scores = [np.zeros(problem.train_labels.shape) for _ in C_VALUES]
    for fold in np.unique(problem.inner):
        rest, held = problem.inner != fold, problem.inner == fold
        path = fit_path(
            problem.train[rest], problem.train_labels[rest], is_multilabel=problem.is_multilabel, tolerance=_ROUGH
        )
        for place, solution in enumerate(path):
            scores[place][held] = solution.scores(problem.train[held])
    return scores
