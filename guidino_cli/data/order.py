"""In which order an epoch shows the cases, and where in it a run goes on."""

from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler


class Turn(NamedTuple):
    """One case in one epoch.

    The epoch travels with the case: a data-loading worker that outlives an epoch has no other way to know it.
    """

    epoch: int
    case: int


def random_generator(*words: int) -> np.random.Generator:
    """A generator that depends on these numbers only, such as (seed, epoch, case), not on what was drawn before."""
    return np.random.default_rng([word & 0xFFFFFFFF for word in words])


class EpochSampler(Sampler[Turn]):
    """Every case once, in an order that depends on the seed and the epoch only.

    Attributes:
        epoch: Whose order it is.
        skipped: How many cases at the beginning of the order are left out, because they were shown before a kill.
    """

    def __init__(self, length: int, *, seed: int) -> None:
        self.length = length
        self.seed = seed
        self.epoch = 0
        self.skipped = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Turn]:
        order = random_generator(self.seed, self.epoch).permutation(self.length).tolist()
        yield from (Turn(self.epoch, case) for case in order[self.skipped :])

    def __len__(self) -> int:
        """Cases of a whole epoch."""
        return self.length


def endless(length: int, *, seed: int, start: int = 0) -> Iterator[Turn]:
    """Epoch after epoch, each in the order of `EpochSampler`, from showing `start` on, as if those before were shown.

    Args:
        length: How many cases there are, at least 1.
        seed: Of the orders.
        start: How many showings were before, over all epochs.
    """
    epoch, skipped = divmod(start, length)
    for number in count(epoch):
        order = random_generator(seed, number).permutation(length)
        yield from (Turn(number, int(case)) for case in order[skipped:])
        skipped = 0
