"""Choose unlabelled images to label next: those on which models of parts of the labels disagree, no two alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.engine.fewshot.fitting import as_guide, fold_scorers, maps, parts, sums_by_fold
from guidino_cli.engine.fewshot.images import LabelledImage, SeenImage
from guidino_cli.models.composed import Model
from guidino_cli.models.ridge import RidgeGuide


@dataclass(frozen=True, eq=False)
class Candidate:
    """An unlabelled image with its features and uncertainty.

    Attributes:
        agreement: Mean Dice, in [0, 1], of the masks of the sub-models with the model's; 1 if all are empty.
        area: Share of foreground in the model's mask.
        descriptor: (D,) of length 1, the mean of the image's tokens.
    """

    agreement: float
    area: float
    descriptor: Tensor


class Committee:
    """A fitted model and its sub-models, each without a fold of the labelled images.

    Args:
        model: Fitted to the labelled images.
        labelled: At least two.
        alpha: Penalty that it was fitted with.

    Raises:
        ValueError: Fewer than two labelled images, or a class that no sub-model can learn.
    """

    def __init__(self, model: Model, labelled: Sequence[LabelledImage], *, alpha: float) -> None:
        guide, _ = parts(model)
        self.model, self.guide = model, guide
        regions = range(1, guide.weight.shape[0] + 1)
        sums = sums_by_fold(labelled, regions)
        members = [as_guide(fold_scorers(sums, fold, alpha=alpha)) for fold in range(len(sums))]
        # A sub-model that lacks a class would disagree for that reason alone.
        self.members: list[RidgeGuide] = [
            own for names, own in members if own is not None and len(names) == len(regions)
        ]
        if not self.members:
            raise ValueError("no sub-model can be fitted")

    @torch.no_grad()
    def judge(self, item: SeenImage) -> Candidate:
        """Segment an image with the model and its sub-models."""
        labels = self._segment(item, self.guide)
        others = [self._segment(item, member) for member in self.members]
        return Candidate(
            float(np.mean([_agreement(other, labels) for other in others])),
            float((labels > 0).float().mean()),
            describe(item),
        )

    def _segment(self, item: SeenImage, guide: RidgeGuide) -> Tensor:
        """Class indices (H', W') in the grid of the filter."""
        found = maps(self.model, item, guide).to(self.model.mean.device)[None]
        size = (found.shape[-2], found.shape[-1])
        return self.model.segmenter.decode([found], size)[0][0].argmax(dim=0)


def _agreement(first: Tensor, second: Tensor) -> float:
    """Mean Dice over the classes that one of two label maps has; 1 if both are empty."""
    classes = sorted({*first.unique().tolist(), *second.unique().tolist()} - {0})
    scores = []
    for index in classes:
        one, other = first == index, second == index
        scores.append(2 * int((one & other).sum()) / (int(one.sum()) + int(other.sum())))
    return float(np.mean(scores)) if scores else 1.0


def rank_candidates(found: Sequence[Candidate], labelled: Sequence[SeenImage]) -> list[int]:
    """Places of the candidates in the order in which to label them.

    One after the other, the next is the one with the largest product of its disagreement (1 - agreement) and its
    distance, 1 - cosine of the descriptors, to the nearest image that is labelled or ranked before it: of two images of
    one video, the second comes late.

    Args:
        found: The candidates.
        labelled: Images that are labelled.
    """
    if not found:
        return []
    descriptors = torch.stack([item.descriptor for item in found])
    doubt = torch.tensor([1 - item.agreement for item in found])
    known = torch.stack([describe(item) for item in labelled])
    distance = (1 - descriptors @ known.T).min(dim=1).values
    order: list[int] = []
    left = torch.ones(len(found), dtype=torch.bool)
    while left.any():
        value = torch.where(left, doubt * distance.clamp(min=0), -1.0)
        place = int(value.argmax())
        order.append(place)
        left[place] = False
        distance = torch.minimum(distance, 1 - descriptors @ descriptors[place])
    return order


def describe(item: SeenImage) -> Tensor:
    """The mean of an image's tokens, each of length 1, scaled to length 1: (D,)."""
    return F.normalize(F.normalize(item.dense.flatten(1), dim=0).mean(dim=1), dim=0)
