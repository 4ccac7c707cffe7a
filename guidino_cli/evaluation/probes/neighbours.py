"""DINOv2's k-nearest-neighbour probe: cosine similarity, votes weighted by the softmax of similarity over .07."""

from collections.abc import Sequence

import numpy as np

from guidino_cli.errors import ConfigError
from guidino_cli.evaluation.probes.problem import ProbeFit, ProbeProblem, rank_of

TEMPERATURE = 0.07
DEFAULT_K = (10, 20, 100, 200)
_BLOCK = 512


def choose_k(wanted: Sequence[int] | None, count: int) -> tuple[list[int], list[str]]:
    """The k to use with that many training samples, and warnings.

    Args:
        wanted: As typed; None takes DINOv2's, of which those above the number of samples are left out.
        count: Training samples.

    Raises:
        ConfigError: A k that was typed exceeds the samples.
    """
    if wanted is not None and max(wanted) > count:
        raise ConfigError(f"--k {max(wanted)}: the training part has {count} samples; give {count} or less")
    chosen = [k for k in wanted or DEFAULT_K if k <= count] or [count]
    notes = []
    if left := [str(k) for k in wanted or DEFAULT_K if k > count]:
        notes.append(f"k {', '.join(left)} left out: the training part has {count} samples")
    if many := [str(k) for k in chosen if k > count / 4]:
        notes.append(f"k {', '.join(many)} is more than a quarter of the {count} training samples: it may do worse")
    return chosen, notes


def solve_neighbours(problem: ProbeProblem, k: int) -> ProbeFit:
    """Votes of the k nearest training samples; those of val, or of held-out folds of the training part, rank the k."""
    if problem.has_val:
        val, val_labels = _vote(problem, problem.train, problem.train_labels, problem.val, k), problem.val_labels
    else:
        val, val_labels = np.zeros(problem.train_labels.shape), problem.train_labels
        for fold in np.unique(problem.inner):
            rest, held = problem.inner != fold, problem.inner == fold
            val[held] = _vote(problem, problem.train[rest], problem.train_labels[rest], problem.train[held], k)
    test = _vote(problem, problem.train, problem.train_labels, problem.test, k)
    auc, _ = rank_of(val, val_labels, is_multilabel=problem.is_multilabel)
    return ProbeFit(test, val, val_labels, "", None, f"validation AUC {auc:.3f}")


def _vote(problem: ProbeProblem, train: np.ndarray, labels: np.ndarray, test: np.ndarray, k: int) -> np.ndarray:
    if not problem.is_multilabel:
        return neighbour_scores(train, labels, test, k)
    # Each label by itself, among the samples in which it is known.
    columns = []
    for column in labels.T:
        known = column >= 0
        if not known.any():
            columns.append(np.full(len(test), 0.5))
            continue
        columns.append(neighbour_scores(train[known], column[known][:, None], test, k)[:, 0])
    return np.stack(columns, axis=1)


def neighbour_scores(train: np.ndarray, labels: np.ndarray, test: np.ndarray, k: int) -> np.ndarray:
    """(T, K) shares of the votes for each label; of equally near neighbours the earlier one is taken.

    Args:
        train: (N, D).
        labels: (N, K) of 0 and 1.
        test: (T, D).
        k: Neighbours; all of them if there are fewer.
    """
    references, queries = _normalized(train), _normalized(test)
    scores = np.zeros((len(test), labels.shape[1]))
    for start in range(0, len(test), _BLOCK):
        similarity = queries[start : start + _BLOCK] @ references.T
        nearest = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
        near = np.take_along_axis(similarity, nearest, axis=1)
        weights = np.exp((near - near[:, :1]) / TEMPERATURE)
        weights /= weights.sum(axis=1, keepdims=True)
        scores[start : start + _BLOCK] = np.einsum("tk,tkc->tc", weights, labels[nearest])
    return scores


def _normalized(vectors: np.ndarray) -> np.ndarray:
    table = vectors.astype(np.float64)
    return np.asarray(table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12))
