"""Read the header of a DICOM file, and say why the file cannot be part of a volume."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from guidino_cli.data.volumes.dicom.datasets import (
    DEFLATED,
    dicom_errors,
    import_dicom,
    is_directory_record,
    load_dataset_and_end,
    read_syntax,
    read_text,
    read_whole,
)
from guidino_cli.data.volumes.dicom.frames import Frame, read_frames

SEGMENTATION_CLASSES = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Segmentation Storage and Label Map Segmentation Storage."""


@dataclass(frozen=True)
class Header:
    """A DICOM file without its pixels.

    Attributes:
        path: The file.
        sop_class: SOPClassUID, "" if it was removed.
        series_uid: SeriesInstanceUID, "" likewise.
        study_uid: StudyInstanceUID, "" likewise.
        patient_id: PatientID, "" likewise; never printed or written.
        modality: Modality, such as "CT".
        description: SeriesDescription.
        rows: Height in pixels; 0 of objects that are no images.
        columns: Width in pixels.
        samples: Numbers per pixel.
        photometric: Photometric interpretation, such as "MONOCHROME2".
        bits_allocated: Bits that a number takes in the file.
        bits_stored: Lowest of them that are used.
        is_signed: Whether the numbers are signed.
        syntax: Transfer syntax UID.
        frames: Its slices.
        problem: Why it cannot be part of a volume, "" if it can.
    """

    path: Path
    sop_class: str
    series_uid: str
    study_uid: str
    patient_id: str
    modality: str
    description: str
    rows: int
    columns: int
    samples: int
    photometric: str
    bits_allocated: int
    bits_stored: int
    is_signed: bool
    syntax: str
    frames: tuple[Frame, ...]
    problem: str

    @property
    def is_image(self) -> bool:
        """Whether it has pixels of its own; reports, plans and presentation states have none."""
        return self.rows > 0 and self.columns > 0 and not self.is_segmentation

    @property
    def is_segmentation(self) -> bool:
        """Whether it is a DICOM SEG object."""
        return self.sop_class in SEGMENTATION_CLASSES or self.modality == "SEG"


def read_header(path: Path) -> Header | None:
    """Read a file without its pixels.

    Returns:
        The header; None for a DICOMDIR, which only lists other files.

    Raises:
        DataError: Missing, damaged, or no DICOM.
        DependencyError: pydicom is not installed.
    """
    dataset, end = load_dataset_and_end(path, pixels=False)
    with dicom_errors(path):
        # Before the pixels lie their tag and length, and the kind of the element where the syntax states it.
        return (
            None
            if is_directory_record(dataset)
            else _header_of(path, dataset, pixels_at=end + (8 if dataset.original_encoding[0] else 12))
        )


def _header_of(path: Path, dataset: Any, *, pixels_at: int) -> Header:
    frames, problem = read_frames(path, dataset)
    header = Header(
        path=path,
        sop_class=read_text(dataset, "SOPClassUID"),
        series_uid=read_text(dataset, "SeriesInstanceUID"),
        study_uid=read_text(dataset, "StudyInstanceUID"),
        patient_id=read_text(dataset, "PatientID"),
        modality=read_text(dataset, "Modality"),
        description=read_text(dataset, "SeriesDescription"),
        rows=read_whole(dataset, "Rows", 0),
        columns=read_whole(dataset, "Columns", 0),
        samples=read_whole(dataset, "SamplesPerPixel", 1),
        photometric=read_text(dataset, "PhotometricInterpretation"),
        bits_allocated=read_whole(dataset, "BitsAllocated", 0),
        bits_stored=read_whole(dataset, "BitsStored", 0),
        is_signed=read_whole(dataset, "PixelRepresentation", 0) == 1,
        syntax=read_syntax(dataset),
        frames=frames,
        problem=problem,
    )
    if not header.is_image:
        return header
    found = problem or _pixel_problem(header, dataset) or _size_problem(header, pixels_at)
    return replace(header, problem=found)


def _pixel_problem(header: Header, dataset: Any) -> str:
    """Why numbers of an image cannot be read as one intensity per pixel."""
    if header.samples != 1 or not header.photometric.startswith("MONOCHROME"):
        return f"its pixels are colours ({header.photometric or 'of unknown kind'}), expected grey values"
    if not 1 <= header.bits_stored <= header.bits_allocated or header.bits_allocated not in (8, 16, 32):
        return f"its pixels have {header.bits_stored} of {header.bits_allocated} bits, expected 8, 16 or 32"
    if read_whole(dataset, "HighBit", header.bits_stored - 1) != header.bits_stored - 1:
        return f"its highest bit is {dataset.HighBit} of {header.bits_stored}; convert it with a newer program"
    if "ModalityLUTSequence" in dataset:
        return "its intensities go by a look-up table (ModalityLUTSequence); convert them to a slope and an intercept"
    return ""


def _size_problem(header: Header, pixels_at: int) -> str:
    """Whether an uncompressed file has fewer pixels than its header claims."""
    uid = import_dicom("pydicom.uid").UID(header.syntax)
    if header.syntax == DEFLATED or (uid.is_transfer_syntax and uid.is_encapsulated):
        return ""
    claimed = header.rows * header.columns * len(header.frames) * header.bits_allocated // 8
    stored = max(0, header.path.stat().st_size - pixels_at)
    if claimed > stored:
        return f"it is truncated: its header claims {claimed:,} bytes of pixels, the file has {stored:,}"
    return ""
