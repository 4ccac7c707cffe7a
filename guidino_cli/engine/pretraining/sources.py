"""Which files a pretraining run learns from, so that a resume can tell whether they are still the same."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from guidino_cli.errors import DataError


@dataclass(frozen=True)
class Sources:
    """The images of a run.

    Attributes:
        folder: Where they are.
        images: How many.
        names_sha256: Of their paths within the folder, in order.
        sizes_sha256: Of their sizes in bytes.
    """

    folder: str
    images: int
    names_sha256: str
    sizes_sha256: str

    def facts(self) -> dict[str, Any]:
        """For `pretraining.json`."""
        return asdict(self)


def fingerprint_sources(folder: Path, paths: Sequence[Path]) -> Sources:
    """Names and sizes: cheap for millions of files.

    Raises:
        DataError: A file is gone.
    """
    names, sizes = hashlib.sha256(), hashlib.sha256()
    for path in paths:
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); remove it or put it back") from error
        names.update(Path(os.path.relpath(path, folder)).as_posix().encode() + b"\n")
        sizes.update(f"{size}\n".encode())
    return Sources(str(folder.resolve()), len(paths), names.hexdigest(), sizes.hexdigest())
