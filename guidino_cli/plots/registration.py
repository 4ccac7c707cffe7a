"""Figures of a registration: checkerboards of both images before and after, and the grid that the field deforms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from guidino_cli.plots.panels import shorten
from guidino_cli.plots.plane_pictures import grey_picture, outlined_picture
from guidino_cli.plots.plane_sheet import Panel, PanelRow, plane_sheet
from guidino_cli.plots.planes import PLANES, Plane, Position, largest_slices, picture_sizes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BOX, _PICTURE_BOX = (210, 190), (300, 300)
"""Largest height and width of the pictures of volumes, and of images, in pixels."""
_SQUARES = 8
"""Of a checkerboard along its longer side."""
_LINES = 16
"""Of the deformed grid along the longer side of a picture."""
_LINE_COLOUR, _FOLD_COLOUR = (255, 214, 0), (226, 26, 28)
_TINT = 0.22
"""Share of colour in every other square of a checkerboard, so that squares can be told apart in dark places."""


@dataclass(frozen=True, eq=False)
class RegistrationView:
    """What a figure of one pair shows; a picture has one slice.

    Attributes:
        name: Of the pair.
        fixed: (Z, Y, X) in [0, 1].
        moving: Likewise, before.
        warped: Likewise, after.
        field: (3, Z, Y, X) in pixels, from fixed to moving.
        folds: (Z, Y, X) booleans: where the field folds.
        spacing: Size of a pixel along Z, Y, X.
        labels: Of fixed, moving and warped image, (Z, Y, X) each; None without labels.
        is_volume: Whether the axes are known to be canonical.
    """

    name: str
    fixed: np.ndarray
    moving: np.ndarray
    warped: np.ndarray
    field: np.ndarray
    folds: np.ndarray
    spacing: tuple[float, float, float]
    labels: tuple[np.ndarray, np.ndarray, np.ndarray] | None
    is_volume: bool


def registration_figure(view: RegistrationView, *, detail: str) -> Figure:
    """Fixed, moving and warped image, checkerboards before and after, and the deformed grid; a row for each plane.

    Args:
        view: The pair.
        detail: Scores, beside the name.

    Returns:
        A figure that is not registered with pyplot; save it with `savefig`.
    """
    shape = view.fixed.shape
    depth, height, width = shape
    candidates = () if view.labels is None else (view.labels[0], view.labels[1])
    position = largest_slices(candidates, (depth, height, width))
    sizes = picture_sizes((depth, height, width), view.spacing, box_hw=_PICTURE_BOX if depth == 1 else _BOX)
    planes = [plane for plane in PLANES if depth > 1 or plane.axis == 0]
    rows = [
        PanelRow(
            _panels(view, plane, position, sizes[PLANES.index(plane)], titled=number == 0),
            title=f"{shorten(view.name)}: {detail}" if number == 0 else "",
        )
        for number, plane in enumerate(planes)
    ]
    return plane_sheet(rows, note=_note(view))


def _note(view: RegistrationView) -> str:
    parts = [
        "Checkerboards: squares of the fixed image beside tinted ones of the moving image; edges run through where "
        "both fit. Grid: straight lines of the moving image as they lie in the warped one, red where the field folds."
    ]
    if view.labels is not None:
        parts.append("Outlines: the labels of each image.")
    if view.is_volume:
        parts.append("R, L: the patient's right and left; A, P: front and back; S, I: head and feet.")
    return " ".join(parts)


def _panels(
    view: RegistrationView, plane: Plane, position: Position, size_hw: tuple[int, int], *, titled: bool
) -> list[Panel]:
    index = position[plane.axis]

    def cut(values: np.ndarray) -> np.ndarray:
        return np.asarray(plane.cut(values, index))

    images = [cut(values) for values in (view.fixed, view.moving, view.warped)]
    if view.labels is None:
        pictures = [grey_picture(image, size_hw) for image in images]
    else:
        pictures = [
            outlined_picture(image, cut(labels), size_hw) for image, labels in zip(images, view.labels, strict=True)
        ]
    plain = [grey_picture(image, size_hw) for image in images]
    pictures += [checkerboard(plain[0], plain[1]), checkerboard(plain[0], plain[2])]
    # The plane's own axes, in the directions in which it shows them.
    steps = [cut(np.indices(view.fixed.shape)[axis] + view.field[axis]) for axis in (plane.rows, plane.columns)]
    pictures.append(draw_grid(plain[2], steps[0], steps[1], folds=cut(view.folds)))
    titles = ("fixed", "moving", "warped", "checkerboard before", "checkerboard after", "grid")
    edges = plane.edges if view.is_volume else None
    caption = f"slice {index + 1} of {view.fixed.shape[plane.axis]}" if len(view.fixed) > 1 else ""
    return [
        Panel(picture, edges, title if titled else "", caption if number == 0 else "")
        for number, (picture, title) in enumerate(zip(pictures, titles, strict=True))
    ]


def checkerboard(fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
    """Squares of one picture beside squares of the other, which are tinted.

    Args:
        fixed: (H, W, 3) uint8.
        moving: Of the same shape.

    Returns:
        (H, W, 3) uint8.
    """
    side = max(1, round(max(fixed.shape[:2]) / _SQUARES))
    rows, columns = (np.arange(size) // side for size in fixed.shape[:2])
    chosen = (rows[:, None] + columns) % 2 == 1
    tint = np.array((255, 150, 40)) * (moving.astype(np.float32) / 255)
    tinted = (1 - _TINT) * moving + _TINT * tint
    return np.where(chosen[..., None], tinted.round().astype(np.uint8), fixed)


def draw_grid(
    picture: np.ndarray, rows: np.ndarray, columns: np.ndarray, *, folds: np.ndarray | None = None
) -> np.ndarray:
    """Draw where straight, evenly spaced lines of the moving image come to lie.

    Args:
        picture: (H, W, 3) uint8, darkened below the lines.
        rows: (h, w) row of the moving image that is seen at each pixel, on any grid that covers the picture.
        columns: Likewise.
        folds: (h, w) booleans that are drawn in red, or None.

    Returns:
        (H, W, 3) uint8.
    """
    from PIL import Image

    size = (picture.shape[1], picture.shape[0])
    result = picture.astype(np.float32) * 0.55
    # Lines are as far apart in the picture along both axes, however long the voxels are.
    apart = max(picture.shape[:2]) / _LINES
    coverage = np.zeros(picture.shape[:2], dtype=np.float32)
    for axis, places in enumerate((rows, columns)):
        scale = picture.shape[axis] / places.shape[axis]
        resized = Image.fromarray(((places + 0.5) * scale / apart).astype(np.float32)).resize(
            size, Image.Resampling.BILINEAR
        )
        lines = np.asarray(resized)
        slope = np.hypot(*np.gradient(lines)) if min(lines.shape) > 1 else np.ones_like(lines)
        distance = np.abs(lines - np.round(lines)) / np.maximum(slope, 1e-6)
        coverage = np.maximum(coverage, np.clip(1.2 - distance, 0, 1))
    result += coverage[..., None] * (np.array(_LINE_COLOUR) - result)
    if folds is not None and folds.any():
        grown = Image.fromarray(folds.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
        result[np.asarray(grown) > 0] = _FOLD_COLOUR
    return result.round().astype(np.uint8)
