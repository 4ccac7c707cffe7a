"""CVAT XML for images, version 1.1: polygons and masks."""

from pathlib import Path
from xml.etree import ElementTree

from guidino_cli.data.label_files.regions import Bitmap, Drawing, Region, make_ring
from guidino_cli.errors import DataError, file_errors
from guidino_cli.preparation.label_files.contents import LabelContents, NamedDrawing, detect_tool
from guidino_cli.preparation.label_files.finding import MAX_BYTES
from guidino_cli.preparation.types import DiscoveredDataset

_WITHOUT_OUTLINE = {"box", "ellipse", "cuboid"}
"""Shapes that mark an object and that are not drawn; points and lines need not stand for an object."""
_HINT = "export the task again as `CVAT for images`"


def detect_cvat(source: Path) -> DiscoveredDataset | None:
    """Read the XML files of CVAT and find their images; a higher z_order covers a lower one, then the order counts.

    Raises:
        DataError: A damaged file, or one with a DOCTYPE.
    """
    return detect_tool(source, "cvat", "CVAT", _read_file)


def _read_file(path: Path, contents: LabelContents) -> None:
    root = _parse(path)
    for label in root.iterfind("./meta//labels/label"):
        name = (label.findtext("name") or "").strip()
        if not name:
            raise DataError(f"{path}: a label without a name; {_HINT}")
        if name not in contents.categories:
            contents.categories.append(name)
    for image in root.iterfind("./image"):
        file_name = image.get("name")
        if not file_name:
            raise DataError(f"{path}: an image without a name; {_HINT}")
        contents.images.append(NamedDrawing(file_name, _read_image(path, file_name, image, contents)))


def _parse(path: Path) -> ElementTree.Element:
    with file_errors(path, "damaged", hint=_HINT):
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        # Entities may stand for other files or for gigabytes; no label file needs them. Encodings that the parser
        # knows differ from ASCII by zero bytes only.
        ascii_bytes = content.replace(b"\0", b"")
        if b"<!DOCTYPE" in ascii_bytes or b"<!ENTITY" in ascii_bytes:
            raise ValueError("it has a DOCTYPE or entities, which CVAT does not write")
        try:
            root = ElementTree.fromstring(content)
        except ElementTree.ParseError as error:
            raise ValueError(f"no XML: {error}") from error
    if root.tag != "annotations":
        raise DataError(f"{path}: holds <{root.tag:.40}>, expected <annotations>; {_HINT}")
    return root


def _read_image(path: Path, name: str, image: ElementTree.Element, contents: LabelContents) -> Drawing:
    place = f"image {name!r}"
    size_hw: tuple[int, int] | None = None
    try:
        if image.get("width") and image.get("height"):
            size_hw = (_whole(image, "height"), _whole(image, "width"))
        found, without_outline = [], []
        for shape in image:
            if shape.tag in {"tag", "attribute"}:
                continue
            if shape.tag not in {"polygon", "mask"}:
                contents.left_out[f"CVAT {shape.tag:.40}"] += 1
                if shape.tag in _WITHOUT_OUTLINE:
                    without_outline.append((shape.get("label") or "").strip())
                continue
            depth = _whole(shape, "z_order") if shape.get("z_order") else 0
            found.append((depth, _read_shape(shape)))
    except ValueError as error:
        return Drawing(path, place, (), size_hw, str(error))
    regions = [region for _, region in sorted(found, key=lambda item: item[0])]
    return Drawing(path, place, tuple(regions), size_hw, without_outline=tuple(without_outline))


def _read_shape(shape: ElementTree.Element) -> Region:
    label = (shape.get("label") or "").strip()
    if not label:
        raise ValueError(f"has a {shape.tag} without a label")
    if shape.tag == "polygon":
        points = [point.split(",") for point in (shape.get("points") or "").split(";") if point.strip()]
        try:
            numbers = [float(number) for point in points for number in point]
        except ValueError as error:
            raise ValueError("has a polygon with coordinates that are no numbers") from error
        return Region(label, ((make_ring(numbers),),))
    corner = (_whole(shape, "top"), _whole(shape, "left"))
    size_hw = (_whole(shape, "height"), _whole(shape, "width"))
    if min(size_hw) < 1:
        raise ValueError(f"has a mask of {size_hw[1]}x{size_hw[0]} pixels")
    try:
        counts = [int(count) for count in (shape.get("rle") or "").split(",")]
    except ValueError as error:
        raise ValueError("has a mask whose rle is no list of whole numbers") from error
    return Region(label, bitmap=Bitmap(counts, "rows", size_hw, corner))


def _whole(element: ElementTree.Element, name: str) -> int:
    text = element.get(name) or ""
    try:
        return int(float(text))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"has {name} {text!r:.40} in <{element.tag:.40}>, expected a whole number") from error
