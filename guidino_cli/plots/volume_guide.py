"""The figure of a guide in one volume: three planes of image, truth, prediction and guide, and projections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, isfinite
from typing import TYPE_CHECKING

import numpy as np

from guidino_cli.plots.guide_sheet import TILE_SIDE, GuideTile
from guidino_cli.plots.panels import Limits
from guidino_cli.plots.plane_pictures import grey_picture, guide_picture, outlined_picture
from guidino_cli.plots.plane_sheet import Panel, PanelRow, plane_sheet
from guidino_cli.plots.planes import CONVENTION, PLANES, Plane
from guidino_cli.plots.volumes import Planes, VolumeView, describe_spacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BOX = (330, 330)
"""Largest height and width of a picture in pixels."""
MAX_MAPS = 4
"""Guide maps in a tile of a contact sheet; of more maps, only the last one is projected in a figure."""


@dataclass(frozen=True)
class VolumeGuideMap:
    """One guide map of a volume, cut and projected.

    Attributes:
        name: What it marks, such as a class.
        slices: At the position of the view, values in [0, 1] on any grid that covers the slices.
        projections: Largest value along each axis.
        low: Smallest value in the volume.
        high: Largest value in the volume.
        target: What the map should mark in the slices, booleans; None without truth.
        silhouette: The same along each axis.
        auroc: AUROC of the map alone; NaN where it is undefined.
        iou: IoU of the map at 0.5 with the target; NaN where it is undefined.
    """

    name: str
    slices: Planes
    projections: Planes
    low: float
    high: float
    target: Planes | None = None
    silhouette: Planes | None = None
    auroc: float = float("nan")
    iou: float = float("nan")


@dataclass(frozen=True)
class VolumeGuideView:
    """One volume with its guide.

    Attributes:
        view: Its slices, with prediction and, where it is known, truth.
        maps: At least one; where there are several, the last one is their maximum, which is what gates.
        dice: Dice of the prediction; None without truth.
        predicted_ml: Volume of the prediction in millilitres.
        true_ml: Volume of the truth; None without.
    """

    view: VolumeView
    maps: Sequence[VolumeGuideMap]
    dice: float | None = None
    predicted_ml: float = 0.0
    true_ml: float | None = None

    def limits(self) -> Limits:
        """Smallest and largest value of the maps, rounded outwards to the two digits of the colorbar's labels."""
        low, high = min(item.low for item in self.maps), max(item.high for item in self.maps)
        first, last = floor(100 * low) / 100, ceil(100 * high) / 100
        return (first, last) if last > first else (first - 0.01, last + 0.01)


@dataclass(frozen=True)
class VolumeGuideStyle:
    """Settings that all figures of a set share.

    Attributes:
        classes: Class names, the background first.
        limits: Range of the colormap; None for the range of each volume.
        source: Where the guide is from, such as the name of the run.
        notes: Sentences for the foot of every figure.
    """

    classes: Sequence[str]
    limits: Limits | None = (0.0, 1.0)
    source: str = ""
    notes: Sequence[str] = field(default_factory=tuple)

    def limits_of(self, item: VolumeGuideView) -> Limits:
        """Range of the colormap in the figure of one volume."""
        return item.limits() if self.limits is None else self.limits


def volume_guide_figure(item: VolumeGuideView, style: VolumeGuideStyle) -> Figure:
    """Draw rows of three planes: image, truth, prediction, each guide map over the image, and its projections.

    Returns:
        A figure that is not registered with pyplot; save it with `savefig`.
    """
    view, limits = item.view, style.limits_of(item)
    if view.image is None or view.labels is None:
        raise ValueError(f"{view.name}: image and prediction are needed")
    image, labels = view.image, view.labels
    z, y, x = view.shape
    rows = [
        _row(
            view,
            lambda number, size: grey_picture(image[number], size),
            "image",
            f"{x} x {y} x {z} voxels; {describe_spacing(view.spacing_mm)}",
            titled=True,
        )
    ]
    if view.truth is not None:
        truth = view.truth
        detail = "" if item.true_ml is None else format_millilitres(item.true_ml)
        rows.append(
            _row(view, lambda number, size: outlined_picture(image[number], truth[number], size), "truth", detail)
        )
    dice = "" if item.dice is None else f"Dice {item.dice:.3f}, "
    rows.append(
        _row(
            view,
            lambda number, size: outlined_picture(image[number], labels[number], size),
            "prediction of the network",
            dice + format_millilitres(item.predicted_ml),
        )
    )
    for guide in item.maps:
        overlay, projection = _guide_rows(view, guide, limits, several=len(item.maps) > 1)
        rows += [overlay, projection] if len(item.maps) <= MAX_MAPS or guide is item.maps[-1] else [overlay]
    return plane_sheet(
        rows,
        heading=f"{view.name}\n{style.source}" if style.source else view.name,
        note=" ".join([CONVENTION, *style.notes]),
        classes=style.classes,
        limits=limits,
    )


def _guide_rows(view: VolumeView, guide: VolumeGuideMap, limits: Limits, *, several: bool) -> tuple[PanelRow, PanelRow]:
    """The map over the slices, and its projections."""
    image, target, silhouette = view.image, guide.target, guide.silhouette
    assert image is not None
    scores = [f"from {guide.low:.2f} to {guide.high:.2f}"]
    scores += [f"AUROC {guide.auroc:.3f}"] if isfinite(guide.auroc) else []
    scores += [f"IoU at 0.5 {guide.iou:.3f}"] if isfinite(guide.iou) else []
    name = f": {guide.name}" if several else ""
    white = "" if target is None else "; truth outlined in white"
    seen_through = "" if silhouette is None else "projection of the truth outlined in white"
    return (
        _row(
            view,
            lambda number, size: guide_picture(
                image[number],
                guide.slices[number],
                size,
                limits=limits,
                target=None if target is None else target[number],
            ),
            f"guide over the image{name}",
            ", ".join(scores) + white,
        ),
        _row(
            view,
            lambda number, size: guide_picture(
                None,
                guide.projections[number],
                size,
                limits=limits,
                target=None if silhouette is None else silhouette[number],
            ),
            f"maximum projection of the guide{name}",
            seen_through,
            ticks=False,
        ),
    )


def _row(
    view: VolumeView,
    draw: Callable[[int, tuple[int, int]], np.ndarray],
    title: str,
    detail: str,
    *,
    titled: bool = False,
    ticks: bool = True,
) -> PanelRow:
    """Three planes drawn by a function of the plane's number and size; those of slices have ticks and a number."""
    panels = []
    for number, (plane, size_hw) in enumerate(zip(PLANES, view.sizes(_BOX), strict=True)):
        panels.append(_panel(view, draw(number, size_hw), plane, titled=titled, ticks=ticks))
    return PanelRow(panels, title, detail)


def _panel(view: VolumeView, picture: np.ndarray, plane: Plane, *, titled: bool, ticks: bool) -> Panel:
    if ticks:
        return view.panel(picture, plane, title=plane.name if titled else "", caption=titled)
    return Panel(picture, plane.edges)


def format_millilitres(volume: float) -> str:
    """A volume for people: "12.3 ml", "0.045 ml", or that there is nothing."""
    return "nothing found" if volume == 0 else f"{volume:.3g} ml" if volume < 1000 else f"{volume:,.0f} ml"


def volume_guide_tile(item: VolumeGuideView, style: VolumeGuideStyle, detail: str) -> GuideTile:
    """A tile: the axial slice with truth (or else prediction) outlined, and the first maps over it."""
    view, limits = item.view, style.limits_of(item)
    if view.image is None or view.labels is None:
        raise ValueError(f"{view.name}: image and prediction are needed")
    size_hw = view.sizes((TILE_SIDE, TILE_SIDE)).axial
    labels = view.labels if view.truth is None else view.truth
    pictures = [outlined_picture(view.image.axial, labels.axial, size_hw)]
    for guide in item.maps[:MAX_MAPS]:
        pictures.append(guide_picture(view.image.axial, guide.slices.axial, size_hw, limits=limits))
    return GuideTile(pictures, view.name, detail)
