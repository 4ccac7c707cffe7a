"""Table of the layouts of volumes, and detection of the one that a folder has."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from guidino_cli.data.volumes.reading import is_volume_file
from guidino_cli.errors import DataError
from guidino_cli.preparation.options import VolumeConfig
from guidino_cli.preparation.types import DiscoveredDataset
from guidino_cli.preparation.volumes.bids import detect_bids
from guidino_cli.preparation.volumes.dicom_series import detect_dicom
from guidino_cli.preparation.volumes.nnunet import detect_decathlon, detect_nnunet_volumes
from guidino_cli.preparation.volumes.pairs import detect_volume_pairs, find_volume_folders

VolumeDetector = Callable[[Path, VolumeConfig], DiscoveredDataset | None]

# Layouts of one rank exclude each other; a lower rank is tried only if none above it fits.
_RANKS: tuple[Mapping[str, VolumeDetector], ...] = (
    {"nnunet": detect_nnunet_volumes, "msd": detect_decathlon},
    {"bids": detect_bids},
    {"nifti": detect_volume_pairs},
)
VOLUME_LAYOUTS = {
    "nnunet": "dataset.json, imagesTr/, labelsTr/",
    "msd": "dataset.json that lists image and label under training",
    "bids": "dataset_description.json, sub-*/[ses-*/]anat (or ct, pet), masks in derivatives/*/sub-*/",
    "nifti": "folders such as images/ and masks/ with volumes, or one folder with `x.nii.gz` and `x_seg.nii.gz`",
    "dicom": "folders of DICOM series, with DICOM SEG files or NIfTI masks",
}


def has_volumes(source: Path) -> bool:
    """Whether a folder holds a volume at any depth."""
    return source.is_dir() and (any(map(is_volume_file, source.iterdir())) or bool(find_volume_folders(source)))


def detect_dicom_layout(source: Path, layout: str, config: VolumeConfig) -> DiscoveredDataset | None:
    """Detect DICOM series; asked for last, because DICOM files are known by their content only.

    Raises:
        DataError: No series can be used, or several could be meant.
        DependencyError: pydicom is not installed.
    """
    return detect_dicom(source, config) if layout in {"auto", "dicom"} else None


def detect_volume_layout(source: Path, layout: str, config: VolumeConfig) -> DiscoveredDataset | None:
    """Detect the layout of a folder of volumes; None if it has none, or none of volumes.

    Args:
        source: Folder.
        layout: "auto", or the name of one.
        config: Options for volumes.

    Raises:
        DataError: Several fit, or the files contradict each other.
    """
    if not has_volumes(source):
        return None
    for rank in _RANKS:
        fits = {
            name: dataset
            for name, detector in rank.items()
            if layout in {"auto", name} and (dataset := detector(source, config)) is not None
        }
        if len(fits) > 1:
            evidence = "; ".join(f"{name}: {dataset.evidence}" for name, dataset in fits.items())
            raise DataError(f"{source}: fits several layouts ({evidence}); choose with --layout")
        if fits:
            return _group_by_patient(fits.popitem()[1])
    return None


def _group_by_patient(dataset: DiscoveredDataset) -> DiscoveredDataset:
    """Name the patient as the group of cases such as `patient001_frame01`, where the layout names no group."""
    pairs = [
        replace(pair, group=found.group())
        if pair.group is None and (found := re.search(r"patient[-_]?\d+", pair.id, re.IGNORECASE))
        else pair
        for pair in dataset.pairs
    ]
    return replace(dataset, pairs=pairs)
