"""`prototypes.png`: the patches that a run's TokenBook likes, cut out of the images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from guidino_cli.commands.visualize.inference import GuidedRun, guide_map_names
from guidino_cli.data.images import read_image
from guidino_cli.engine.guides.prototypes import NearestPatches, PatchMatch, Prototype, iter_patch_tokens
from guidino_cli.files import write_atomically
from guidino_cli.models.guides import TokenBook
from guidino_cli.plots.tokens import PatchCrop, PatchCropRow, prototype_sheet
from guidino_cli.progress import pluralize

PROTOTYPES_FILE = "prototypes.png"
_KEPT = 10
_AROUND = 1.0
"""A crop shows so many patches more on every side."""
_CROP = 180
"""Pixels of a crop's side."""


class PatchCollector:
    """Shows a run's backbone every image once more, upright, and remembers which patches the TokenBook likes."""

    def __init__(self, eye: GuidedRun) -> None:
        if eye.model.backbone is None or not isinstance(eye.model.guide, TokenBook):
            raise ValueError("no TokenBook to ask")
        self.eye, self.backbone = eye, eye.model.backbone
        self.book = NearestPatches(eye.model.guide, keep=_KEPT)

    def add(self, image: Path) -> None:
        """Ask about one image."""
        patches = list(iter_patch_tokens(self.backbone, image, self.eye.config.data, self.eye.window))
        self.book.add(image, patches)

    def write(self, out: Path, *, source: str, classes: Sequence[str], count: int) -> None:
        """Draw what was found in so many images."""
        rows = [row for item in self.book.chosen() for row in self._rows(item, classes)]
        figure = prototype_sheet(
            rows,
            heading=f"{source}: what its TokenBook likes in {pluralize(count, 'image')}",
            notes=self._notes(),
        )
        write_atomically(out / PROTOTYPES_FILE, figure.savefig)

    def _notes(self) -> list[str]:
        guide = self.book.guide
        if self.book.is_direction:
            reach = " and ".join(f"{length:.2f}" for length in self.book.lengths())
            bound = f"0.5 +- 0.5 x {reach}" if guide.similarity == "cosine" else "a logistic function of their product"
            return [
                f"Aggregate 'mean' is linear: its {self.book.count} prototypes act as one vector, so there is one "
                f"direction to show, not {self.book.count}. The guide is {bound} at most.",
                "Framed: the patch. Below: the guide's value there. One patch an image.",
            ]
        rule = (
            "vote: guide value that a patch gets by choosing it" if guide.aggregate == "softmax" else "vote: its weight"
        )
        return [
            f"Of {self.book.count} prototypes the most used, no two alike (cosine below 0.9). {rule}; used: share of "
            "all patches that choose it.",
            f"Framed: the patch. Below: its {guide.similarity} similarity with the prototype. One patch an image.",
        ]

    def _rows(self, item: Prototype, classes: Sequence[str]) -> list[PatchCropRow]:
        names = guide_map_names(self._maps(), classes)
        of_map = f"{names[item.map]}: " if len(names) > 1 else ""
        if item.number is None:
            return [
                PatchCropRow(f"{of_map}most foreground", ["largest guide value"], _crops(item.hits)),
                PatchCropRow(f"{of_map}most background", ["smallest guide value"], _crops(item.misses)),
            ]
        vote = f"vote {item.vote:.3g}" if self.book.guide.aggregate == "softmax" else f"weight {item.vote:.2%}"
        return [PatchCropRow(f"{of_map}prototype {item.number}", [vote, f"used {item.usage:.2%}"], _crops(item.hits))]

    def _maps(self) -> int:
        return int(self.book.guide.book.shape[0])


def has_prototypes(eye: GuidedRun) -> bool:
    """Whether a run has prototypes."""
    return eye.model.backbone is not None and isinstance(eye.model.guide, TokenBook)


def _crops(hits: Sequence[PatchMatch]) -> list[PatchCrop]:
    return [_crop(hit) for hit in hits]


def _crop(hit: PatchMatch) -> PatchCrop:
    """A patch with its neighbours; at the border of the image the crop moves inwards, so that it stays full."""
    from PIL import Image

    pixels = read_image(hit.image)[0]
    height, width = pixels.shape[:2]
    top, left, bottom, right = (share * side for share, side in zip(hit.box, (height, width) * 2, strict=True))
    y0, y1 = _stretch(top, bottom, height)
    x0, x1 = _stretch(left, right, width)
    cut = np.ascontiguousarray(pixels[y0:y1, x0:x1])
    frame = ((top - y0) / (y1 - y0), (left - x0) / (x1 - x0), (bottom - y0) / (y1 - y0), (right - x0) / (x1 - x0))
    scale = _CROP / max(cut.shape[:2])
    size = (max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale)))
    small = np.asarray(Image.fromarray(cut).resize(size, Image.Resampling.BICUBIC))
    return PatchCrop(small, frame, f"{hit.value:.3f}")


def _stretch(low: float, high: float, side: int) -> tuple[int, int]:
    room = _AROUND * (high - low)
    length = min(side, round(high - low + 2 * room))
    start = min(max(0, round(low - room)), side - length)
    return start, start + max(1, length)
