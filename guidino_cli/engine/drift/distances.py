"""Distances of images, and of a set of images, from those a run was trained on; 1 is the limit of false alarms."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

from guidino_cli.engine.drift.reference import DriftReference

LEVEL = 0.05
"""Share of false alarms: of held-out images beyond distance 1, and of sets of them beyond distance 1."""
_NEIGHBOURS = 5
_ROUNDS = 999
_SMALLEST = 1e-30


@dataclass(frozen=True, eq=False)
class ImageDrift:
    """Distances of N images.

    Attributes:
        distance: (N,) distance to the training images, divided by the 95th percentile of the held-out images'
            distances.
        p_value: (N,) share of held-out images at least as far, the image itself included: in (0, 1].
    """

    distance: np.ndarray
    p_value: np.ndarray


@dataclass(frozen=True)
class SetDrift:
    """Distance of a set of images.

    Attributes:
        distance: Distance of its distribution to that of the training images, divided by the one that 95 % of sets of
            as many images stay below that are drawn from its own and the held-out images.
        p_value: Share of these sets at least as far, the set itself included: in (0, 1].
    """

    distance: float
    p_value: float


def image_drift(reference: DriftReference, images: np.ndarray) -> ImageDrift:
    """Distances of images (N, k), placed on the axes of a reference."""
    known = np.sort(_neighbour_distances(reference.held_back, reference.training))
    found = _neighbour_distances(images, reference.training)
    at_least = len(known) - np.searchsorted(known, found, side="left")
    return ImageDrift(found / _limit(known), np.asarray((1 + at_least) / (len(known) + 1)))


def set_drift(reference: DriftReference, images: np.ndarray, *, seed: int = 0) -> SetDrift:
    """Distance of a set of images (N, k), N >= 1, placed on the axes of a reference.

    The statistic is the energy distance (Székely and Rizzo, 2013) between the set and the training images. Whether it
    is large is decided by a permutation test: if the new images are of the source of the held-out ones, any N of both
    together are as likely to be the new ones. So the level holds for any distribution, if the images are independent.
    """
    pool = np.concatenate([reference.held_back, images]).astype(np.float64)
    to_training = cdist(pool, reference.training.astype(np.float64)).mean(axis=1)
    between = cdist(pool, pool)
    within = float(cdist(reference.training, reference.training).mean())
    random, count = np.random.default_rng(seed), len(images)

    def energy(chosen: np.ndarray) -> float:
        return float(2 * to_training[chosen].mean() - between[np.ix_(chosen, chosen)].mean() - within)

    found = energy(np.arange(len(pool) - count, len(pool)))
    others = np.array([energy(random.permutation(len(pool))[:count]) for _ in range(_ROUNDS)])
    # Sums in another order differ in their last digits.
    at_least = int(np.count_nonzero(others >= found - 1e-9))
    return SetDrift(found / _limit(np.sort(others)), (1 + at_least) / (_ROUNDS + 1))


def _neighbour_distances(images: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Mean Euclidean distance (N,) to the nearest training images."""
    distances = cdist(images.astype(np.float64), training.astype(np.float64))
    return np.asarray(np.sort(distances, axis=1)[:, :_NEIGHBOURS].mean(axis=1))


def _limit(known: np.ndarray) -> float:
    """The value that a new one of the same distribution exceeds with a probability of at most `LEVEL`."""
    place = int(np.ceil((1 - LEVEL) * (len(known) + 1))) - 1
    # Images that are all alike have no distance at all.
    return max(float(known[min(place, len(known) - 1)]), _SMALLEST)
