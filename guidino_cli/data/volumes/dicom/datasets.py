"""Open DICOM files with pydicom, and tell apart damaged files, files of other kinds and missing packages."""

import io
import math
import os
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from guidino_cli.data.limits import max_pixels
from guidino_cli.errors import DataError, DependencyError, UserError
from guidino_cli.files import describe_damage

DEFLATED = "1.2.840.10008.1.2.1.99"
"""Transfer syntax whose whole content is compressed."""
_GROUP_LENGTH = b"\x02\x00\x00\x00UL\x04\x00"
"""Tag, kind and length of the first element of a file, which holds the length of its meta header."""
_DIRECTORY_CLASS = "1.2.840.10008.1.3.10"
_DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")


def import_dicom(module: str = "pydicom") -> Any:
    """A module of pydicom or highdicom.

    Raises:
        DependencyError: It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        name = module.split(".")[0]
        raise DependencyError(f"DICOM files need {name}, which is missing: pip install 'guidino[dicom]'") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings of values against the standard, of which archives are full; they name no file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def dicom_errors(path: Path) -> Iterator[None]:
    """Turn whatever pydicom raises about a file into a `DataError` that names it, and silence its warnings."""
    try:
        with quiet():
            yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (UserError, MemoryError):
        raise
    except Exception as error:  # pydicom lets struct, zlib, recursion and many other errors of damaged files through
        raise DataError(f"{path}: {describe_damage(path, 'DICOM', error)}") from error


def looks_like_dicom(path: Path) -> bool:
    """Whether a file has the mark of DICOM at byte 128, or a name that promises it."""
    if path.name.startswith("."):
        return False
    if path.suffix.lower() in _DICOM_SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def load_dataset(path: Path, *, pixels: bool) -> Any:
    """Read a file with or without its pixels, as pydicom's Dataset.

    Raises:
        DataError: Missing, damaged, or no DICOM.
        DependencyError: pydicom is not installed.
    """
    return load_dataset_and_end(path, pixels=pixels)[0]


def load_dataset_and_end(path: Path, *, pixels: bool) -> tuple[Any, int]:
    """A file as pydicom's Dataset, and the number of its bytes that were read."""
    pydicom = import_dicom()
    with dicom_errors(path):
        _require_inflatable(path)
        with io.FileIO(path) as raw, _BoundedReader(raw) as file:
            dataset = pydicom.dcmread(file, stop_before_pixels=not pixels, force=True)
            end = file.tell()
        # Forced, pydicom reads any text as a few odd elements.
        if not ({"SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality"} & set(dataset.dir())) and (
            read_syntax(dataset) == "" or len(dataset) == 0
        ):
            raise DataError(f"{path}: {describe_damage(path, 'DICOM', ValueError('no DICOM elements'))}")
        return dataset, end


def is_directory_record(dataset: Any) -> bool:
    """Whether a file is a DICOMDIR, the table of contents of a disc."""
    return str(getattr(dataset.file_meta, "MediaStorageSOPClassUID", "")) == _DIRECTORY_CLASS


def read_numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """Finite numbers of an element; None if there are not as many, or one is no number."""
    if value is None or isinstance(value, bytes):
        return None
    items = [value] if isinstance(value, str | float | int) else list(value)
    try:
        numbers = tuple(float(item) for item in items)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else None


def read_whole(dataset: Any, keyword: str, default: int) -> int:
    value = dataset.get(keyword)
    return default if value is None or value == "" else int(value)


def read_text(dataset: Any, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def read_syntax(dataset: Any) -> str:
    return str(getattr(dataset.file_meta, "TransferSyntaxUID", ""))


class _BoundedReader(io.BufferedReader):
    """A file that is asked for no more bytes than it has: Python would allocate what a damaged length claims."""

    def __init__(self, file: io.FileIO) -> None:
        super().__init__(file)
        self._bytes = os.fstat(file.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        """At most `size` bytes, all that are left for -1."""
        left = max(0, self._bytes - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def _require_inflatable(path: Path) -> None:
    """Refuse a deflated file that unpacks to more than a volume may have: pydicom inflates it at once."""
    with path.open("rb") as file:
        head = file.read(2048)
        if DEFLATED.encode() not in head:
            return
        if head[132:140] != _GROUP_LENGTH:
            raise DataError(f"{path}: is deflated, and does not say where its header ends; it is damaged, replace it")
        file.seek(144 + int.from_bytes(head[140:144], "little"))
        limit, count, unpacker = 4 * max_pixels(is_volume=True), 0, zlib.decompressobj(-zlib.MAX_WBITS)
        while chunk := file.read(1 << 16):
            while chunk:
                count += len(unpacker.decompress(chunk, 1 << 20))
                chunk = unpacker.unconsumed_tail
                if count > limit:
                    raise DataError(f"{path}: unpacks to more than {limit:,} bytes; it is damaged, replace it")
