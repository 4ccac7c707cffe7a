"""Figures of volumes in three planes: the contact sheet of a data set, validation cases, and the errors of a case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING, Any

import numpy as np

from guidino_cli.plots.panels import UNIT_RANGE, Limits, shorten
from guidino_cli.plots.plane_pictures import (
    errors_picture,
    grey_picture,
    guide_picture,
    mark_crossing,
    outlined_picture,
)
from guidino_cli.plots.plane_sheet import Panel, PanelRow, plane_sheet
from guidino_cli.plots.planes import (
    CONVENTION,
    PLANES,
    Plane,
    Position,
    ThreePlanes,
    close_up,
    cut_planes,
    fit_into,
    largest_slices,
    picture_sizes,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Planes = ThreePlanes[np.ndarray]
_CONTACT_BOX, _VALIDATION_BOX, _ERRORS_BOX, _OVERLAY_BOX = (180, 150), (200, 170), (300, 260), (360, 360)
"""Largest height and width of a picture in pixels."""
# Below this range, colours would show rounding errors only.
_FLAT = 1e-3


@dataclass(frozen=True)
class VolumeView:
    """Three slices of a volume, which is not kept.

    Attributes:
        name: Name, such as the id of the case.
        shape: Voxels along (Z, Y, X).
        spacing_mm: Size of a voxel along (Z, Y, X).
        position: Numbers of the slices.
        image: The slices as they are shown, values in [0, 1]; None draws a dark background.
        truth: True class indices, or None.
        labels: Predicted class indices, or None.
        guide: Values in [0, 1] on any grid that covers the slices, or None without a guide.
        oriented: Whether the directions of the axes are known; the pictures have no letters otherwise.
    """

    name: str
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    position: Position
    image: Planes | None
    truth: Planes | None = None
    labels: Planes | None = None
    guide: Planes | None = None
    oriented: bool = True

    @property
    def is_picture(self) -> bool:
        """Whether it is one slice without directions, of which only that slice is shown."""
        return self.shape[0] == 1 and not self.oriented

    def sizes(self, box_hw: tuple[int, int]) -> ThreePlanes[tuple[int, int]]:
        """Sizes of its pictures; see `picture_sizes`."""
        return picture_sizes(self.shape, self.spacing_mm, box_hw=box_hw)

    def crossing(self, plane: Plane) -> tuple[float, float]:
        """Positions at which the other planes cut a plane; see `Plane.crossing`."""
        return plane.crossing(self.position, self.shape)

    def panel(self, picture: np.ndarray, plane: Plane, *, title: str = "", caption: bool = True) -> Panel:
        """A picture of a plane with ticks, letters and the number of its slice."""
        number = f"slice {self.position[plane.axis] + 1} of {self.shape[plane.axis]}" if caption else ""
        marked = mark_crossing(picture, self.crossing(plane))
        return Panel(marked, plane.edges if self.oriented else None, title, number)


def view_volume(
    name: str,
    image: Any | None,
    spacing_mm: tuple[float, float, float],
    *,
    truth: Any | None = None,
    labels: Any | None = None,
    guide: Any | None = None,
    through: Any | None = None,
    ignore_label: int | None = None,
    normalize: Callable[[np.ndarray], np.ndarray] | None = None,
    oriented: bool = True,
) -> VolumeView:
    """Cut a volume through the largest foreground of each plane: of the truth, else of the prediction, else the middle.

    Args:
        name: Name, such as the id of the case.
        image: Values (Z, Y, X), or (C, Z, Y, X) with `normalize`, in canonical axes (LPS), of which three slices are
            read; a memory map will do. None for a dark background.
        spacing_mm: Size of a voxel along (Z, Y, X).
        truth: True class indices (Z, Y, X), or None.
        labels: Predicted class indices (Z, Y, X), or None.
        guide: Values (Z, Y, X) in [0, 1] on any grid that covers the volume, or None.
        through: What the slices go through instead of truth or prediction, (Z, Y, X).
        ignore_label: Value in the truth of voxels that do not count, which are drawn as background.
        normalize: Maps the values of a slice, (H, W) or (C, H, W), to (H, W) in [0, 1]; None if they are in this range.
        oriented: Whether the axes are known to be canonical.

    Raises:
        ValueError: Neither an image nor labels.
    """
    known = next((item for item in (image, truth, labels) if item is not None), None)
    if known is None:
        raise ValueError(f"{name}: nothing to draw")
    depth, height, width = known.shape[-3:]
    shape = (int(depth), int(height), int(width))
    candidates = (truth, labels) if through is None else (through,)
    position = largest_slices(candidates, shape, ignore_label=ignore_label)
    cuts = None if image is None else cut_planes(image, position)
    return VolumeView(
        name,
        shape,
        spacing_mm,
        position,
        cuts if cuts is None or normalize is None else ThreePlanes(*(normalize(cut) for cut in cuts)),
        None if truth is None else _without(cut_planes(truth, position), ignore_label),
        None if labels is None else cut_planes(labels, position),
        None if guide is None else cut_planes(guide, rescale_position(position, shape, guide.shape[-3:])),
        oriented,
    )


def _without(planes: Planes, ignore_label: int | None) -> Planes:
    """Labels with what does not count as background."""
    if ignore_label is None:
        return planes
    return ThreePlanes(*(np.where(plane == ignore_label, 0, plane) for plane in planes))


def rescale_position(position: Position, shape: Sequence[int], grid: Sequence[int]) -> Position:
    """The cells of a grid over a volume in which the middle of a voxel of the volume lies."""
    return Position(*(int((at + 0.5) * new / old) for at, old, new in zip(position, shape, grid, strict=True)))


def describe_spacing(spacing_mm: tuple[float, float, float]) -> str:
    """Spacing (Z, Y, X) in words, such as "pixels 0.5 x 0.5 mm, slices 7.5 mm"."""
    z, y, x = spacing_mm
    return f"pixels {x:.3g} x {y:.3g} mm, slices {z:.3g} mm"


@dataclass(frozen=True)
class VolumeTile:
    """One volume of a contact sheet.

    Attributes:
        view: Its slices, with the truth.
        title: Title, such as the case id.
        subtitle: Subtitle, such as split and foreground share.
        mark: In red: why the mask should be looked at.
    """

    view: VolumeView
    title: str
    subtitle: str
    mark: str = ""


def volume_contact_sheet(
    tiles: Sequence[VolumeTile], *, heading: str, classes: Sequence[str], columns: int = 3
) -> Figure:
    """Draw volumes row by row, masks as outlines; at the same page width as the sheet of images.

    Args:
        tiles: At least one.
        heading: Title of the page, one or two lines.
        classes: Class names, the background first, for the legend.
        columns: Volumes side by side.

    Returns:
        A figure that is not registered with pyplot; save it with `savefig`.
    """
    rows = [
        PanelRow(_outlined(tile.view, tile.view.truth, _CONTACT_BOX), tile.title, tile.subtitle, tile.mark)
        for tile in tiles
    ]
    return plane_sheet(rows, heading=heading, note=CONVENTION, columns=columns, classes=classes)


def volume_overlay(view: VolumeView, *, classes: Sequence[str]) -> Figure:
    """Draw a prediction as outlines in the three planes.

    Args:
        view: With image and labels.
        classes: Class names, the background first, for the legend.

    Returns:
        A figure that is not registered with pyplot; save it with `savefig`.
    """
    panels = _outlined(view, view.labels, _OVERLAY_BOX)
    return plane_sheet(
        [PanelRow(panels, view.name, describe_spacing(view.spacing_mm))], note=CONVENTION, classes=classes
    )


def _outlined(view: VolumeView, labels: Planes | None, box_hw: tuple[int, int]) -> list[Panel]:
    panels = []
    for number, (plane, size_hw) in enumerate(zip(PLANES, view.sizes(box_hw), strict=True)):
        values = _background(view, number)
        picture = grey_picture(values, size_hw)
        if labels is not None:
            picture = outlined_picture(values, labels[number], size_hw)
        panels.append(view.panel(picture, plane, title=""))
    return panels


def _background(view: VolumeView, number: int) -> np.ndarray:
    if view.image is None:
        raise ValueError(f"{view.name}: no image to draw")
    return view.image[number]


def volume_validation_grid(rows: Sequence[tuple[VolumeView, float]], *, name: str, classes: Sequence[str]) -> Figure:
    """Draw one row per case: for each plane truth, prediction and, where there is one, the guide.

    Args:
        rows: Views with truth and labels, and the mean Dice over the foreground classes; all have a guide or none.
        name: Title, such as the name of the run.
        classes: Class names, the background first.

    Returns:
        A figure that is not registered with pyplot; save it with `savefig`.
    """
    limits = _guide_limits([view.guide for view, _ in rows if view.guide is not None])
    lines = []
    for number, (view, dice) in enumerate(rows):
        detail = f"Dice {dice:.3f}" + ("" if view.is_picture else f"; {describe_spacing(view.spacing_mm)}")
        lines.append(PanelRow(_validation_panels(view, limits, titled=number == 0), view.name, detail))
    notes = ["Guide over the image, truth outlined in white."] if limits is not None else []
    notes += [] if all(view.is_picture for view, _ in rows) else [CONVENTION]
    return plane_sheet(lines, heading=shorten(name, 90), note=" ".join(notes), classes=classes, limits=limits)


def _validation_panels(view: VolumeView, limits: Limits | None, *, titled: bool) -> list[Panel]:
    if view.truth is None or view.labels is None:
        raise ValueError(f"{view.name}: a validation case has truth and prediction")
    panels = []
    for number, (plane, size_hw) in enumerate(zip(PLANES, view.sizes(_VALIDATION_BOX), strict=True)):
        values, truth = _background(view, number), view.truth[number]
        pictures = {
            "truth": outlined_picture(values, truth, size_hw),
            "prediction": outlined_picture(values, view.labels[number], size_hw),
        }
        if view.guide is not None and limits is not None:
            guide = view.guide[number]
            pictures["guide"] = guide_picture(values, guide, size_hw, limits=limits, target=truth > 0)
        if view.is_picture:
            return [Panel(picture, None, what if titled else "") for what, picture in pictures.items()]
        panels += [
            view.panel(picture, plane, title=f"{plane.name}: {what}" if titled else "")
            for what, picture in pictures.items()
        ]
    return panels


def _guide_limits(guides: Sequence[Planes]) -> Limits | None:
    """Range over all cases, because an early guide hardly leaves 0.5 and would look flat over [0, 1]."""
    if not guides:
        return None
    low = min(float(values.min()) for planes in guides for values in planes)
    high = max(float(values.max()) for planes in guides for values in planes)
    return (floor(100 * low) / 100, ceil(100 * high) / 100) if high - low > _FLAT else UNIT_RANGE


def volume_errors(view: VolumeView) -> Figure:
    """Draw the errors of a prediction in the three planes, and close-ups where the foreground is small.

    Args:
        view: With truth and labels; the image may be None.

    Returns:
        A figure that is not registered with pyplot; save it with `savefig`.
    """
    if view.truth is None or view.labels is None:
        raise ValueError(f"{view.name}: errors need truth and prediction")
    panels = []
    for number, (plane, size_hw) in enumerate(zip(PLANES, view.sizes(_ERRORS_BOX), strict=True)):
        values = None if view.image is None else view.image[number]
        picture = errors_picture(values, view.labels[number], view.truth[number], size_hw)
        panels.append(view.panel(picture, plane, title=plane.name))
    close_ups = [_error_close_up(view, number) for number in range(len(PLANES))]
    rows = [PanelRow(panels)]
    if any(part is not None for part in close_ups):
        # Where nothing is small the place stays empty.
        empty = Panel(np.full((1, 1, 3), 255, dtype=np.uint8), None)
        rows.append(PanelRow([empty if part is None else part for part in close_ups], "close-up of small foreground"))
    return plane_sheet(rows)


def _error_close_up(view: VolumeView, number: int) -> Panel | None:
    """The errors of a plane around its foreground, if that is small."""
    if view.truth is None or view.labels is None:
        return None
    plane, truth, labels = PLANES[number], view.truth[number], view.labels[number]
    pixel_mm = view.spacing_mm[plane.rows], view.spacing_mm[plane.columns]
    part = close_up((truth > 0) | (labels > 0), pixel_mm)
    if part is None:
        return None
    height, width = truth[part].shape
    size_hw = fit_into((height * pixel_mm[0], width * pixel_mm[1]), _ERRORS_BOX)
    values = None if view.image is None else view.image[number][part]
    picture = errors_picture(values, labels[part], truth[part], size_hw)
    return Panel(picture, plane.edges if view.oriented else None)
