"""Names of the segments of DICOM SEG files, whose numbers must mean the same in all files of an evaluation."""

from collections.abc import Sequence
from pathlib import Path

from guidino_cli.data.volumes.dicom.segments import is_segmentation_file, read_segment_names
from guidino_cli.errors import DataError


def require_same_segments(paths: Sequence[Path]) -> None:
    """Refuse files that call segments of one number by different names: every file numbers its segments anew.

    Args:
        paths: Masks of both sides; other formats have no names, and unreadable files are reported when they are scored.

    Raises:
        DataError: Two files disagree.
        DependencyError: pydicom is not installed.
    """
    known: dict[int, tuple[str, Path]] = {}
    for path in filter(is_segmentation_file, paths):
        try:
            names = read_segment_names(path)
        except DataError:
            continue
        for number, name in names.items():
            other, where = known.setdefault(number, (name, path))
            if name.casefold() != other.casefold():
                raise DataError(
                    f"{path}: segment {number} is {name}, in {where} it is {other}; give the segments the same "
                    "numbers, or score one of them (--segment NAME); if both are the same class, name the classes by "
                    "their numbers (--classes)"
                )
