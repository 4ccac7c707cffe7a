"""Find label files in a folder and tell by their content which tool wrote them."""

import re
from collections.abc import Iterator
from pathlib import Path

from guidino_cli.errors import DataError
from guidino_cli.preparation.generic_layouts import find_split_word

_MAX_DEPTH = 3
MAX_BYTES = 1_000_000_000
"""Larger than the annotations of COCO 2017, 450 MB."""
_KEYS: dict[str, tuple[tuple[bytes, ...], tuple[str, ...]]] = {
    "coco": ((b'"images"', b'"annotations"', b'"categories"'), (".json",)),
    "labelme": ((b'"shapes"', b'"imagePath"'), (".json",)),
    "labelstudio": ((b'"annotations"', b'"result"', b'"data"'), (".json",)),
    "geojson": ((b'"Feature', b'"geometry"'), (".geojson", ".json")),
    "cvat": ((b"<annotations", b"<image"), (".xml",)),
}
"""Keys that the files of a tool hold, and how their names end."""
_NO_FEATURES = re.compile(rb'"features"\s*:\s*\[\s*\]')
"""GeoJSON of an image where nothing was found."""


def find_label_files(source: Path, layout: str) -> list[Path]:
    """Label files of a layout in a folder and up to three folders below, sorted; or the source itself.

    Raises:
        DataError: A file is too large.
    """
    _, suffixes = _KEYS[layout]
    if source.is_file():
        return [source] if source.suffix.lower() in suffixes and _holds_keys(source, layout) else []
    return [path for path in _walk(source) if path.suffix.lower() in suffixes and _holds_keys(path, layout)]


def _holds_keys(path: Path, layout: str) -> bool:
    keys, _ = _KEYS[layout]
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError:
        return False
    if len(content) > MAX_BYTES:
        raise DataError(f"{path}: larger than {MAX_BYTES // 1_000_000} MB; divide it into several label files")
    # Also of XML in UTF-16, which CVAT does not write, so that it is refused with a reason.
    content = content.replace(b"\0", b"") if layout == "cvat" else content
    if layout == "geojson" and b'"FeatureCollection"' in content and _NO_FEATURES.search(content):
        return True
    return all(key in content for key in keys)


def _walk(folder: Path, depth: int = 0) -> Iterator[Path]:
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith((".", "__")))
    yield from (path for path in entries if path.is_file())
    if depth < _MAX_DEPTH:
        for inner in (path for path in entries if path.is_dir() and not path.is_symlink()):
            yield from _walk(inner, depth + 1)


def split_of_file(path: Path, root: Path) -> str:
    """Part of the split that the name of a label file or of its folder states; "" if none."""
    folders = path.parent.relative_to(root).parts if path.is_relative_to(root) else ()
    return next((word for name in (path.stem, *reversed(folders)) if (word := find_split_word(name))), "")
