"""Write labels into the grid of the volume that they belong to, with the header of its file."""

import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from guidino_cli.data.image_writing import write_png
from guidino_cli.data.volumes.canonical import reoriented_affine, turn_back
from guidino_cli.data.volumes.grid import Grid
from guidino_cli.errors import DataError
from guidino_cli.files import write_atomically


def write_volume_labels(path: Path, labels: np.ndarray, grid: Grid) -> None:
    """Write class indices as NIfTI; affine, qform, sform, their codes, units and voxel sizes are those of the source.

    The labels of a picture become a PNG.

    Args:
        path: Ends with .nii.gz or .nii, of a picture with .png.
        labels: (Z, Y, X) integers from 0, with canonical axes, on the grid of the source.
        grid: Grid of the source. Without a NIfTI header its affine is written as the scanner's, in millimetres.

    Raises:
        DataError: A picture has more than 65,535 instances.
        ValueError: The labels have another size than the grid.
        ResourceError: The disk is full or the path cannot be written.
    """
    if labels.shape != grid.shape:
        raise ValueError(f"labels {labels.shape} for a grid {grid.shape}")
    kind = np.min_scalar_type(int(labels.max(initial=0)))
    if grid.is_picture and kind.itemsize > 2:
        raise DataError(f"{path}: {int(labels.max()):,} instances, but a PNG holds 65,535; raise predict.min_size")
    if grid.is_picture:
        write_png(path, labels[0].astype(kind))
        return
    image = _image(turn_back(labels, grid.to_canonical).astype(kind), grid)
    write_atomically(path, lambda temporary: _save(image, temporary, compressed=path.suffix.lower() == ".gz"))


def write_volume_map(path: Path, values: np.ndarray, grid: Grid) -> None:
    """Write numbers such as a guide as `write_volume_labels` does labels.

    The map of a picture becomes a PNG of 16 bits, 0 to 65535 for 0 to 1.

    Args:
        path: Ends with .nii.gz or .nii, of a picture with .png.
        values: (Z, Y, X) float32, with canonical axes, on the grid of the source.
        grid: Grid of the source.

    Raises:
        ValueError: The map has another size than the grid.
        ResourceError: The disk is full or the path cannot be written.
    """
    if values.shape != grid.shape:
        raise ValueError(f"a map {values.shape} for a grid {grid.shape}")
    if grid.is_picture:
        write_png(path, (values[0].clip(0, 1) * 65535).round().astype(np.uint16))
        return
    image = _image(turn_back(values, grid.to_canonical).astype(np.float32), grid)
    write_atomically(path, lambda temporary: _save(image, temporary, compressed=path.suffix.lower() == ".gz"))


_DISPLACEMENTS = 1006
"""NIfTI's code for a vector at every voxel that says where the voxel moves (NIFTI_INTENT_DISPVECT)."""


def write_displacements(path: Path, field: np.ndarray, grid: Grid) -> None:
    """Write a displacement field as NIfTI of five axes, (X, Y, Z, 1, 3), with the intent for displacement vectors.

    Vectors are millimetres along the scanner's axes to the right, to the front and up (RAS), as NIfTI has them; ITK and
    SimpleITK, which use LPS, turn the first two round when they read the file. Of a picture, and of a volume whose
    header states no orientation, they are pixels or millimetres along the axes of the array (columns, rows, slices).

    Args:
        path: Ends with .nii.gz or .nii.
        field: (3, Z, Y, X) in voxels along Z, Y, X, on the grid of the source.
        grid: Grid of the source.

    Raises:
        ValueError: The field has another size than the grid.
        ResourceError: The disk is full or the path cannot be written.
    """
    import nibabel

    if field.shape != (3, *grid.shape):
        raise ValueError(f"a field {field.shape} for a grid {grid.shape}")
    geometry = grid.geometry
    affine = geometry.affine
    if affine is None:
        affine = np.diag([*geometry.spacing, 1.0])
    steps = reoriented_affine(replace(geometry, affine=affine), grid.to_canonical)[:3, :3]
    vectors = np.einsum("ac,czyx->azyx", steps, field[::-1]).astype(np.float32)
    values = np.stack([turn_back(component, grid.to_canonical) for component in vectors], axis=-1)[:, :, :, None]
    image: Any = nibabel.Nifti1Image(values, affine)
    # 1 is "scanner coordinates", 0 "unknown".
    code = 0 if geometry.affine is None else 1
    image.header.set_qform(affine, code=code)
    image.header.set_sform(affine, code=code)
    image.header.set_xyzt_units("unknown" if grid.is_picture else "mm")
    image.header.set_intent(_DISPLACEMENTS, name="fixed to moving")
    write_atomically(path, lambda temporary: _save(image, temporary, compressed=path.suffix.lower() == ".gz"))


def _image(values: np.ndarray, grid: Grid) -> Any:
    import nibabel

    if grid.header is None:
        image: Any = nibabel.Nifti1Image(values, grid.geometry.affine)
        # 1 is "scanner coordinates".
        image.header.set_qform(grid.geometry.affine, code=1)
        image.header.set_sform(grid.geometry.affine, code=1)
        image.header.set_xyzt_units("mm")
        return image
    header = grid.header.copy()
    kind = nibabel.Nifti2Image if isinstance(header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    header.extensions.clear()
    header.set_data_dtype(values.dtype)
    # A display range and a meaning of the intensities would be wrong for labels.
    header["cal_min"], header["cal_max"] = 0, 0
    header.set_intent("none")
    return kind(values, None, header)


def _save(image: Any, path: Path, *, compressed: bool) -> None:
    if not compressed:
        with path.open("wb") as file:
            image.to_stream(file)
        return
    # Level 1 takes a quarter of the time of level 6 for 3 % more bytes. No time stamp: equal labels are equal files.
    with path.open("wb") as raw, gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=1, mtime=0) as file:
        image.to_stream(file)
