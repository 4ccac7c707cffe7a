"""LabelMe: one JSON file per image with polygons, rectangles (upright or turned), circles and masks."""

import base64
import binascii
import math
from pathlib import Path
from typing import Any

import numpy as np

from guidino_cli.data.label_files.regions import Bitmap, Drawing, Region, make_ring_of_points
from guidino_cli.errors import DataError
from guidino_cli.json_files import read_json_object
from guidino_cli.preparation.label_files.contents import LabelContents, NamedDrawing, detect_tool
from guidino_cli.preparation.label_files.finding import MAX_BYTES
from guidino_cli.preparation.types import DiscoveredDataset

_HINT = "save it again with LabelMe"
_CIRCLE_POINTS = 64
_FAR = 1e9
"""Pixels; no image is as wide."""
_NO_REGIONS = {"line", "linestrip", "point", "points"}


def detect_labelme(source: Path) -> DiscoveredDataset | None:
    """Read the JSON files of LabelMe and find their images; later shapes cover earlier ones.

    Raises:
        DataError: A damaged file.
    """
    return detect_tool(
        source, "labelme", "LabelMe", lambda path, contents: contents.images.append(_read_file(path, contents))
    )


def _read_file(path: Path, contents: LabelContents) -> NamedDrawing:
    content = read_json_object(path, hint=_HINT, max_bytes=MAX_BYTES)
    name, shapes = content.get("imagePath"), content.get("shapes")
    if not isinstance(name, str) or not isinstance(shapes, list):
        raise DataError(f"{path}: damaged (expected imagePath and a list of shapes); {_HINT}")
    width, height = content.get("imageWidth"), content.get("imageHeight")
    size_hw = (height, width) if isinstance(width, int) and isinstance(height, int) else None
    place = f"image {name!r}"
    is_embedded = bool(content.get("imageData"))
    regions = []
    for number, shape in enumerate(shapes, start=1):
        try:
            region = _read_shape(shape)
        except ValueError as error:
            problem = f"{error} (shape {number})"
            return NamedDrawing(name, Drawing(path, place, (), size_hw, problem), is_embedded=is_embedded)
        if region is None:
            contents.left_out[f"LabelMe {shape.get('shape_type')}"] += 1
        else:
            regions.append(region)
    return NamedDrawing(name, Drawing(path, place, tuple(regions), size_hw), is_embedded=is_embedded)


def _read_shape(shape: Any) -> Region | None:
    """The region of a shape; None for points and lines.

    Raises:
        ValueError: It has no label, or too few points.
    """
    if not isinstance(shape, dict):
        raise ValueError("has a shape that is no object")
    label, kind, points = shape.get("label"), shape.get("shape_type") or "polygon", shape.get("points")
    if not isinstance(kind, str):
        raise ValueError(f"has a shape of type {kind!r:.40}, expected a word such as polygon")
    if kind in _NO_REGIONS:
        return None
    if not isinstance(label, str) or not label.strip():
        raise ValueError("has a shape without a label")
    label = label.strip()
    if kind == "oriented_rectangle" and (not isinstance(points, list) or len(points) != 4):
        raise ValueError("has an oriented_rectangle that has not 4 points")
    if kind in {"polygon", "oriented_rectangle"}:
        return Region(label, ((make_ring_of_points(points),),))
    if kind not in {"rectangle", "circle", "mask"}:
        kinds = "polygon, rectangle, oriented_rectangle, circle or mask"
        raise ValueError(f"has a shape of type {kind!r:.40}, expected {kinds}")
    if not isinstance(points, list) or len(points) != 2:
        raise ValueError(f"has a {kind} that has not 2 points")
    # The third point only makes the check of the numbers fit.
    (x, y), (other_x, other_y), _ = make_ring_of_points([*points, [0, 0]]).tolist()
    if kind == "rectangle":
        return Region(label, ((np.array([(x, y), (other_x, y), (other_x, other_y), (x, other_y)]),),))
    if kind == "circle":
        radius = math.hypot(other_x - x, other_y - y)
        angles = np.linspace(0, 2 * np.pi, _CIRCLE_POINTS, endpoint=False)
        return Region(label, ((np.stack([x + radius * np.cos(angles), y + radius * np.sin(angles)], axis=1),),))
    if max(map(abs, (x, y, other_x, other_y))) > _FAR:
        raise ValueError("has a mask whose points lie too far outside")
    try:
        data = base64.b64decode(shape.get("mask") or "", validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise ValueError("has a mask that is not base64") from error
    size_hw = (int(other_y) - int(y) + 1, int(other_x) - int(x) + 1)
    return Region(label, bitmap=Bitmap(data, "png", size_hw, (int(y), int(x))))
