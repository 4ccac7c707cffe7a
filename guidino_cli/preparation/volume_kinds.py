"""Tell images, label maps and other files of a folder of volumes apart, and HU from other values."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from guidino_cli.data.volumes.nifti import NiftiRegions, is_volume
from guidino_cli.progress import join_first, pluralize

MAX_LABELS = 32
"""Whole numbers with so few values are labels; no scanner stores an image with so few."""
MAX_DISTINCT = 1024
"""Volumes with more values are images."""
MIN_EQUAL_NEIGHBOURS = 0.5
"""Share of equal neighbours from which whole numbers are labels; it is below 0.2 in images, above 0.7 in label maps."""
HU_BELOW = -50.0
"""Fat is near -100 HU and air at -1000, so a part of a CT in HU is below this value."""
MIN_HU_SHARE = 0.01
"""Smallest such part, as a share of the voxels; filtered MR has single negative voxels."""


@dataclass(frozen=True)
class VolumeContent:
    """Values of a volume.

    Attributes:
        low: Smallest value.
        high: Largest value.
        is_hu: Whether the values can be Hounsfield units, of a body with fat or air.
        label_count: Number of values if the volume is a label map; None for an image.
        nan_count: Number of voxels that are NaN.
    """

    low: float
    high: float
    is_hu: bool = False
    label_count: int | None = None
    nan_count: int = 0


def inspect_volume(volume: NiftiRegions) -> VolumeContent:
    """Range of a volume's finite values, and whether it is a label map: whole numbers, few or in uniform areas."""
    stored = volume.stored
    finite = stored if stored.dtype.kind != "f" else stored[np.isfinite(stored)]
    if finite.size == 0:
        return VolumeContent(0.0, 0.0)
    # A negative slope exchanges the ends.
    low, high = sorted(float(end) * volume.slope + volume.intercept for end in (finite.min(), finite.max()))
    # One voxel in 27 is enough for a share, and needs no copy of the volume.
    sample = volume.read_region(*[slice(None, None, 3)] * 3)
    is_hu = looks_like_hu(sample)
    values = _few_values(volume)
    is_map = values is not None and (len(values) <= MAX_LABELS or _equal_neighbours(stored) >= MIN_EQUAL_NEIGHBOURS)
    nan_count = int(np.isnan(stored).sum()) if stored.dtype.kind == "f" else 0
    return VolumeContent(low, high, is_hu, len(values) if is_map and values is not None else None, nan_count)


def looks_like_hu(sample: np.ndarray) -> bool:
    """Whether values can be Hounsfield units of a body with fat or air."""
    return bool(np.mean(sample < HU_BELOW) >= MIN_HU_SHARE)


def _few_values(volume: NiftiRegions) -> np.ndarray | None:
    """The distinct values; None if there are more than `MAX_DISTINCT`, or if one is not a whole number."""
    found = np.empty(0)
    depth = volume.stored.shape[-1]
    # The middle first: in an image it has too many values, and the rest need not be looked at.
    for number in sorted(range(depth), key=lambda number: abs(number - depth // 2)):
        found = np.union1d(found, np.unique(volume.stored[..., number]))
        scaled = found * volume.slope + volume.intercept
        if len(found) > MAX_DISTINCT or not np.allclose(scaled, np.round(scaled), rtol=0, atol=1e-3):
            return None
    return found


def _equal_neighbours(stored: np.ndarray) -> float:
    """Share of equal pairs of neighbours along the first axis, in [0, 1]; pairs of the commonest value do not count."""
    values, counts = np.unique(stored, return_counts=True)
    background = values[counts.argmax()]
    first, second = stored[1:], stored[:-1]
    counted = (first != background) | (second != background)
    equal, total = int(np.count_nonzero((first == second) & counted)), int(np.count_nonzero(counted))
    return equal / max(total, 1)


_KINDS = {
    ".dcm": "DICOM",
    ".ima": "DICOM",
    ".dicom": "DICOM",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
    ".mgz": "MGZ",
    ".mgh": "MGZ",
    ".hdr": "Analyze",
    ".mnc": "MINC",
}


def describe_other_volumes(folder: Path) -> str:
    """Name the volumes of other formats in a folder and below, by kind, with what to do; "" if there are none."""
    names: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith(".") and not is_volume(path) and (kind := other_kind(path)):
            names.setdefault(kind, []).append(path.relative_to(folder).as_posix())
    counts = Counter({kind: len(found) for kind, found in names.items()})
    kinds = ", ".join(
        f"{pluralize(count, f'{kind} file')} ({join_first(names[kind], limit=2)})"
        for kind, count in counts.most_common()
    )
    tool = ", DICOM with dcm2niix" if "DICOM" in names else ""
    return f"{kinds}: convert them to NIfTI first{tool}" if kinds else ""


def other_kind(path: Path) -> str | None:
    """Format of a volume that is not NIfTI, by its suffix or, for DICOM, by its first bytes; None for other files."""
    if kind := _KINDS.get(path.suffix.lower()):
        return kind
    # Scanners write DICOM files without a suffix, or with a number as one (`IM_0001`, `1.2.840.10008`).
    if path.suffix and not path.suffix[1:].isdigit():
        return None
    try:
        with path.open("rb") as file:
            return "DICOM" if file.read(132)[128:] == b"DICM" else None
    except OSError:
        return None
