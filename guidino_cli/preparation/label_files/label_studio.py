"""Label Studio's JSON: polygons and brushes."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

from guidino_cli.data.label_files.regions import Bitmap, Drawing, Region, Rings, make_ring_of_points, require_shares
from guidino_cli.errors import DataError
from guidino_cli.json_files import read_json
from guidino_cli.preparation.label_files.contents import LabelContents, NamedDrawing, detect_tool
from guidino_cli.preparation.label_files.finding import MAX_BYTES
from guidino_cli.preparation.types import DiscoveredDataset

_HINT = "export the project again as JSON (not JSON-MIN)"
_WITHOUT_OUTLINE = {"rectanglelabels", "ellipselabels"}
"""Results that mark an object and that are not drawn."""
_IMAGE_WORDS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")


def detect_label_studio(source: Path) -> DiscoveredDataset | None:
    """Read the JSON exports of Label Studio and find their images; later results cover earlier ones.

    Raises:
        DataError: A damaged file, or a task without an image.
    """
    return detect_tool(source, "labelstudio", "Label Studio", _read_file)


def _read_file(path: Path, contents: LabelContents) -> None:
    tasks = read_json(path, hint=_HINT, max_bytes=MAX_BYTES)
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DataError(f"{path}: damaged (expected a list of tasks); {_HINT}")
    contents.images += [_read_task(path, number, task, contents) for number, task in enumerate(tasks, start=1)]


def _read_task(path: Path, number: int, task: dict[str, Any], contents: LabelContents) -> NamedDrawing:
    data = task.get("data")
    texts = [text for text in data.values() if isinstance(text, str)] if isinstance(data, dict) else []
    addresses = [unquote(text.split("?d=")[-1].split("?")[0]) for text in texts]
    names = [name for name in addresses if name.lower().endswith(_IMAGE_WORDS)]
    if len(names) != 1:
        raise DataError(f"{path}: task {number} names {len(names)} images in its data, expected 1; {_HINT}")
    place = f"image {names[0]!r}"
    annotations = task.get("annotations")
    if not isinstance(annotations, list) or not all(isinstance(item, dict) for item in annotations):
        raise DataError(f"{path}: task {number} has no list of annotations; {_HINT}")
    finished = [item for item in annotations if not item.get("was_cancelled")]
    chosen = [item for item in finished if item.get("ground_truth")] or finished
    if len(chosen) != 1:
        problem = f"has {len(chosen)} finished annotations, expected 1 (or 1 marked as ground truth)"
        return NamedDrawing(names[0], Drawing(path, place, (), problem=problem))
    regions: list[Region] = []
    without_outline: list[str] = []
    size_hw: tuple[int, int] | None = None
    try:
        results = chosen[0].get("result")
        for result in results if isinstance(results, list) else []:
            without_outline += _labels_without_outline(result)
            region, size_hw = _read_result(result, size_hw, contents)
            if region is not None:
                regions.append(region)
    except ValueError as error:
        return NamedDrawing(names[0], Drawing(path, place, (), size_hw, str(error)))
    drawing = Drawing(path, place, tuple(regions), size_hw, without_outline=tuple(without_outline))
    return NamedDrawing(names[0], drawing)


def _kind(result: Any) -> str:
    """The type of a result, such as "polygonlabels"; of a damaged one, that as text."""
    return str(result.get("type") if isinstance(result, dict) else None)


def _labels_without_outline(result: Any) -> list[str]:
    """Labels of a box or an ellipse."""
    kind = _kind(result)
    value = result.get("value") if kind in _WITHOUT_OUTLINE else None
    labels = value.get(kind) if isinstance(value, dict) else None
    return [label.strip() for label in labels if isinstance(label, str)] if isinstance(labels, list) else []


def _read_result(
    result: Any, size_hw: tuple[int, int] | None, contents: LabelContents
) -> tuple[Region | None, tuple[int, int] | None]:
    """The region of a result, None for other kinds, and the size of the image."""
    kind = _kind(result)
    if kind not in {"polygonlabels", "brushlabels"}:
        contents.left_out[f"Label Studio {kind:.40}"] += 1
        return None, size_hw
    value, height, width = result.get("value"), result.get("original_height"), result.get("original_width")
    if not isinstance(value, dict) or not isinstance(height, int) or not isinstance(width, int):
        raise ValueError("has a result without value, original_width and original_height")
    if size_hw not in {None, (height, width)}:
        raise ValueError("has results for images of several sizes")
    labels = value.get(kind)
    if not isinstance(labels, list) or len(labels) != 1 or not isinstance(labels[0], str) or not labels[0].strip():
        raise ValueError(f"has a result with {kind} {labels!r:.60}, expected one label")
    label = labels[0].strip()
    if kind == "polygonlabels":
        rings: Rings = (require_shares(make_ring_of_points(value.get("points")) / 100),)
        return Region(label, (rings,), is_relative=True), (height, width)
    numbers = value.get("rle")
    if not isinstance(numbers, list) or not all(isinstance(item, int) and 0 <= item < 256 for item in numbers):
        raise ValueError("has a brush whose rle is no list of bytes")
    return Region(label, bitmap=Bitmap(bytes(numbers), "brush", (height, width))), (height, width)
