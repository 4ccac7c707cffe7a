"""`contact_sheet*.png`: all images of a folder at a glance, a page at a time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from guidino_cli.engine.guides.scores import MapScore
from guidino_cli.files import write_atomically
from guidino_cli.plots.colours import Limits, coloured, guide_over
from guidino_cli.plots.contact_sheet import outlined
from guidino_cli.plots.guide_sheet import SIDE, TILES, SheetTile, guide_sheet
from guidino_cli.plots.views import GuideStyle, GuideView, TokenView

_MAPS = 4
"""Guide maps in a tile; more would not fit."""


class SheetWriter:
    """Writes a page whenever one is full, so that memory does not grow with the images.

    Args:
        out: Folder of the pages.
        total: Images to come.
        heading: Of every page; the number of the page is added.
        note: What the pictures of a tile are.
        classes: Of the outlines.
        limits: Ends of the colour bar; None draws none.
    """

    def __init__(
        self,
        out: Path,
        *,
        total: int,
        heading: str,
        note: str,
        classes: Sequence[str] = (),
        limits: Limits | None = None,
    ) -> None:
        self.out, self.heading, self.note, self.classes, self.limits = out, heading, note, classes, limits
        self.pages = -(-total // TILES)
        self.names: list[str] = []
        self._tiles: list[SheetTile] = []

    def add(self, tile: SheetTile) -> None:
        """One more image."""
        self._tiles.append(tile)
        if len(self._tiles) == TILES:
            self.close()

    def close(self) -> None:
        """Write what is left."""
        if not self._tiles:
            return
        number = len(self.names) + 1
        name = "contact_sheet.png" if self.pages == 1 else f"contact_sheet_{number:0{len(str(self.pages))}d}.png"
        page = f", page {number} of {self.pages}" if self.pages > 1 else ""
        figure = guide_sheet(
            self._tiles, heading=self.heading + page, note=self.note, classes=self.classes, limits=self.limits
        )
        write_atomically(self.out / name, figure.savefig)
        self.names.append(name)
        self._tiles = []


def guide_tile(view: GuideView, style: GuideStyle, scores: Sequence[MapScore]) -> SheetTile:
    """An image with its truth (or prediction) outlined, and its guide maps over it."""
    limits = style.limits_of(view)
    size = _size(view.size_hw)
    small = _resized(view.image, size)
    labels = view.labels if view.truth is None else view.truth
    fitted = np.asarray(Image.fromarray(labels.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
    pictures = [outlined(small, fitted, size=max(size))]
    for item in view.maps[:_MAPS]:
        values = np.asarray(Image.fromarray(item.values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))
        pictures.append(_bytes(guide_over(small, values, limits=limits)))
    known = [score for score in scores[: len(view.maps)] if np.isfinite(score.auroc)]
    detail = f"guide {min(s.low for s in scores):.2f} to {max(s.high for s in scores):.2f}"
    if len(view.maps) == 1 and known:
        detail = f"AUROC {known[0].auroc:.3f}, IoU at 0.5 {known[0].iou_at(0.5):.3f}"
    elif known:
        detail = "AUROC " + ", ".join(f"{score.map} {score.auroc:.3f}" for score in known)
    elif view.truth is not None:
        detail = "no AUROC: nothing to rank; " + detail
    return SheetTile(pictures, view.name, detail)


def token_tile(image: np.ndarray, tokens: TokenView, *, name: str) -> SheetTile:
    """An image, the principal components of its tokens, and cosines."""
    size = _size((image.shape[0], image.shape[1]))
    maps = (_bytes(tokens.components), _bytes(coloured(tokens.similarity)))
    cells = [np.asarray(Image.fromarray(item).resize(size, Image.Resampling.NEAREST)) for item in maps]
    detail = f"{tokens.explained:.0%} of the variance, cosine from {tokens.similarity.min():.2f}"
    return SheetTile([_resized(image, size), *cells], name, detail)


def _size(size_hw: tuple[int, int]) -> tuple[int, int]:
    """Width and height in a tile."""
    scale = SIDE / max(size_hw)
    return max(1, round(size_hw[1] * scale)), max(1, round(size_hw[0] * scale))


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))


def _bytes(picture: np.ndarray) -> np.ndarray:
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
