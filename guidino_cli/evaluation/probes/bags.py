"""Attention-based multiple-instance learning on bags of vectors: training, scores and attention."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.evaluation.probes.problem import ProbeFit, rank_of
from guidino_cli.models.abmil import GatedAttentionMIL

RATE, WEIGHT_DECAY = 2e-4, 1e-5
MAX_INSTANCES = 10_000
"""Instances of a bag in one training step; more are drawn from."""


@dataclass(frozen=True, eq=False)
class BagProblem:
    """Bags and labels of one run.

    Attributes:
        train: (n, D) float32 of each training bag.
        train_labels: (N, K) of 0, 1 and -1; of single labels one column holds 1.
        val: Bags that choose the epoch.
        val_labels: (M, K).
        test: Bags that are scored.
        is_multilabel: Whether the labels are independent.
        seed: Of weights and order.
        epochs: At most.
    """

    train: Sequence[np.ndarray]
    train_labels: np.ndarray
    val: Sequence[np.ndarray]
    val_labels: np.ndarray
    test: Sequence[np.ndarray]
    is_multilabel: bool
    seed: int
    epochs: int


def solve_bags(problem: BagProblem, on_epoch: Callable[[], None] = lambda: None) -> tuple[ProbeFit, list[np.ndarray]]:
    """Train on one bag a step, keep the epoch with the best validation AUC; attention (n,) of each tested bag.

    Adam with rate 2e-4 and weight decay 1e-5, as CLAM's paper. Instances are standardised by the training instances'
    mean and deviation.
    """
    mean, std = _statistics(problem.train)
    train, val, test = (_standardized(bags, mean, std) for bags in (problem.train, problem.val, problem.test))
    labels = torch.from_numpy(problem.train_labels)
    best: tuple[float, float] | None = None
    kept, kept_epoch = None, 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(problem.seed)
        network = GatedAttentionMIL(train[0].shape[1], labels.shape[1])
        optimizer = torch.optim.Adam(network.parameters(), lr=RATE, weight_decay=WEIGHT_DECAY)
        for epoch in range(1, problem.epochs + 1):
            for place in torch.randperm(len(train)).tolist():
                bag = train[place]
                if len(bag) > MAX_INSTANCES:
                    bag = bag[torch.randperm(len(bag))[:MAX_INSTANCES]]
                optimizer.zero_grad()
                bag_loss(network(bag)[0], labels[place], is_multilabel=problem.is_multilabel).backward()
                optimizer.step()
            scores, _ = _apply(network, val, is_multilabel=problem.is_multilabel)
            rank = rank_of(scores, problem.val_labels, is_multilabel=problem.is_multilabel)
            if best is None or rank > best:
                best, kept, kept_epoch = rank, deepcopy(network.state_dict()), epoch
            on_epoch()
    if kept is not None:
        network.load_state_dict(kept)
    scores, attention = _apply(network, test, is_multilabel=problem.is_multilabel)
    val_scores, _ = _apply(network, val, is_multilabel=problem.is_multilabel)
    remark = f"best of {problem.epochs} epochs on validation"
    return ProbeFit(scores, val_scores, problem.val_labels, f"epoch {kept_epoch}", None, remark), attention


def bag_loss(logits: Tensor, labels: Tensor, *, is_multilabel: bool) -> Tensor:
    """Cross-entropy of one bag; of independent labels the mean of the known ones.

    Args:
        logits: (K,).
        labels: (K,) of 0, 1 and -1.
        is_multilabel: Whether the labels are independent.
    """
    if not is_multilabel:
        return F.cross_entropy(logits[None], labels.argmax()[None])
    known = labels >= 0
    losses = F.binary_cross_entropy_with_logits(logits, labels.clamp(min=0).to(logits.dtype), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


@torch.no_grad()
def _apply(
    network: GatedAttentionMIL, bags: Sequence[Tensor], *, is_multilabel: bool
) -> tuple[np.ndarray, list[np.ndarray]]:
    scores, weights = [], []
    for bag in bags:
        logits, attention = network(bag)
        scores.append((logits.double().sigmoid() if is_multilabel else logits.double().softmax(dim=0)).numpy())
        weights.append(attention.numpy())
    return np.stack(scores), weights


def _statistics(bags: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation over all instances, one bag after the other."""
    count = sum(len(bag) for bag in bags)
    total = sum(bag.sum(axis=0, dtype=np.float64) for bag in bags)
    squares = sum(np.square(bag, dtype=np.float64).sum(axis=0) for bag in bags)
    mean = np.asarray(total / count)
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    std[std < 1e-6] = 1.0
    return mean, std


def _standardized(bags: Sequence[np.ndarray], mean: np.ndarray, std: np.ndarray) -> list[Tensor]:
    return [torch.from_numpy(((bag - mean) / std).astype(np.float32)) for bag in bags]
