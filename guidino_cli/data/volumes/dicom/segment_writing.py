"""Write labels as a DICOM SEG file that belongs to the series that was segmented."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from guidino_cli import __version__
from guidino_cli.data.volumes.dicom.datasets import import_dicom, load_dataset, quiet
from guidino_cli.data.volumes.dicom.series import Series
from guidino_cli.errors import DataError, file_errors
from guidino_cli.files import write_atomically
from guidino_cli.progress import log_warning

_CLASS_OF_MODALITY = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "PT": "1.2.840.10008.5.1.4.1.1.128",
}
"""SOPClassUID of the images of a modality."""
_REFERENCES = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")
_PATIENT_AND_STUDY = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyID", "StudyDate", "StudyTime", "AccessionNumber"),
)
"""What highdicom copies and expects to be there."""


def write_segmentation(path: Path, labels: np.ndarray, series: Series, class_names: Sequence[str]) -> None:
    """Write a binary DICOM SEG with one segment for each class but the background.

    Frames without any voxel of their segment are left out, as the standard allows. If no class occurs at all, every
    segment has all its frames, all empty: a SEG cannot be without frames. The file names the patient, as every DICOM
    file does. The same labels of the same series give the same file except for times and the UID of its dimensions.

    Args:
        path: Ends with .dcm.
        labels: (X, Y, Z) class indices in the axes of the series, as `read_values` gives them.
        series: Without a problem. Its files are put in the order of the labels' slices here.
        class_names: Of all classes; the first is the background.

    Raises:
        ValueError: The labels have another size than the series, or more classes than names.
        DataError: A file of the series is damaged, its kind of image was removed and is not known from its modality, or
            it lies in several multi-frame files.
        DependencyError: highdicom is not installed.
        ResourceError: The disk is full or the path cannot be written.
    """
    if labels.shape != series.size or int(labels.max(initial=0)) >= len(class_names):
        raise ValueError(f"labels {labels.shape} up to {labels.max()} for {series.size} and {len(class_names)} classes")
    highdicom = import_dicom("highdicom")
    import_dicom("highdicom.seg")
    kind = np.uint8 if len(class_names) <= 256 else np.uint16
    planes = np.ascontiguousarray(labels.transpose(2, 1, 0), dtype=kind)
    sources = _load_sources(series)
    planes = _in_order_of_frames(planes, series, sources)
    # The standard allows 64 characters, and a backslash would separate values.
    names = [name.replace("\\", "/")[:64] for name in class_names[1:]]
    digest = hashlib.sha256(planes.tobytes()).hexdigest()
    with file_errors(series.folder, "no segmentation can refer to its files", hint="write .nii.gz instead"), quiet():
        segmentation = highdicom.seg.Segmentation(
            source_images=sources,
            pixel_array=planes,
            segmentation_type="BINARY",
            segment_descriptions=[_describe(highdicom, number, name) for number, name in enumerate(names, start=1)],
            series_instance_uid=_uid("series", digest, series.uid, *names),
            series_number=1,
            sop_instance_uid=_uid("instance", digest, series.uid, *names),
            instance_number=1,
            manufacturer="guidino",
            manufacturer_model_name="guidino",
            software_versions=__version__,
            device_serial_number="1",
            content_label="SEGMENTATION",
            series_description="guidino segmentation",
            # Without the distance of slices, the place of those that are left out would be unknown.
            pixel_measures=_pixel_measures(highdicom, series),
            omit_empty_frames=bool(planes.any()),
        )
    write_atomically(path, segmentation.save_as)


def _load_sources(series: Series) -> list[Any]:
    """Headers of the series' files in the order of its slices, with what anonymisation removed put in their place."""
    sources = [load_dataset(file, pixels=False) for file in series.files]
    if len(sources) > 1 and any(len(header.frames) > 1 for header in series.headers):
        raise DataError(
            f"{series.folder}: series {series.key} lies in {len(sources)} multi-frame files, to which one segmentation "
            "cannot refer; write .nii.gz instead"
        )
    for number, source in enumerate(sources):
        if not source.get("SOPClassUID"):
            if series.modality not in _CLASS_OF_MODALITY:
                raise DataError(
                    f"{series.files[number]}: has no SOPClassUID, which is not known for modality "
                    f"{series.modality or '(none)'}; write .nii.gz instead"
                )
            source.SOPClassUID = _CLASS_OF_MODALITY[series.modality]
        _share_orientation(source, series)
    missing = [name for number, source in enumerate(sources) for name in _fill_references(source, series, number)]
    if missing:
        log_warning(
            f"{series.folder}: its files have no {', '.join(sorted(set(missing)))}; the segmentation gets others, so a "
            "viewer places it by its positions and cannot link it to the images"
        )
    return sources


def _share_orientation(source: Any, series: Series) -> None:
    """Give every slice the orientation of the first one: highdicom takes none that differs by rounding."""
    orientation = list(series.frames[0].orientation or ())
    groups = source.get("SharedFunctionalGroupsSequence")
    if not groups:
        source.ImageOrientationPatient = orientation
        return
    item = import_dicom("pydicom").Dataset()
    item.ImageOrientationPatient = orientation
    groups[0].PlaneOrientationSequence = [item]


def _fill_references(source: Any, series: Series, number: int) -> list[str]:
    """Give UIDs that were removed a value of their own, for a segmentation must refer to something; their names."""
    missing = [name for name in _REFERENCES if not source.get(name)]
    for name in missing:
        setattr(source, name, _uid(name, series.key, str(number) if name == "SOPInstanceUID" else ""))
    for name in _PATIENT_AND_STUDY:
        if name not in source:
            setattr(source, name, "")
    return missing


def _in_order_of_frames(planes: np.ndarray, series: Series, sources: list[Any]) -> np.ndarray:
    """Slices in the order of the frames of a multi-frame file, which need not be that of their positions."""
    count = int(sources[0].get("NumberOfFrames") or 1)
    if len(sources) > 1 or count == 1:
        return planes
    ordered = np.zeros((count, *planes.shape[1:]), dtype=planes.dtype)
    ordered[[frame.index for frame in series.frames]] = planes
    return ordered


def _describe(highdicom: Any, number: int, name: str) -> Any:
    """A segment whose code says "tissue", because the names of classes are free."""
    codes = import_dicom("pydicom.sr.codedict").codes
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="guidino", family=codes.DCM.ArtificialIntelligence, version=__version__
    )
    return highdicom.seg.SegmentDescription(
        segment_number=number,
        segment_label=name,
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=codes.SCT.Tissue,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
    )


def _pixel_measures(highdicom: Any, series: Series) -> Any:
    if series.spacing_mm is None:
        raise ValueError(f"series {series.key} has no spacing")
    # Decimal texts of DICOM have at most 16 characters.
    along_row, along_column, across = (float(f"{length:.9g}") for length in series.spacing_mm)
    return highdicom.PixelMeasuresSequence(
        pixel_spacing=(along_column, along_row), slice_thickness=across, spacing_between_slices=across
    )


def _uid(*parts: str) -> Any:
    """A UID that depends on nothing but its parts."""
    return import_dicom("pydicom.uid").generate_uid(entropy_srcs=list(parts))
