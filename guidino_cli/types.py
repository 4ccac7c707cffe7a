"""Types shared by all packages: cases, geometry, samples and predictions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from torch import Tensor

LARGEST_SEED = 2**32 - 1
"""Largest random seed that NumPy's global generator takes."""


@dataclass(frozen=True)
class FileRecord:
    """State of a file when the data set was prepared.

    Attributes:
        size: Bytes.
        sha256: Hash of its content.
        mtime_ns: Time of its last change in nanoseconds; None for a file that `guidino prepare` wrote itself, whose
            time would differ whenever the same data is prepared.
    """

    size: int
    sha256: str
    mtime_ns: int | None = None


@dataclass(frozen=True)
class VolumeSource:
    """Source of the channels of a volume.

    Attributes:
        path: A NIfTI, NRRD or MetaImage file, or the folder of a DICOM series.
        series: Key of one DICOM series of that folder; None for files.
    """

    path: Path
    series: str | None = None

    @property
    def name(self) -> str:
        """Name for messages: of the file, or of the series of a folder that may hold several."""
        return self.path.name if self.series is None else f"series {self.series}"


@dataclass(frozen=True)
class ChannelStatistics:
    """Intensities of one channel, in the numbers of its files: of a volume, or of the foreground of a training set.

    Attributes:
        minimum: Smallest value.
        maximum: Largest value.
        mean: Mean.
        std: Standard deviation over the population.
        median: Median.
        percentile_00_5: 0.5th percentile.
        percentile_99_5: 99.5th percentile.
    """

    minimum: float
    maximum: float
    mean: float
    std: float
    median: float
    percentile_00_5: float
    percentile_99_5: float


@dataclass(frozen=True)
class StoredVolume:
    """The arrays that `guidino prepare` made of a volume.

    Their axes are Z, Y, X: from the feet up, from front to back, from the patient's right to the left.

    Attributes:
        sources: Files of the channels, in their order; one 4-D file gives several channels.
        image: (C, Z, Y, X), integers where the source has whole numbers that fit, else float32.
        labels: (Z, Y, X) class indices, uint8 or, above 255 classes, uint16; None without a mask.
        foreground: (N, 4) int32 rows of class, z, y, x: voxels of each foreground class, for sampling; None without a
            mask.
        shape: Z, Y, X.
        spacing_mm: Size of a voxel along Z, Y, X.
        statistics: Statistics of all voxels of each channel.
        orientation: Directions of the axes of the source, such as "PSR".
        is_picture: Whether it is a picture, stored with all its channels and bits: one slice, in pixels.
    """

    sources: tuple[VolumeSource, ...]
    image: Path
    labels: Path | None
    foreground: Path | None
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    statistics: tuple[ChannelStatistics, ...]
    orientation: str
    is_picture: bool = False


@dataclass(frozen=True)
class Case:
    """One image and, where it is labelled, its mask.

    Attributes:
        id: Unique within a data set; also the stem of everything written for the case.
        image: Image file; of a volume, the source of its first channel.
        mask: Class indices written by `guidino prepare`, a PNG or, in the grid of a volume's source, a NIfTI file; None
            for an unlabelled image.
        split: "train", "val" or "test".
        fold: Cross-validation fold of a training case, or None without folds.
        group: Name of the cases that a split keeps together (a patient, a video); the case's own id by default.
        size_hw: Height and width in pixels, after EXIF rotation; of a volume, those of its axial slices.
        foreground: Share of pixels whose class is not 0, in [0, 1]; None without a mask.
        fields: Further columns of the source table (scanner, site, kind of lesion), for groups and strata of a report.
        image_record: The image file as it was; None in folders that older versions prepared.
        mask_record: The mask file likewise; None without a mask, too.
        ignore_label: Value in the mask of pixels that do not count; None if all count.
        volume: The stored arrays of a volume; None for an image.
    """

    id: str
    image: Path
    mask: Path | None
    split: str
    fold: int | None
    group: str
    size_hw: tuple[int, int]
    foreground: float | None
    fields: dict[str, str] = field(default_factory=dict)
    image_record: FileRecord | None = None
    mask_record: FileRecord | None = None
    ignore_label: int | None = None
    volume: StoredVolume | None = None


@dataclass(frozen=True, eq=False)
class Geometry:
    """The grid of an image or a volume, in which results are written.

    Attributes:
        source: Path of the file, for messages.
        shape: Pixels or voxels along each array axis, without channels: (H, W) after EXIF rotation, or (X, Y, Z).
        spacing: Size of a pixel or voxel along each axis, in `unit`.
        unit: "px" where the file states no physical size, and spacing is 1.
        affine: (4, 4) from voxel index to scanner millimetres (RAS+); None for images, and for volumes whose header
            states no orientation.
    """

    source: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    unit: Literal["px", "mm"]
    affine: np.ndarray | None = None

    @classmethod
    def of_pixels(cls, source: str, shape: tuple[int, ...]) -> Geometry:
        """The grid of an image that states no physical size."""
        return cls(source, shape, (1.0,) * len(shape), "px")

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width of a two-dimensional grid; `ValueError` for a volume."""
        height, width = self.shape
        return height, width

    @property
    def spacing_mm(self) -> tuple[float, ...] | None:
        """Spacing in millimetres, or None if the file states no physical size."""
        return self.spacing if self.unit == "mm" else None


def width_by_height(shape: Sequence[float]) -> str:
    """Format a shape (H, W, ...) as width times height: `565x584`."""
    return f"{_without_zeros(shape[1])}x{_without_zeros(shape[0])}"


def _without_zeros(side: float) -> str:
    return str(int(side)) if side == int(side) else str(side)


class Sample(NamedTuple):
    """One training example, or a batch of them once collated.

    Attributes:
        image: (C, H, W), or (C, D, H, W) of a patch of a volume, float32 in [0, 1].
        mask: (H, W) or (D, H, W) int64 class indices.
        case_index: Position of the case in its list.
        noise: Standard normal numbers of the image's shape if the augmentation adds noise, else none; of a batch, those
            of its samples with noise, in their order.
    """

    image: Tensor
    mask: Tensor
    case_index: Tensor
    noise: Sequence[Tensor] = ()


class VolumeSample(NamedTuple):
    """One training example of a volume, or a batch of them once collated.

    Attributes:
        image: (C, H, W) of a slice or a slab, (C, D, H, W) of a patch; float32, in [0, 1] unless the intensities are
            z-scores.
        mask: (H, W) or (D, H, W) int64 class indices.
        case_index: Position of the case in its list.
        position: Position of the sample in its epoch; two samples of one case differ in it.
        corner: Slice, row and column of the first voxel in the network's order of axes; rows and columns are those of
            the resized slice.
        noise: See `Sample`.
    """

    image: Tensor
    mask: Tensor
    case_index: Tensor
    position: Tensor
    corner: Tensor
    noise: Sequence[Tensor] = ()


class Prediction(NamedTuple):
    """Model output for one batch.

    Attributes:
        logits: Class scores, finest first; `logits[0]` is (B, K, H, W) or (B, K, D, H, W) at image size.
        guide: Guide map in [0, 1], (B, G, h, w) or (B, G, D, h, w), whose grid covers the image exactly; None without a
            guide.
    """

    logits: list[Tensor]
    guide: Tensor | None = None


class UnlabelledSample(NamedTuple):
    """One unlabelled image, or a batch of them once collated.

    Attributes:
        pixels: (C, S, S) uint8, the whole image resized to a square, so that images of all shapes fit one batch.
        aspect: Width over height of the source, from which crops recover the true aspect ratio.
        image_index: Position of the image in its list.
        epoch: Pass over the list; with `image_index` it identifies a sample.
    """

    pixels: Tensor
    aspect: Tensor
    image_index: Tensor
    epoch: Tensor
