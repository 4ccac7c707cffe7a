"""List the images of a folder with as little as possible asked of the disk."""

import os
from collections.abc import Iterator
from pathlib import Path

from guidino_cli.data.images import IMAGE_SUFFIXES


def list_images(folder: Path, *, recursive: bool = False) -> Iterator[str]:
    """Paths of the images in a folder, relative to it with `/`, sorted within each folder; no file is opened.

    Hidden files and folders are left out, links to folders are not followed.

    Args:
        folder: Where to look.
        recursive: Also in the folders below.
    """
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        names, folders = _entries(folder / inside, recursive=recursive)
        yield from (inside + name for name in names)
        # The last one in is the first one out: the order is that of a tree printed from top to bottom.
        waiting.extend(f"{inside}{name}/" for name in reversed(folders))


def _entries(folder: Path, *, recursive: bool) -> tuple[list[str], list[str]]:
    names: list[str] = []
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and entry.is_file():
                names.append(entry.name)
            elif recursive and entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
    return sorted(names), sorted(folders)
