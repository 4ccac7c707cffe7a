"""Scores of a case without true masks, from its probabilities, its guide and the members of an ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from guidino_cli.device_transfer import sum_dtype, to_device
from guidino_cli.engine.prediction.accumulation import CasePart


@dataclass(frozen=True)
class CaseQuality:
    """Scores of a predicted mask; for ranking, they are no estimates of its Dice. An empty mask has 0 everywhere.

    Each is the mean over the foreground classes of the mask, which count alike.

    Attributes:
        mean_probability: Mean probability of the class in its region, in [0, 1].
        soft_dice: Dice of the probabilities P with their own mask B, 2 sum(PB) / (sum P + sum B), in [0, 1].
        agreement: Mean Dice of the members' masks with the mask of their average, in [0, 1]; None for a single run.
        contrast: Mean of the guide inside of the region minus that outside, in [-1, 1]; None without a guide. One map
            for all classes is compared with the whole foreground.
    """

    mean_probability: float = 0.0
    soft_dice: float = 0.0
    agreement: float | None = None
    contrast: float | None = None

    @property
    def surety(self) -> float:
        """Sort key of a review list, lowest first: agreement if there is one, else mean probability."""
        return self.mean_probability if self.agreement is None else self.agreement

    def emptied(self) -> "CaseQuality":
        """The scores of an empty mask of the same runs."""
        return CaseQuality(
            agreement=None if self.agreement is None else 0.0, contrast=None if self.contrast is None else 0.0
        )


class QualitySums:
    """Sums over the parts of a case, from which its `CaseQuality` follows; a part is an image, or a band of one.

    Args:
        classes: Number K of classes, the background included.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.pixels = 0
        # By class: pixels of its region, its probability in there, and everywhere.
        self.region, self.inside, self.everywhere = (np.zeros(classes) for _ in range(3))
        # By map and class: the guide in the region; by map: everywhere. None until a guide was seen.
        self.guide_inside: np.ndarray | None = None
        self.guide_everywhere: np.ndarray | None = None
        # By member and class: pixels of its region, and of those the ones that the mask has, too.
        self.member_region: np.ndarray | None = None
        self.member_common: np.ndarray | None = None

    def add(self, part: CasePart) -> None:
        """Add a part of the case."""
        probabilities = part.probabilities.flatten(1)
        maps = [] if part.guide is None else list(part.guide.flatten(1))
        # On the network's device, and copied from it once; in double precision, so that parts give the same. Without,
        # Apple's devices may differ in the seventh digit.
        dtype = sum_dtype(probabilities.device)
        labels = to_device(torch.from_numpy(part.labels.ravel().astype(np.int64)), probabilities.device)

        def by_class(values: Tensor) -> Tensor:
            # Unlike bincount, this does not wait for the device to tell the largest label.
            return probabilities.new_zeros(self.classes, dtype=dtype).index_add_(0, labels, values.to(dtype))

        sums = [by_class(torch.ones_like(probabilities[0])), by_class(probabilities.amax(dim=0))]
        sums += [probabilities.sum(dim=1, dtype=dtype), *(by_class(item) for item in maps)]
        totals = [item.sum(dtype=dtype)[None] for item in maps]
        numbers = torch.cat([*sums, *totals]).cpu().numpy()
        region, inside, everywhere, *by_map = numbers[: len(sums) * self.classes].reshape(-1, self.classes)
        self.pixels += len(labels)
        self.region += region
        self.inside += inside
        self.everywhere += everywhere
        if maps:
            found, total = np.stack(by_map), numbers[len(sums) * self.classes :]
            self.guide_inside = found if self.guide_inside is None else self.guide_inside + found
            self.guide_everywhere = total if self.guide_everywhere is None else self.guide_everywhere + total
        if part.members:
            mask, others = part.labels.ravel(), [item.ravel() for item in part.members]
            region = np.stack([np.bincount(item, minlength=self.classes) for item in others])
            common = np.stack([np.bincount(mask[item == mask], minlength=self.classes) for item in others])
            self.member_region = region if self.member_region is None else self.member_region + region
            self.member_common = common if self.member_common is None else self.member_common + common

    def result(self) -> CaseQuality:
        """The scores of the whole."""
        found = [index for index in range(1, self.classes) if self.region[index]]
        quality = CaseQuality(
            agreement=None if self.member_region is None else 0.0, contrast=None if self.guide_inside is None else 0.0
        )
        if not found:
            return quality
        inside, region = self.inside[found], self.region[found]
        return CaseQuality(
            mean_probability=float((inside / region).mean()),
            soft_dice=float((2 * inside / (self.everywhere[found] + region)).mean()),
            agreement=self._agreement(found),
            contrast=self._contrast(found),
        )

    def _agreement(self, found: Sequence[int]) -> float | None:
        if self.member_region is None or self.member_common is None:
            return None
        dice = 2 * self.member_common[:, found] / (self.member_region[:, found] + self.region[found])
        return float(dice.mean())

    def _contrast(self, found: Sequence[int]) -> float | None:
        if self.guide_inside is None or self.guide_everywhere is None:
            return None
        if len(self.guide_inside) == self.classes - 1:
            parts = [(self.guide_inside[i - 1, i], self.guide_everywhere[i - 1], self.region[i]) for i in found]
        else:
            parts = [(self.guide_inside[0, 1:].sum(), self.guide_everywhere[0], self.region[1:].sum())]
        return float(np.mean([_difference_of_means(*part, self.pixels) for part in parts]))


def _difference_of_means(inside: float, everywhere: float, region: float, pixels: int) -> float:
    """Mean inside of a region minus mean outside; a region that fills the image is compared with 0."""
    rest = pixels - region
    return inside / region - ((everywhere - inside) / rest if rest else 0.0)
