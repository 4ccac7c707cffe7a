"""Hashes of the files of items, by which a file that changed after its features were written is noticed."""

from collections.abc import Sequence
from pathlib import Path

from guidino_cli.data.labelled.items import LabelledItem
from guidino_cli.files import file_sha256

_DIGITS = 16


class FileHashes:
    """SHA-256 of files, each read once; an archive or a volume may hold many items."""

    def __init__(self) -> None:
        self._known: dict[Path, str] = {}

    def of(self, item: LabelledItem) -> str:
        """The first 16 digits for an item's file; "" where it cannot be read."""
        path = file_of(item)
        if path not in self._known:
            try:
                self._known[path] = file_sha256(path)[:_DIGITS]
            except OSError:
                self._known[path] = ""
        return self._known[path]

    def find_changed(self, items: Sequence[LabelledItem], hashes: Sequence[str], *, since: Path) -> list[Path]:
        """Files that are not what they were when `since` was written; those that are gone are not named.

        A file to which nothing was done since then is not read again.
        """
        written_ns = since.stat().st_ctime_ns
        changed: dict[Path, None] = {}
        for item, before in zip(items, hashes, strict=True):
            path = file_of(item)
            try:
                if path.stat().st_ctime_ns < written_ns:
                    continue
            except OSError:
                continue
            if self.of(item) != before:
                changed[path] = None
        return list(changed)


def file_of(item: LabelledItem) -> Path:
    """The file from which an item's pictures are read."""
    return item.path if item.volume is None else item.volume.image
