"""GeoJSON as QuPath writes it: one file per image, polygons with holes in pixels of the image."""

from pathlib import Path
from typing import Any

from guidino_cli.data.images import IMAGE_SUFFIXES
from guidino_cli.data.label_files.regions import Drawing, Region, Rings, make_ring_of_points
from guidino_cli.errors import DataError
from guidino_cli.json_files import read_json
from guidino_cli.preparation.label_files.contents import LabelContents, NamedDrawing, detect_tool
from guidino_cli.preparation.label_files.finding import MAX_BYTES
from guidino_cli.preparation.types import DiscoveredDataset

_HINT = "export the annotations again as GeoJSON"


def detect_geojson(source: Path) -> DiscoveredDataset | None:
    """Read GeoJSON files named as their images (`x.geojson` or `x.png.geojson`); later features cover earlier ones.

    Raises:
        DataError: A damaged file.
    """
    return detect_tool(
        source, "geojson", "GeoJSON", lambda path, contents: contents.images.append(_read_file(path, contents))
    )


def _read_file(path: Path, contents: LabelContents) -> NamedDrawing:
    content = read_json(path, hint=_HINT, max_bytes=MAX_BYTES)
    if isinstance(content, dict):
        content = content.get("features") if content.get("type") == "FeatureCollection" else [content]
    if not isinstance(content, list) or not all(isinstance(feature, dict) for feature in content):
        raise DataError(f"{path}: damaged (expected a FeatureCollection or a list of features); {_HINT}")
    # A stem such as slide.v2 is no suffix of an image.
    name = path.stem if Path(path.stem).suffix.lower() in IMAGE_SUFFIXES else f"{path.stem}."
    regions: list[Region] = []
    for number, feature in enumerate(content, start=1):
        try:
            region = _read_feature(feature, contents)
        except ValueError as error:
            return NamedDrawing(name, Drawing(path, f"feature {number}", (), problem=str(error)))
        if region is not None:
            regions.append(region)
    return NamedDrawing(name, Drawing(path, f"image {path.stem!r}", tuple(regions)))


def _read_feature(feature: dict[str, Any], contents: LabelContents) -> Region | None:
    geometry = feature.get("geometry")
    kind = str(geometry.get("type") if isinstance(geometry, dict) else None)
    if not isinstance(geometry, dict) or kind not in {"Polygon", "MultiPolygon"}:
        contents.left_out[f"GeoJSON {kind:.40}"] += 1
        return None
    parts = geometry.get("coordinates")
    parts = [parts] if kind == "Polygon" else parts
    if not isinstance(parts, list) or not all(isinstance(rings, list) and rings for rings in parts):
        raise ValueError(f"has a {kind} without coordinates")
    polygons: list[Rings] = [tuple(make_ring_of_points(ring) for ring in rings) for rings in parts]
    return Region(_read_class(feature), tuple(polygons))


def _read_class(feature: dict[str, Any]) -> str:
    """Name of QuPath's classification; derived classes are joined as QuPath shows them."""
    properties = feature.get("properties")
    found = properties.get("classification") if isinstance(properties, dict) else None
    if isinstance(found, dict):
        names = found.get("names")
        found = ": ".join(map(str, names)) if isinstance(names, list) and names else found.get("name")
    if not isinstance(found, str) or not found.strip():
        raise ValueError("has no classification; give every annotation a class in QuPath")
    return found.strip()
