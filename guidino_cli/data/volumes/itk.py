"""Read NRRD and MetaImage volumes through SimpleITK, an optional dependency."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from guidino_cli.data.limits import require_pixels
from guidino_cli.data.volumes.grid import SourceVolume
from guidino_cli.data.volumes.nifti import as_integers_if_whole
from guidino_cli.errors import DataError, DependencyError
from guidino_cli.types import Geometry

ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def is_itk_volume(path: Path) -> bool:
    """Whether a path looks like an NRRD or MetaImage file; hidden files do not."""
    return path.name.lower().endswith(ITK_SUFFIXES) and not path.name.startswith(".")


def read_source(path: Path) -> SourceVolume:
    """Read a volume; voxels of several components become channels.

    Returns:
        (X, Y, Z), or (X, Y, Z, C) of several components, in the numbers of the file.

    Raises:
        DataError: Missing, damaged, or not a volume of three axes.
        DependencyError: SimpleITK is not installed.
    """
    itk = _import_simpleitk(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    # ITK prints its warnings itself, with source lines that help no user.
    itk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        reader.ReadImageInformation()
        size, components = tuple(reader.GetSize()), int(reader.GetNumberOfComponents())
        if len(size) != 3:
            found = " x ".join(map(str, size))
            raise DataError(
                f"{path}: expected a volume of three axes, found {found}; save each volume as a file of its own"
            )
        require_pixels(path, (*size, components), is_volume=True)
        image = reader.Execute()
        values = itk.GetArrayFromImage(image)
    except RuntimeError as error:
        raise DataError(f"{path}: not a readable volume ({_reason(error)}); replace it") from error
    spacing = np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = _LPS_TO_RAS @ np.array(image.GetDirection()).reshape(3, 3) * spacing
    affine[:3, 3] = _LPS_TO_RAS @ np.array(image.GetOrigin())
    # SimpleITK gives (Z, Y, X) or (Z, Y, X, C).
    axes = (2, 1, 0) if values.ndim == 3 else (2, 1, 0, 3)
    geometry = Geometry(str(path), size, tuple(float(length) for length in spacing), "mm", affine)
    return SourceVolume(values.transpose(axes), geometry)


def read(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read intensities (X, Y, Z) and grid; see `read_source` for the errors.

    Raises:
        DataError: Also for voxels of several components.
    """
    volume = read_source(path)
    if volume.values.ndim != 3:
        raise DataError(f"{path}: has {volume.values.shape[3]} numbers per voxel, expected one")
    return volume.values, volume.geometry


def read_labels(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read label values; as `read`, but whole numbers stored as floats become int64."""
    values, geometry = read(path)
    return as_integers_if_whole(values), geometry


def _import_simpleitk(path: Path) -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise DependencyError(f"{path}: NRRD and MetaImage files need SimpleITK: pip install 'guidino[itk]'") from error
    return SimpleITK


def _reason(error: RuntimeError) -> str:
    """The innermost reason of an ITK exception, in one line without ITK's source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1] if lines else "unknown reason"
    if "Unable to determine ImageIO" in last:
        return "its content is neither NRRD nor MetaImage"
    return re.sub(r"^(\[nrrd\] \w+|\w+::ERROR): ", "", last)[:160]
