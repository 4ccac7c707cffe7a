"""Read the slices of a DICOM series into one volume, in the numbers that the scanner means."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from guidino_cli.data.limits import require_pixels
from guidino_cli.data.volumes.dicom.datasets import dicom_errors, import_dicom, load_dataset, read_whole
from guidino_cli.data.volumes.dicom.frames import Frame
from guidino_cli.data.volumes.dicom.headers import Header
from guidino_cli.data.volumes.dicom.series import Series, choose_series
from guidino_cli.data.volumes.dicom.suv import suv_factor
from guidino_cli.data.volumes.grid import SourceVolume
from guidino_cli.errors import DataError
from guidino_cli.types import Geometry

# Their numbers are HU or Bq/ml however they are displayed.
_PHYSICAL_MODALITIES = ("CT", "PT")


def read_series(
    folder: Path, key: str | None = None, *, allow_single: bool = False, as_suv: bool | None = False
) -> SourceVolume:
    """Read a series of a folder.

    Args:
        folder: Where its files lie, or a folder above.
        key: Key of the series, see `Series.key`; None for the only one.
        allow_single: Whether one slice is a volume.
        as_suv: Whether PET becomes body-weight SUV; None for PET alone, other series stay as they are.

    Returns:
        (X, Y, Z): X along a row, Y along a column, Z across the slices; see `read_values`.

    Raises:
        DataError: There is no such series, several and no key, it is no regular grid, a file is damaged, or SUV cannot
            be computed.
        DependencyError: pydicom is not installed.
    """
    series = choose_series(folder, key, allow_single=allow_single)
    values = read_values(series)
    if series.modality == "PT" if as_suv is None else as_suv:
        values = (values * suv_factor(series)).astype(np.float32)
    geometry = Geometry(str(series.folder), series.size, _spacing(series), "mm", series.affine_ras)
    return SourceVolume(values, geometry)


def read_values(series: Series) -> np.ndarray:
    """Decode all slices, each with its own slope and intercept.

    Images of kind MONOCHROME1, in which low numbers are white, are inverted, but not CT and PET, whose numbers have a
    meaning of their own.

    Returns:
        (X, Y, Z); int16, uint16 or int32 where all slopes and intercepts are whole numbers, else float32.

    Raises:
        DataError: A file is damaged, or has more pixels than its header said.
        DependencyError: pydicom is not installed.
    """
    width, height, depth = series.size
    require_pixels(series.folder, series.size, is_volume=True)
    first = series.headers[0]
    stored = np.empty((depth, height, width), dtype=_stored_type(first))
    places = {(frame.path, frame.index): place for place, frame in enumerate(series.frames)}
    for header in series.headers:
        wanted = [frame for frame in series.frames if frame.path == header.path]
        for frame, pixels in _decode(header, wanted):
            stored[places[(frame.path, frame.index)]] = pixels
    if first.photometric == "MONOCHROME1" and series.modality not in _PHYSICAL_MODALITIES:
        for place, header in enumerate(_header_of_each(series)):
            top = -1 if header.is_signed else (1 << header.bits_stored) - 1
            stored[place] = top - stored[place]
    return _rescale(stored, series.frames).transpose(2, 1, 0)


def _header_of_each(series: Series) -> list[Header]:
    by_path = {header.path: header for header in series.headers}
    return [by_path[frame.path] for frame in series.frames]


def _stored_type(header: Header) -> np.dtype:
    return np.dtype(f"{'i' if header.is_signed else 'u'}{header.bits_allocated // 8}")


def _decode(header: Header, frames: list[Frame]) -> Iterator[tuple[Frame, np.ndarray]]:
    """Stored numbers (rows, columns) of frames of one file."""
    path = header.path
    dataset = load_dataset(path, pixels=True)
    indices = [frame.index for frame in frames]
    with dicom_errors(path):
        for frame, pixels in zip(frames, iterate_pixels(path, dataset, indices), strict=True):
            if pixels.shape != (header.rows, header.columns):
                found = " x ".join(map(str, pixels.shape))
                raise DataError(f"{path}: decodes to {found}, its header says {header.rows} x {header.columns}")
            yield frame, _used_bits(pixels, header)


def iterate_pixels(path: Path, dataset: Any, indices: list[int]) -> Iterator[np.ndarray]:
    """Frames of a file as stored, one after the other.

    Raises:
        DataError: Its pixels are damaged, missing, or compressed in a way that cannot be decoded here.
    """
    if not {"PixelData", "FloatPixelData", "DoubleFloatPixelData"} & set(dataset.dir("Pixel")):
        raise DataError(f"{path}: has no pixels; it is truncated, replace it")
    if "PixelData" not in dataset:
        raise DataError(f"{path}: its pixels are fractions (FloatPixelData), expected whole numbers; convert it")
    if not dataset.file_meta.get("TransferSyntaxUID"):
        implicit = import_dicom("pydicom.uid").ImplicitVRLittleEndian
        explicit = import_dicom("pydicom.uid").ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = implicit if dataset.original_encoding[0] else explicit
    if read_whole(dataset, "BitsAllocated", 0) == 1 and not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        yield from _unpack_bits(path, dataset, indices)
        return
    yield from import_dicom("pydicom.pixels").iter_pixels(dataset, indices=indices, raw=True)


def _unpack_bits(path: Path, dataset: Any, indices: list[int]) -> Iterator[np.ndarray]:
    """Frames of one bit a pixel: they follow each other without a gap, so a frame may begin within a byte.

    pydicom decodes only those that begin with a byte (rows times columns a multiple of 8) one after the other.
    """
    shape = read_whole(dataset, "Rows", 0), read_whole(dataset, "Columns", 0)
    count, content = shape[0] * shape[1], np.frombuffer(dataset.PixelData, dtype=np.uint8)
    if min(shape) < 1:
        raise DataError(f"{path}: its frames have {shape[0]} rows and {shape[1]} columns; it is damaged")
    if 8 * len(content) < count * (max(indices, default=-1) + 1):
        raise DataError(f"{path}: has {len(content):,} bytes of pixels, too few for its frames; it is truncated")
    for index in indices:
        first = index * count
        bits = np.unpackbits(content[first // 8 : -(-(first + count) // 8)], bitorder="little")
        yield bits[first % 8 : first % 8 + count].reshape(shape)


def _used_bits(pixels: np.ndarray, header: Header) -> np.ndarray:
    """Numbers without what else lies in their highest bits, such as overlays of old files."""
    unused = header.bits_allocated - header.bits_stored
    values = pixels.astype(_stored_type(header), copy=False)
    # Shifting back copies the sign into the unused bits of signed numbers.
    return values << unused >> unused if unused else values


def _rescale(stored: np.ndarray, frames: tuple[Frame, ...]) -> np.ndarray:
    """Slope and intercept of each slice; in place where the result takes no more bytes."""
    scales = [(frame.slope, frame.intercept) for frame in frames]
    if not all(float(number).is_integer() for scale in scales for number in scale):
        return _apply(stored, scales, np.dtype(np.float32))
    if set(scales) == {(1.0, 0.0)} and stored.dtype in (np.int16, np.uint16, np.int32):
        return stored
    ends = [
        float(end) * slope + intercept
        for plane, (slope, intercept) in zip(stored, scales, strict=True)
        for end in (plane.min(), plane.max())
    ]
    for kind in (np.int16, np.uint16, np.int32):
        if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max:
            return _apply(stored, scales, np.dtype(kind))
    return _apply(stored, scales, np.dtype(np.float32))


def _apply(stored: np.ndarray, scales: list[tuple[float, float]], kind: np.dtype) -> np.ndarray:
    result = stored.view(kind) if kind.itemsize == stored.itemsize else np.empty(stored.shape, dtype=kind)
    for place, (slope, intercept) in enumerate(scales):
        result[place] = stored[place].astype(np.float64) * slope + intercept
    return result


def _spacing(series: Series) -> tuple[float, float, float]:
    if series.spacing_mm is None:
        raise ValueError(f"series {series.key} has no spacing")
    return series.spacing_mm
