"""Find cases whose images fit the mask of the next or the previous case better than their own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from guidino_cli.engine.guides.agreement import TokenSpool, agreement, held_out_scores

_MIN_CASES, _MIN_BETTER, _MIN_AGREEMENT = 8, 0.75, 0.7
_MIN_GAIN = float(np.log(2))
_NO_ERROR = 0.02
"""Added to 1 - agreement, so that differences among masks that all agree well do not count."""


@dataclass(frozen=True)
class Shift:
    """Consecutive cases whose masks seem to be shifted by one.

    Attributes:
        start: Position of the first.
        stop: Position after the last.
        step: 1 if the images fit the mask of the case after them, -1 if that of the case before.
        better: Number of them that fit that mask better than their own.
        own: Mean agreement with their own masks.
        other: Mean agreement with the masks of those neighbours.
    """

    start: int
    stop: int
    step: int
    better: int
    own: float
    other: float


def find_shift(tokens: TokenSpool | Sequence[Tensor], shares: np.ndarray, folds: np.ndarray) -> Shift | None:
    """The longest run of cases whose masks seem to be those of a neighbour, or None.

    For each pairing of images and masks (as they are, shifted by one either way) the tokens are scored by regressions
    fitted with this pairing, so that a set that is shifted as a whole is found, too. A run has at least eight cases, of
    which three in four fit the neighbour's mask better: with a mean agreement of 0.7, and 1 - agreement is halved on
    average. A ratio, because masks in the middle of all images agree with each other's images well.

    Args:
        tokens: (N, D) of each of n images, in the order of the cases.
        shares: (n, N) float32, share of each cell that belongs to the mask.
        folds: (n,) fold of each image.
    """
    if len(shares) < _MIN_CASES:
        return None
    pairings = np.stack([shares, np.roll(shares, -1, axis=0), np.roll(shares, 1, axis=0)], axis=1)
    scores = held_out_scores(tokens, pairings, folds)
    fits = np.array(
        [
            [agreement(scores[case, pairing], pairings[case, pairing]) for pairing in range(3)]
            for case in range(len(shares))
        ]
    )
    found = [_longest_run(fits[:, 0], fits[:, pairing], step) for pairing, step in ((1, 1), (2, -1))]
    return max((item for item in found if item), key=lambda item: item.stop - item.start, default=None)


def _longest_run(own: np.ndarray, other: np.ndarray, step: int) -> Shift | None:
    """The run with the largest sum of gains above half of the required mean; None if it is too short or too weak."""
    gains = np.nan_to_num(np.log((1 - own + _NO_ERROR) / (1 - other + _NO_ERROR)))
    best, best_sum, start, running = (0, 0), 0.0, 0, 0.0
    for position, gain in enumerate(gains - _MIN_GAIN / 2):
        if running <= 0:
            running, start = 0.0, position
        running += gain
        if running > best_sum:
            best, best_sum = (start, position + 1), running
    run = slice(*best)
    better = int((gains[run] > 0).sum())
    length = best[1] - best[0]
    if length < _MIN_CASES or better < _MIN_BETTER * length or gains[run].mean() < _MIN_GAIN:
        return None
    mean_own, mean_other = float(np.nanmean(own[run])), float(np.nanmean(other[run]))
    return Shift(*best, step, better, mean_own, mean_other) if mean_other >= _MIN_AGREEMENT else None
