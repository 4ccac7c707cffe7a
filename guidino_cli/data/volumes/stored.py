"""Arrays of prepared volumes on disk, of which only the parts that are asked for are read."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from guidino_cli.errors import DataError, DependencyError, UserError
from guidino_cli.files import describe_damage, write_atomically

NUMPY_SUFFIX = ".npy"
BLOSC2_SUFFIX = ".b2nd"
_BLOCK = (8, 64, 64)
"""Voxels of a compressed block: a slice and a patch both touch few of them."""


class StoredArray(Protocol):
    """An array on disk: indexing reads the part as a NumPy array."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, index: Any, /) -> Any: ...


def save_array(path: Path, values: np.ndarray) -> None:
    """Write an array as .npy, or compressed by blosc2 as .b2nd, by the suffix of the path.

    Raises:
        DependencyError: blosc2 is not installed.
        ResourceError: The disk is full or the path cannot be written.
    """
    contiguous = np.ascontiguousarray(values)
    if path.suffix == BLOSC2_SUFFIX:
        write_atomically(path, lambda temporary: _save_compressed(temporary, contiguous))
        return

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.save(file, contiguous, allow_pickle=False)

    write_atomically(path, save)


def open_array(path: Path) -> StoredArray:
    """Open an array without reading it. Open it again for each sample: 0.1 ms, while open files are limited.

    Raises:
        DataError: Missing or damaged.
        DependencyError: blosc2 is not installed.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; run `guidino prepare` again")
    try:
        if path.suffix == BLOSC2_SUFFIX:
            array: StoredArray = _import_blosc2(path).open(str(path), mode="r")
        else:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except UserError:
        raise
    except Exception as error:  # NumPy and blosc2 let many kinds of errors of damaged files through.
        raise DataError(f"{path}: {describe_damage(path, 'array', error)}; run `guidino prepare` again") from error
    return array


def _save_compressed(path: Path, values: np.ndarray) -> None:
    blosc2 = _import_blosc2(path)
    blocks = (1,) * (values.ndim - 3) + tuple(min(*pair) for pair in zip(_BLOCK, values.shape[-3:], strict=True))
    parameters = {"codec": blosc2.Codec.ZSTD, "clevel": 1, "nthreads": 1}
    blosc2.asarray(values, urlpath=str(path), mode="w", blocks=blocks, cparams=parameters)


def _import_blosc2(path: Path) -> Any:
    try:
        import blosc2
    except ImportError as error:
        raise DependencyError(f"{path}: compressed volumes need blosc2: pip install 'guidino[blosc2]'") from error
    # Data-loading workers are processes already.
    blosc2.set_nthreads(1)
    return blosc2
