"""Status of true instances (found, split, merged, missed), from the voxels that each pair of instances shares."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_PART = 0.1
"""Share of a true instance that a predicted one must cover to count as a part of it."""

STATUSES = ("found", "split", "merged", "split and merged", "missed")


@dataclass(frozen=True)
class TrueInstance:
    """A true instance and what became of it.

    Attributes:
        number: In the file of the truth.
        pixels: Pixels or voxels.
        status: One of `STATUSES`.
        parts: Numbers of the predicted instances that are its parts, the largest first.
    """

    number: int
    pixels: int
    status: str
    parts: tuple[int, ...]


@dataclass(frozen=True)
class InstanceComparison:
    """The instances of one case.

    Attributes:
        true: By rising number.
        extra: Numbers of the predicted instances that lie mostly in the background of the truth.
    """

    true: tuple[TrueInstance, ...]
    extra: tuple[int, ...]

    def count(self, status: str) -> int:
        """True instances of a status."""
        return sum(item.status == status for item in self.true)


def compare_instances(prediction: np.ndarray, truth: np.ndarray, *, min_part: float = MIN_PART) -> InstanceComparison:
    """Compare two instance maps of one grid; numbers do not matter, 0 is the background.

    A predicted instance is a part of the true one that covers most of it, if it covers `min_part` of that. A true
    instance is

    * missed if more than half of it is predicted as background, or nothing covers `min_part` of it;
    * split if it has several parts;
    * merged if the predicted instance that covers most of it also covers most of another true instance;
    * found otherwise.
    """
    pairs, counts = np.unique(np.stack((truth.ravel(), prediction.ravel())), axis=1, return_counts=True)
    true, predicted = pairs
    order = np.argsort(counts, kind="stable")
    # The largest share of each, because later entries replace earlier ones.
    home = dict(zip(predicted[order].tolist(), true[order].tolist(), strict=True))
    main = dict(zip(true[order].tolist(), predicted[order].tolist(), strict=True))
    sizes: dict[int, int] = {}
    shared: dict[int, list[tuple[int, int]]] = {}
    for number, other, count in zip(true.tolist(), predicted.tolist(), counts.tolist(), strict=True):
        sizes[number] = sizes.get(number, 0) + count
        shared.setdefault(number, []).append((count, other))
    owners: dict[int, int] = {}
    for number, other in main.items():
        if number and other:
            owners[other] = owners.get(other, 0) + 1
    found = []
    for number in sorted(sizes):
        if number == 0:
            continue
        covering = sorted(shared[number], reverse=True)
        parts = [
            other for count, other in covering if other and count >= min_part * sizes[number] and home[other] == number
        ]
        in_background = sum(count for count, other in covering if other == 0)
        is_covered = any(other and count >= min_part * sizes[number] for count, other in covering)
        is_missed = 2 * in_background > sizes[number] or not is_covered
        is_merged = owners.get(main[number], 0) > 1 and main[number] != 0
        status = "missed" if is_missed else _describe(is_split=len(parts) > 1, is_merged=is_merged)
        found.append(TrueInstance(number, sizes[number], status, tuple(parts)))
    extra = sorted(other for other, number in home.items() if other and number == 0)
    return InstanceComparison(tuple(found), tuple(extra))


def _describe(*, is_split: bool, is_merged: bool) -> str:
    if is_split and is_merged:
        return "split and merged"
    return "split" if is_split else "merged" if is_merged else "found"


def pool_instances(cases: Sequence[InstanceComparison]) -> dict[str, int]:
    """Number of true instances by status, and of predicted ones in the background ("extra"), over several cases."""
    counts = {status: sum(case.count(status) for case in cases) for status in STATUSES}
    return counts | {"extra": sum(len(case.extra) for case in cases)}
