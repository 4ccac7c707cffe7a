"""Files of labelled cases by their hashes: copies of them elsewhere, and their entry in `run.json`."""

from collections.abc import Sequence
from pathlib import Path

from guidino_cli.files import file_sha256
from guidino_cli.types import Case


def leave_out_copies(images: Sequence[Path], cases: Sequence[Case]) -> tuple[list[Path], int]:
    """Images whose files are not those of cases, and the number of the others."""
    known = {_image_sha256(case) for case in cases}
    sizes = {case.image.stat().st_size for case in cases}
    kept = [path for path in images if path.stat().st_size not in sizes or file_sha256(path) not in known]
    return kept, len(images) - len(kept)


def describe_labelled(cases: Sequence[Case]) -> list[dict[str, str]]:
    """Id and hashes of labelled cases, for `run.json`."""
    return [
        {
            "id": case.id,
            "image_sha256": _image_sha256(case) if case.volume is None else file_sha256(image),
            "mask_sha256": file_sha256(mask),
        }
        for case in cases
        for image, mask in [files_of(case)]
    ]


def files_of(case: Case) -> tuple[Path, Path]:
    """Files that a fit reads of a labelled case: image and mask, or the stored arrays of a volume."""
    if case.volume is None:
        return case.image, Path(str(case.mask))
    return case.volume.image, Path(str(case.volume.labels))


def _image_sha256(case: Case) -> str:
    return file_sha256(case.image) if case.image_record is None else case.image_record.sha256
