"""Damaged and hostile DICOM files: one error that names the file, and no more memory than the file deserves."""

import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from dicom_files import make_segmentation, plane

from guidino_cli.data.volumes.dicom.headers import read_header
from guidino_cli.data.volumes.dicom.pixels import read_values
from guidino_cli.data.volumes.dicom.segments import read_segmentation
from guidino_cli.data.volumes.dicom.series import find_series
from guidino_cli.errors import DataError

Write = Callable[..., Path]


def attempt(read: Callable[[], object]) -> str:
    """Message of the `DataError` that reading ends with, "" without one; every other error is a bug."""
    try:
        read()
    except DataError as error:
        return str(error)
    return ""


def read_everything(path: Path) -> list[str]:
    """Messages of all errors of a file that is read as a slice and as a segmentation."""
    usable = [series for series in find_series(path.parent, allow_single=True).series if series.problem is None]
    reads = [partial(read_values, series) for series in usable] + [partial(read_segmentation, path)]
    return list(filter(None, map(attempt, reads)))


@pytest.mark.parametrize("seed", range(60))
def test_damage_of_any_kind_is_an_error_that_names_the_file(seed: int, write_slice: Write, tmp_path: Path) -> None:
    rng = random.Random(seed)
    if seed % 2:
        path = write_slice("a.dcm")
    else:
        path = make_segmentation(tmp_path / "a.dcm", [(1, 0.0, plane(0, 0)), (2, 4.0, plane(2, 2))])
    content = bytearray(path.read_bytes())
    place = rng.randrange(132, len(content) - 4)
    kind = rng.randrange(4)
    if kind == 0:
        del content[place:]
    elif kind == 1:
        content[place : place + 4] = b"\xff\xff\xff\xff"
    elif kind == 2:
        content[place : place + 2] = bytes(rng.randrange(256) for _ in range(2))
    else:
        del content[place : place + rng.randrange(1, 100)]
    path.write_bytes(content)
    assert all(path.name in message for message in read_everything(path))


@pytest.mark.parametrize("content", [b"", b"text of a note\n" * 100, bytes(5000), b"\x89PNG\r\n\x1a\n" + bytes(500)])
def test_files_that_only_claim_to_be_dicom_are_unreadable(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.dcm: "):
        read_header(path)
    with pytest.raises(DataError, match=r"a\.dcm: "):
        read_segmentation(path)
    assert [found.name for found, _ in find_series(tmp_path).unreadable] == ["a.dcm"]


def test_a_length_that_claims_gigabytes_takes_no_memory(write_slice: Write) -> None:
    path = write_slice("a.dcm")
    content = path.read_bytes()
    # PixelData: tag, OW, two bytes that are unused, length.
    at = content.index(b"\xe0\x7f\x10\x00OW\x00\x00") + 8
    path.write_bytes(content[:at] + struct.pack("<I", 0xFFFFFFF0) + content[at + 4 :])
    tracemalloc.start()
    read_everything(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6


def test_a_deflated_file_that_unpacks_to_too_much_is_refused(
    write_slice: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pydicom

    monkeypatch.setenv("GUIDINO_MAX_PIXELS", "1000000")
    path = write_slice("a.dcm")
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(path)
    head = path.read_bytes()
    end = 144 + struct.unpack("<I", head[140:144])[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    path.write_bytes(head[:end] + packer.compress(bytes(20_000_000)) + packer.flush())
    assert path.stat().st_size < 30_000
    with pytest.raises(DataError, match="unpacks to more than 4,000,000 bytes"):
        read_header(path)


def test_a_bad_file_does_not_stop_the_others(write_series: Write, tmp_path: Path) -> None:
    write_series([0, 2, 4], folder="good")
    (tmp_path / "bad").mkdir()
    for number in range(20):
        content = bytearray((tmp_path / "good" / "003.dcm").read_bytes())
        rng = np.random.default_rng(number)
        content[150:] = rng.integers(0, 256, len(content) - 150, dtype=np.uint8).tobytes()
        (tmp_path / "bad" / f"{number}.dcm").write_bytes(content)
    good = [series for series in find_series(tmp_path).series if series.files[0].parent.name == "good"]
    assert [series.problem for series in good] == [None]
