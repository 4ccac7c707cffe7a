"""Which patches the prototypes of a TokenBook like best, over any number of images in constant memory."""

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

_ALIKE = 0.9
"""Prototypes of a larger cosine show the same patches; one of them is enough."""

PatchBox = tuple[float, float, float, float]
"""Top, left, bottom and right of a patch, as shares of its image."""


@dataclass(frozen=True)
class PatchMatch:
    """One patch.

    Attributes:
        value: Similarity with the prototype, or the guide's value where the prototypes act as one.
        image: File.
        box: Place of the patch.
    """

    value: float
    image: Path
    box: PatchBox


@dataclass(frozen=True)
class Prototype:
    """What one prototype, or one direction, likes.

    Attributes:
        map: Which guide map it belongs to, from 0.
        number: Which prototype, from 0; None for all of them as one direction.
        vote: `softmax`: what a patch that chooses it gets as its guide, in (0, 1); `logsumexp`: its share of the
            weights; None for a direction.
        usage: Share of all patches that choose it, softly; None for a direction.
        hits: Most alike first, at most one patch an image.
        misses: Least alike first; for a direction alone.
    """

    map: int
    number: int | None
    vote: float | None
    usage: float | None
    hits: list[PatchMatch]
    misses: list[PatchMatch]


class NearestPatches:
    """Gathers the best patches image by image.

    Args:
        guide: A trained TokenBook.
        keep: Patches a prototype.
    """

    def __init__(self, guide: TokenBook, *, keep: int = 8) -> None:
        self.guide = guide
        self.is_direction = guide.aggregate == "mean"
        maps, prototypes = guide.book.shape[:2]
        self.count = prototypes
        columns = 1 if self.is_direction else prototypes
        self._best = _Best(maps * columns, keep)
        self._worst = _Best(maps * columns, keep) if self.is_direction else None
        self._usage = torch.zeros(maps, columns, dtype=torch.float64)
        self._tokens = 0

    @torch.inference_mode()
    def add(self, image: Path, patches: Sequence[tuple[Tensor, list[PatchBox]]]) -> None:
        """One more image.

        Args:
            image: Its file.
            patches: For each window its tokens (D, n) and their places.
        """
        found = [self._likes(tokens) for tokens, _ in patches]
        boxes = [box for _, places in patches for box in places]
        likes = torch.cat([part for part, _ in found], dim=2).flatten(0, 1)
        for _, usage in found:
            self._usage += usage.sum(dim=2).cpu()
        self._tokens += len(boxes)
        self._best.add(image, likes, boxes)
        if self._worst is not None:
            self._worst.add(image, -likes, boxes)

    def chosen(self, count: int = 12) -> list[Prototype]:
        """The directions, one a map, or up to `count` prototypes of each map: the most used, no two of them alike.

        Where votes differ, half of them come from those that vote for foreground and half from the others.
        """
        if self.is_direction:
            return [self._prototype(number, 0) for number in range(self._usage.shape[0])]
        return [
            self._prototype(number, place)
            for number in range(self._usage.shape[0])
            for place in self._distinct(number, count)
        ]

    def lengths(self) -> list[float]:
        """|m| of each map's mean prototype: a `mean` guide of cosines stays within 0.5 +- 0.5 |m|."""
        book = F.normalize(self.guide.book, dim=2) if self.guide.similarity == "cosine" else self.guide.book
        mean = (book * self.guide.weights.softmax(dim=1)[..., None]).sum(dim=1)
        return mean.detach().norm(dim=1).tolist()

    def _likes(self, dense: Tensor) -> tuple[Tensor, Tensor]:
        """Similarities (maps, prototypes, n) of tokens (D, n), or guide values (maps, 1, n), and who is chosen."""
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
            return self._unlike(number, order, count)
        for_it = self._unlike(number, [place for place in order if votes[place] >= 0.5], count // 2)
        against = self._unlike(number, [place for place in order if votes[place] < 0.5], count // 2)
        return for_it + against

    def _unlike(self, number: int, order: Sequence[int], count: int) -> list[int]:
        book = F.normalize(self.guide.book[number].detach(), dim=1)
        taken: list[int] = []
        for place in order:
            if len(taken) == count:
                break
            if not taken or float((book[taken] @ book[place]).max()) < _ALIKE:
                taken.append(place)
        return taken

    def _prototype(self, number: int, place: int) -> Prototype:
        row = number * self._usage.shape[1] + place
        if self._worst is not None:
            misses = [PatchMatch(-hit.value, hit.image, hit.box) for hit in self._worst.of(row)]
            return Prototype(number, None, None, None, self._best.of(row), misses)
        usage = float(self._usage[number, place] / max(1, self._tokens))
        return Prototype(number, place, float(self._votes()[number, place]), usage, self._best.of(row), [])


class _Best:
    """The `keep` largest values of each row with where they are, at most one an image."""

    def __init__(self, rows: int, keep: int) -> None:
        self._values = torch.full((rows, keep), float("-inf"))
        self._places: list[list[tuple[Path, PatchBox] | None]] = [[None] * keep for _ in range(rows)]

    def add(self, image: Path, likes: Tensor, boxes: Sequence[PatchBox]) -> None:
        """The best of (rows, n) values of one image enters where it is good enough."""
        values, at = (part.cpu() for part in likes.max(dim=1))
        for row in (values > self._values[:, -1]).nonzero()[:, 0].tolist():
            place = int((self._values[row] >= values[row]).sum())
            self._values[row] = torch.cat(
                [self._values[row, :place], values[row : row + 1], self._values[row, place:-1]]
            )
            self._places[row].insert(place, (image, boxes[int(at[row])]))
            self._places[row].pop()

    def of(self, row: int) -> list[PatchMatch]:
        """What a row has, best first."""
        pairs = zip(self._values[row].tolist(), self._places[row], strict=True)
        return [PatchMatch(value, *place) for value, place in pairs if place is not None]


@torch.inference_mode()
def iter_patch_tokens(
    backbone: Backbone, image: Path, settings: DataSettings, window: Window
) -> Iterator[tuple[Tensor, list[PatchBox]]]:
    """The tokens of an image as a run sees them, a window at a time without overlap: (D, n), and their places.

    Raises:
        DataError: The file cannot be read.
    """
    pixels, geometry = read_image(image)
    size_hw = network_size(geometry.size_hw, resize=settings.resize, image_size=settings.image_size)
    shown = to_tensor(resize_image(pixels, size_hw)).to(next(backbone.parameters()).device)
    pad_h, pad_w = (max(0, window.size - side) for side in size_hw)
    shown = F.pad(shown, (0, pad_w, 0, pad_h))
    for top, left in window_corners((shown.shape[-2], shown.shape[-1]), Window(window.size, overlap=0.0)):
        dense = backbone(shown[None, :, top : top + window.size, left : left + window.size])[-1][0].float()
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
