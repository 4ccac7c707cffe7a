"""Linear probes by gradient descent, as papers have them: the DINOv3 benchmark's recipe, and DINOv2's sweep of rates.

Their figures depend on how far they get: beside the exact solution they show what a recipe adds or hides.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.evaluation.probes.problem import ProbeFit, ProbeProblem, rank_of

PAPER_RATE, PAPER_BATCH, PAPER_EPOCHS = 0.005, 1024, 50
SWEEP_RATES = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1)
SWEEP_BATCH, SWEEP_STEPS = 128, 12_500
CONVERGED_SHARE = 0.01
"""A recipe has converged if the gradient over the training part has fallen to this share of that at zero weights."""


def solve_paper(problem: ProbeProblem) -> ProbeFit:
    """The benchmark's recipe: one linear layer on the vectors as they are, rate .005, batch 1024, 50 epochs.

    Its optimiser is not stated; Adam is ours. The loss is the binary cross-entropy of each label, of two classes that
    of the second, and of more classes the cross-entropy of softmax. The last partial batch of an epoch is used.
    """
    vectors, labels, independent = _as_targets(problem, problem.train, problem.train_labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(problem.seed)
        layer = nn.Linear(vectors.shape[1], labels.shape[1])
        optimizer = torch.optim.Adam(layer.parameters(), lr=PAPER_RATE)
        steps = 0
        for _ in range(PAPER_EPOCHS):
            for batch in torch.randperm(len(vectors)).split(PAPER_BATCH):
                optimizer.zero_grad()
                _loss(layer(vectors[batch]), labels[batch], independent=independent).backward()
                optimizer.step()
                steps += 1
    weight, bias = layer.weight.detach(), layer.bias.detach()
    share = gradient_share(weight, bias, vectors, labels, independent=independent)
    # Without a validation part only samples that were learned from can choose a threshold.
    val, val_labels = (problem.val, problem.val_labels) if problem.has_val else (problem.train, problem.train_labels)
    return ProbeFit(
        test=_scores(weight, bias, problem.test, problem),
        val=_scores(weight, bias, val, problem),
        val_labels=val_labels,
        choice="",
        is_converged=share <= CONVERGED_SHARE,
        remark=f"{steps} steps, gradient at {100 * share:.2g} % of its start",
    )


def solve_sweep(problem: ProbeProblem) -> ProbeFit:
    """DINOv2's: 13 rates at once, SGD with momentum .9, 12,500 steps of 128, cosine to 0; the best on validation.

    Without a validation part, the first fold of the training part is held out for it.
    """
    if not problem.has_val:
        held = problem.inner == problem.inner.min()
        problem = replace(
            problem,
            train=problem.train[~held],
            train_labels=problem.train_labels[~held],
            val=problem.train[held],
            val_labels=problem.train_labels[held],
        )
    vectors, labels, independent = _as_targets(problem, problem.train, problem.train_labels)
    weights, biases = _descend(vectors, labels, independent=independent, seed=problem.seed)
    val = [_scores(weight, bias, problem.val, problem) for weight, bias in zip(weights, biases, strict=True)]
    ranks = [rank_of(scores, problem.val_labels, is_multilabel=problem.is_multilabel) for scores in val]
    best = max(range(len(ranks)), key=lambda place: ranks[place])
    weight, bias = weights[best], biases[best]
    share = gradient_share(weight, bias, vectors, labels, independent=independent)
    return ProbeFit(
        test=_scores(weight, bias, problem.test, problem),
        val=val[best],
        val_labels=problem.val_labels,
        choice=f"rate {SWEEP_RATES[best]:g} x {SWEEP_BATCH}/256",
        is_converged=share <= CONVERGED_SHARE,
        remark=f"{SWEEP_STEPS:,} steps, gradient at {100 * share:.2g} % of its start",
    )


def _as_targets(problem: ProbeProblem, vectors: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor, bool]:
    """Tensors of vectors and labels, and whether the labels are independent; two classes are one label."""
    targets = torch.from_numpy(labels)
    if not problem.is_multilabel and labels.shape[1] == 2:
        return torch.from_numpy(vectors).float(), targets[:, 1:], True
    return torch.from_numpy(vectors).float(), targets, problem.is_multilabel


def gradient_share(weight: Tensor, bias: Tensor, vectors: Tensor, labels: Tensor, *, independent: bool) -> float:
    """Length of the gradient of the mean loss over a training part, relative to that at zero weights."""

    def length(at: Tensor, offset: Tensor) -> float:
        error = _error(vectors @ at.T + offset, labels, independent=independent)
        return float(torch.cat([error.T @ vectors, error.sum(dim=0)[:, None]], dim=1).norm())

    start = length(torch.zeros_like(weight), torch.zeros_like(bias))
    return length(weight, bias) / start if start else 0.0


def _descend(vectors: Tensor, labels: Tensor, *, independent: bool, seed: int) -> tuple[Tensor, Tensor]:
    """Weights (R, K, D) and biases (R, K) of all rates."""
    generator = torch.Generator().manual_seed(seed)
    count, width, classes, rates = len(vectors), vectors.shape[1], labels.shape[1], len(SWEEP_RATES)
    first = torch.randn(classes, width, generator=generator) * 0.01
    weights, biases = first.repeat(rates, 1, 1), torch.zeros(rates, classes)
    speeds, pushes = torch.zeros_like(weights), torch.zeros_like(biases)
    scaled = torch.tensor(SWEEP_RATES) * SWEEP_BATCH / 256
    order = torch.empty(0, dtype=torch.long)
    for step in range(SWEEP_STEPS):
        while len(order) < min(SWEEP_BATCH, count):
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        batch, order = order[:SWEEP_BATCH], order[SWEEP_BATCH:]
        rate = scaled * (1 + np.cos(np.pi * step / SWEEP_STEPS)) / 2
        x, y = vectors[batch], labels[batch]
        # All heads see the batch in one product.
        logits = (x @ weights.flatten(0, 1).T).unflatten(1, (rates, classes)) + biases
        error = _error(logits, y[:, None].expand(-1, rates, -1), independent=independent)
        speeds = 0.9 * speeds + (error.flatten(1).T @ x).unflatten(0, (rates, classes))
        pushes = 0.9 * pushes + error.sum(dim=0)
        weights = weights - rate[:, None, None] * speeds
        biases = biases - rate[:, None] * pushes
    return weights, biases


def _error(logits: Tensor, labels: Tensor, *, independent: bool) -> Tensor:
    """Gradient of the mean loss by the logits (..., K)."""
    known = labels >= 0
    if independent:
        own = torch.where(known, logits.sigmoid() - labels.to(logits.dtype), 0.0)
        heads = logits.shape[1] if logits.ndim == 3 else 1
        return own / (known.sum() / heads).clamp(min=1)
    return (logits.softmax(dim=-1) - labels.to(logits.dtype)) / len(logits)


def _loss(logits: Tensor, labels: Tensor, *, independent: bool) -> Tensor:
    """Mean over the images and their known labels."""
    if not independent:
        return F.cross_entropy(logits, labels.argmax(dim=1))
    known = labels >= 0
    losses = F.binary_cross_entropy_with_logits(logits, labels.clamp(min=0).to(logits.dtype), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def _scores(weight: Tensor, bias: Tensor, vectors: np.ndarray, problem: ProbeProblem) -> np.ndarray:
    """(N, K); of one logit for two classes, the scores of both."""
    logits = (torch.from_numpy(vectors).float() @ weight.T + bias).double()
    if problem.is_multilabel:
        return np.asarray(logits.sigmoid().numpy())
    if logits.shape[1] == 1:
        return np.asarray(torch.cat([-logits, logits], dim=1).sigmoid().numpy())
    return np.asarray(logits.softmax(dim=1).numpy())
