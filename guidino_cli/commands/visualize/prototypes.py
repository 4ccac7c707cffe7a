"""`prototypes.png`: the patches most similar to the prototypes of a run's TokenBook."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from guidino_cli.commands.visualize.inference import GuidedRun, guide_map_names
from guidino_cli.data.images import read_image
from guidino_cli.engine.guides.prototypes import NearestPatches, PatchMatch, Prototype, iter_patch_tokens
from guidino_cli.engine.prediction.sliding import Window
from guidino_cli.files import write_atomically
from guidino_cli.models.guides import TokenBook
from guidino_cli.plots.tokens import PatchCrop, PatchCropRow, prototype_sheet
from guidino_cli.progress import pluralize

PROTOTYPES_FILE = "prototypes.png"
_PATCHES = 10
"""Patches per prototype."""
_MARGIN = 1.0
"""Context around a patch on every side, in patches."""
_CROP_SIDE = 180
"""Longer side of a crop in pixels."""


class PatchCollector:
    """Runs the backbone on every image once more, unflipped, and collects the patches nearest to the prototypes.

    Args:
        run: With a backbone and a TokenBook.
    """

    def __init__(self, run: GuidedRun) -> None:
        if run.model.backbone is None or not isinstance(run.model.guide, TokenBook):
            raise ValueError("the run has no TokenBook")
        self.backbone, self.settings, self.window = run.model.backbone, run.config.data, Window.from_config(run.config)
        self.nearest = NearestPatches(run.model.guide, keep=_PATCHES)

    def add(self, image: Path) -> None:
        """Search one image."""
        self.nearest.add(image, list(iter_patch_tokens(self.backbone, image, self.settings, self.window)))

    def write(self, out: Path, *, source: str, classes: Sequence[str], count: int) -> None:
        """Draw the patches found in `count` images."""
        rows = [row for item in self.nearest.select() for row in self._rows(item, classes)]
        figure = prototype_sheet(
            rows,
            heading=f"{source}: what its TokenBook likes in {pluralize(count, 'image')}",
            notes=self._notes(),
        )
        write_atomically(out / PROTOTYPES_FILE, figure.savefig)

    def _notes(self) -> list[str]:
        guide = self.nearest.guide
        if self.nearest.is_direction:
            reach = " and ".join(f"{length:.2f}" for length in self.nearest.mean_lengths())
            bound = f"0.5 +- 0.5 x {reach}" if guide.similarity == "cosine" else "a logistic function of their product"
            return [
                f"Aggregate 'mean' is linear: its {self.nearest.count} prototypes act as one vector, so there is one "
                f"direction to show, not {self.nearest.count}. The guide is {bound} at most.",
                "Framed: the patch. Below: the guide's value there. One patch an image.",
            ]
        rule = (
            "vote: guide value that a patch gets by choosing it" if guide.aggregate == "softmax" else "vote: its weight"
        )
        return [
            f"Of {self.nearest.count} prototypes the most used, no two alike (cosine below 0.9). {rule}; used: share "
            "of all patches that choose it.",
            f"Framed: the patch. Below: its {guide.similarity} similarity with the prototype. One patch an image.",
        ]

    def _rows(self, item: Prototype, classes: Sequence[str]) -> list[PatchCropRow]:
        names = guide_map_names(self._maps(), classes)
        of_map = f"{names[item.map]}: " if len(names) > 1 else ""
        if item.number is None:
            return [
                PatchCropRow(f"{of_map}most foreground", ["largest guide value"], _crops(item.nearest)),
                PatchCropRow(f"{of_map}most background", ["smallest guide value"], _crops(item.farthest)),
            ]
        vote = f"vote {item.vote:.3g}" if self.nearest.guide.aggregate == "softmax" else f"weight {item.vote:.2%}"
        return [
            PatchCropRow(f"{of_map}prototype {item.number}", [vote, f"used {item.usage:.2%}"], _crops(item.nearest))
        ]

    def _maps(self) -> int:
        return int(self.nearest.guide.book.shape[0])


def has_prototypes(run: GuidedRun) -> bool:
    """Whether a run has a backbone and a TokenBook."""
    return run.model.backbone is not None and isinstance(run.model.guide, TokenBook)


def _crops(matches: Sequence[PatchMatch]) -> list[PatchCrop]:
    return [_crop(match) for match in matches]


def _crop(match: PatchMatch) -> PatchCrop:
    """A patch with its neighbours; at the border of the image the crop moves inwards, so that it keeps its size."""
    from PIL import Image

    pixels = read_image(match.image)[0]
    height, width = pixels.shape[:2]
    top, left, bottom, right = (share * side for share, side in zip(match.box, (height, width) * 2, strict=True))
    y0, y1 = _with_margin(top, bottom, height)
    x0, x1 = _with_margin(left, right, width)
    cut = np.ascontiguousarray(pixels[y0:y1, x0:x1])
    frame = ((top - y0) / (y1 - y0), (left - x0) / (x1 - x0), (bottom - y0) / (y1 - y0), (right - x0) / (x1 - x0))
    scale = _CROP_SIDE / max(cut.shape[:2])
    size = (max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale)))
    small = np.asarray(Image.fromarray(cut).resize(size, Image.Resampling.BICUBIC))
    return PatchCrop(small, frame, f"{match.value:.3f}")


def _with_margin(low: float, high: float, side: int) -> tuple[int, int]:
    margin = _MARGIN * (high - low)
    length = min(side, round(high - low + 2 * margin))
    start = min(max(0, round(low - margin)), side - length)
    return start, start + max(1, length)
