"""Patches most similar to the prototypes of a TokenBook, over any number of images in constant memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.config import DataSettings
from guidino_cli.data.images import read_image
from guidino_cli.data.preprocess import network_size, resize_image, to_tensor
from guidino_cli.engine.prediction.sliding import Window, window_corners
from guidino_cli.models.base import Backbone
from guidino_cli.models.guides import TokenBook

_MAX_COSINE = 0.9
"""Prototypes with a larger cosine similarity show the same patches; one of them is enough."""

PatchBox = tuple[float, float, float, float]
"""Top, left, bottom and right of a patch, as fractions of its image."""


@dataclass(frozen=True)
class PatchMatch:
    """A patch found for a prototype.

    Attributes:
        value: Similarity with the prototype, or the guide's value where the prototypes act as one.
        image: Image file.
        box: Position of the patch.
    """

    value: float
    image: Path
    box: PatchBox


@dataclass(frozen=True)
class Prototype:
    """A prototype, or the single direction of a linear guide, with its patches.

    Attributes:
        map: Index of its guide map.
        number: Index of the prototype; None for the direction of all of them together.
        vote: `softmax`: guide value of a patch assigned to it, in (0, 1); `logsumexp`: its fraction of the weights;
            None for a direction.
        usage: Fraction of all patches softly assigned to it; None for a direction.
        nearest: Most similar first, at most one patch per image.
        farthest: Least similar first; empty except for a direction.
    """

    map: int
    number: int | None
    vote: float | None
    usage: float | None
    nearest: list[PatchMatch]
    farthest: list[PatchMatch]


class NearestPatches:
    """Collects the patches nearest to each prototype, image by image.

    Args:
        guide: A trained TokenBook.
        keep: Patches per prototype.
    """

    def __init__(self, guide: TokenBook, *, keep: int = 8) -> None:
        self.guide = guide
        self.is_direction = guide.aggregate == "mean"
        maps, prototypes = guide.book.shape[:2]
        self.count = prototypes
        columns = 1 if self.is_direction else prototypes
        self._best = _TopK(maps * columns, keep)
        self._worst = _TopK(maps * columns, keep) if self.is_direction else None
        self._usage = torch.zeros(maps, columns, dtype=torch.float64)
        self._tokens = 0

    @torch.inference_mode()
    def add(self, image: Path, patches: Sequence[tuple[Tensor, list[PatchBox]]]) -> None:
        """Search one more image.

        Args:
            image: Its file.
            patches: Tokens (D, n) of each window and the boxes of their patches.
        """
        found = [self._similarities(tokens) for tokens, _ in patches]
        boxes = [box for _, window_boxes in patches for box in window_boxes]
        similarities = torch.cat([part for part, _ in found], dim=2).flatten(0, 1)
        for _, usage in found:
            self._usage += usage.sum(dim=2).cpu()
        self._tokens += len(boxes)
        self._best.add(image, similarities, boxes)
        if self._worst is not None:
            self._worst.add(image, -similarities, boxes)

    def select(self, count: int = 12) -> list[Prototype]:
        """The direction of each map, or up to `count` of its prototypes: the most used, no two of them similar.

        Where prototypes vote, half of them come from those that vote for foreground and half from the others.
        """
        maps = range(self._usage.shape[0])
        if self.is_direction:
            return [self._prototype(number, 0) for number in maps]
        return [self._prototype(number, index) for number in maps for index in self._distinct(number, count)]

    def mean_lengths(self) -> list[float]:
        """Length |m| of each map's mean prototype: a `mean` guide of cosines stays within 0.5 +- 0.5 |m|."""
        book = F.normalize(self.guide.book, dim=2) if self.guide.similarity == "cosine" else self.guide.book
        mean = (book * self.guide.weights.softmax(dim=1)[..., None]).sum(dim=1)
        return mean.detach().norm(dim=1).tolist()

    def _similarities(self, dense: Tensor) -> tuple[Tensor, Tensor]:
        """Similarities (maps, prototypes, n) of tokens (D, n), or guide values (maps, 1, n); and soft assignments."""
        if self.is_direction:
            values = self.guide(dense[None, :, None, :])[0, :, 0][:, None]
            return values, torch.zeros_like(values)
        tokens, book = self.guide.project(dense[None, :, None, :])[0, :, 0], self.guide.book
        if self.guide.similarity == "cosine":
            similarity = torch.einsum("dn,gpd->gpn", F.normalize(tokens, dim=0), F.normalize(book, dim=2))
        else:
            similarity = torch.einsum("dn,gpd->gpn", tokens, book) / tokens.shape[0] ** 0.5
        scaled = similarity / self.guide.log_temperature.exp()
        if self.guide.aggregate == "logsumexp":
            scaled = scaled + self.guide.weights.log_softmax(dim=1)[..., None]
        return similarity, scaled.softmax(dim=1)

    def _votes(self) -> Tensor:
        weights = self.guide.weights.detach()
        return weights.sigmoid() if self.guide.aggregate == "softmax" else weights.softmax(dim=1)

    def _distinct(self, number: int, count: int) -> list[int]:
        order = self._usage[number].argsort(descending=True).tolist()
        votes = self._votes()[number]
        if self.guide.aggregate != "softmax":
            return self._without_similar(number, order, count)
        foreground = self._without_similar(number, [index for index in order if votes[index] >= 0.5], count // 2)
        background = self._without_similar(number, [index for index in order if votes[index] < 0.5], count // 2)
        return foreground + background

    def _without_similar(self, number: int, order: Sequence[int], count: int) -> list[int]:
        book = F.normalize(self.guide.book[number].detach(), dim=1)
        kept: list[int] = []
        for index in order:
            if len(kept) == count:
                break
            if not kept or float((book[kept] @ book[index]).max()) < _MAX_COSINE:
                kept.append(index)
        return kept

    def _prototype(self, number: int, index: int) -> Prototype:
        row = number * self._usage.shape[1] + index
        if self._worst is not None:
            farthest = [PatchMatch(-match.value, match.image, match.box) for match in self._worst.matches(row)]
            return Prototype(number, None, None, None, self._best.matches(row), farthest)
        usage = float(self._usage[number, index] / max(1, self._tokens))
        return Prototype(number, index, float(self._votes()[number, index]), usage, self._best.matches(row), [])


class _TopK:
    """The `keep` largest values of each row with their patches, at most one per image."""

    def __init__(self, rows: int, keep: int) -> None:
        self._values = torch.full((rows, keep), float("-inf"))
        self._places: list[list[tuple[Path, PatchBox] | None]] = [[None] * keep for _ in range(rows)]

    def add(self, image: Path, scores: Tensor, boxes: Sequence[PatchBox]) -> None:
        """Insert the largest of each row of (rows, n) values of one image, if it is among the `keep` largest."""
        values, indices = (part.cpu() for part in scores.max(dim=1))
        for row in (values > self._values[:, -1]).nonzero()[:, 0].tolist():
            place = int((self._values[row] >= values[row]).sum())
            self._values[row] = torch.cat(
                [self._values[row, :place], values[row : row + 1], self._values[row, place:-1]]
            )
            self._places[row].insert(place, (image, boxes[int(indices[row])]))
            self._places[row].pop()

    def matches(self, row: int) -> list[PatchMatch]:
        """The patches of a row, largest value first."""
        pairs = zip(self._values[row].tolist(), self._places[row], strict=True)
        return [PatchMatch(value, *place) for value, place in pairs if place is not None]


@torch.inference_mode()
def iter_patch_tokens(
    backbone: Backbone, image: Path, settings: DataSettings, window: Window
) -> Iterator[tuple[Tensor, list[PatchBox]]]:
    """Tokens (D, n) of an image in a run's grid and their patches' boxes, by window without overlap.

    Raises:
        DataError: The file cannot be read.
    """
    pixels, geometry = read_image(image)
    size_hw = network_size(geometry.size_hw, resize=settings.resize, image_size=settings.image_size)
    padded = to_tensor(resize_image(pixels, size_hw)).to(next(backbone.parameters()).device)
    pad_h, pad_w = (max(0, window.size - side) for side in size_hw)
    padded = F.pad(padded, (0, pad_w, 0, pad_h))
    for top, left in window_corners((padded.shape[-2], padded.shape[-1]), Window(window.size, overlap=0.0)):
        dense = backbone(padded[None, :, top : top + window.size, left : left + window.size])[-1][0].float()
        step_h, step_w = window.size / dense.shape[1], window.size / dense.shape[2]
        inside, boxes = [], []
        for row in range(dense.shape[1]):
            for column in range(dense.shape[2]):
                y, x = top + row * step_h, left + column * step_w
                # The middle of a patch must lie on the image, not on what it was padded with.
                if y + step_h / 2 < size_hw[0] and x + step_w / 2 < size_hw[1]:
                    inside.append(row * dense.shape[2] + column)
                    ends = ((y + step_h) / size_hw[0], (x + step_w) / size_hw[1])
                    boxes.append((y / size_hw[0], x / size_hw[1], min(1.0, ends[0]), min(1.0, ends[1])))
        yield dense.flatten(1)[:, inside], boxes
