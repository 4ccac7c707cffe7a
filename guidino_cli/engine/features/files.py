"""Hashes of the files of items, by which a file that changed after its features were written is noticed."""

from collections.abc import Sequence
from pathlib import Path

from guidino_cli.data.feature_folder import ABOUT_FILE, FeatureFolder
from guidino_cli.data.labelled.items import LabelledItem, LabelledSet
from guidino_cli.files import file_sha256, lines_sha256

_DIGITS = 16


class FileHashes:
    """SHA-256 of files, each read once; an archive or a volume may hold many items."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}
        self._touched: dict[Path, int] = {}

    def of(self, item: LabelledItem) -> str:
        """The first 16 digits for an item's file; "" where it cannot be read."""
        path = file_of(item)
        if path not in self._known:
            try:
                self._known[path] = file_sha256(path)[:_DIGITS]
            except OSError:
                self._known[path] = ""
        return self._known[path]

    def find_changed(
        self, items: Sequence[LabelledItem], hashes: Sequence[str], *, since: Path | None, root: Path
    ) -> list[Path]:
        """Files that are not what they were when their hashes were taken; those that are gone are not named.

        Args:
            items: Items of the data set.
            hashes: Hashes of each item's file, as `of` gives them.
            since: A file written after the hashes were taken: what nothing was done to since then, neither to the file
                nor to its folders up to `root`, is not read again. None reads all.
            root: Folder of the data set.
        """
        written_ns = 0 if since is None else since.stat().st_ctime_ns
        changed: dict[Path, None] = {}
        for item, before in zip(items, hashes, strict=True):
            path = file_of(item)
            try:
                if max(path.stat().st_ctime_ns, *map(self._touched_ns, _up_to(path, root))) < written_ns:
                    continue
            except OSError:
                continue
            if self.of(item) != before:
                changed[path] = None
        return list(changed)

    def _touched_ns(self, path: Path) -> int:
        """When something was last done to a file, a link or a folder itself; a folder's entries count as itself."""
        if path not in self._touched:
            self._touched[path] = path.lstat().st_ctime_ns
        return self._touched[path]


def items_sha256(data: LabelledSet) -> str:
    """Digest of which items a set has, in which parts and bags; not of their labels, which may be corrected."""
    return lines_sha256(f"{item.id}\t{item.split}\t{item.bag}\t{item.array}\t{item.index}" for item in data.items)


def find_changed_since(
    folder: FeatureFolder, data: LabelledSet, *, root: Path, is_elsewhere: bool = False
) -> list[Path]:
    """Files that have changed since a complete folder of features was written; see `FileHashes.find_changed`.

    Args:
        folder: The features.
        data: The set that they were made of, with the same items.
        root: Folder of the set.
        is_elsewhere: Whether the set was in another place then, so that all files are compared by hash.
    """
    hashes = [entry.sha256 for entry in folder.items]
    since = None if is_elsewhere else folder.path / ABOUT_FILE
    return FileHashes().find_changed(data.items, hashes, since=since, root=root)


def _up_to(path: Path, root: Path) -> list[Path]:
    """A file, and the folders that it lies in, up to a root that holds it; of another file its own folder."""
    whole, top = path.absolute(), root.absolute()
    if not whole.is_relative_to(top):
        return [whole, whole.parent]
    depth = len(whole.parts) - len(top.parts)
    return [whole, *whole.parents[:depth]]


def file_of(item: LabelledItem) -> Path:
    """The file from which an item's pictures are read."""
    return item.path if item.volume is None else item.volume.image
