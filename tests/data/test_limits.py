"""A file of a few bytes cannot take the memory of the machine."""

import gzip
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from guidino_cli.data import readers, regions
from guidino_cli.data.limits import max_pixels, require_unpackable
from guidino_cli.errors import ConfigError, DataError


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png(path: Path, side: int, *extra: bytes) -> None:
    """A grey PNG whose pixels are all zero and all there."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    packer = zlib.compressobj(9)
    content = b"".join(packer.compress(bytes(side + 1)) for _ in range(side)) + packer.flush()
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + _chunk(b"IDAT", content) + _chunk(b"IEND", b""))


def _nifti(shape: tuple[int, ...]) -> bytes:
    """Header of a volume of float32, and no voxels."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape)
    header.set_sform(np.eye(4))
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return header.binaryblock + bytes(4)


def _npy(path: Path, shape: tuple[int, ...], dtype: str) -> None:
    with path.open("wb") as file:
        facts = {"descr": dtype, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, facts)
        file.write(b"123")


def test_an_image_above_the_limit_is_refused_and_one_at_the_limit_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _png(tmp_path / "a.png", 100)
    monkeypatch.setenv("GUIDINO_MAX_PIXELS", "9999")
    for read in (readers.read, readers.read_labels, regions.read_size):
        with pytest.raises(DataError, match=r"a\.png: claims 100 x 100 pixels, more than GUIDINO_MAX_PIXELS=9999"):
            read(tmp_path / "a.png")
    monkeypatch.setenv("GUIDINO_MAX_PIXELS", "10_000")
    assert readers.read(tmp_path / "a.png")[0].shape == (100, 100, 3)


def test_the_default_limit_is_that_of_pillow(tmp_path: Path) -> None:
    assert max_pixels() == 1024 * 1024 * 1024 // 4 * 2 // 3
    _png(tmp_path / "a.png", 13378)  # 13378 squared is 178,970,884.
    with pytest.raises(DataError, match="claims 13378 x 13378 pixels"):
        readers.read(tmp_path / "a.png")


@pytest.mark.parametrize("text", ["0", "-1", "many", "1e9", "²"])
def test_a_limit_that_is_no_number_of_pixels_is_an_error_of_the_settings(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUIDINO_MAX_PIXELS", text)
    with pytest.raises(ConfigError, match="expected a number of pixels"):
        max_pixels()


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_text_that_unpacks_to_fifty_megabytes_makes_the_image_unreadable(kind: bytes, tmp_path: Path) -> None:
    _png(tmp_path / "a.png", 10, _chunk(kind, b"Comment\0\0" + zlib.compress(bytes(50_000_000))))
    with pytest.raises(DataError, match=r"a\.png.*too large"):
        readers.read(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [((30000, 30000, 30000), "claims 30000 x 30000 x 30000 voxels"), ((500, 1000, 1000), "2,000,000,000 bytes")],
)
def test_a_volume_that_claims_more_than_it_has_is_refused_unread(
    shape: tuple[int, ...], message: str, suffix: str, tmp_path: Path
) -> None:
    content = _nifti(shape)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    for read in (readers.read, readers.read_labels, readers.open_regions):
        with pytest.raises(DataError, match=message):
            read(path)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((10**6, 10**6), "|u1", "claims 1000000 x 1000000 pixels"),
        ((10**4, 10**4), "<f8", "claims 800,000,000 bytes"),
    ],
)
def test_an_array_that_claims_more_than_it_has_is_refused_unread(
    shape: tuple[int, int], dtype: str, message: str, tmp_path: Path
) -> None:
    _npy(tmp_path / "a.npy", shape, dtype)
    for read in (readers.read, readers.open_regions):
        with pytest.raises(DataError, match=message):
            read(tmp_path / "a.npy")


def test_an_archive_above_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "a.npz", np.zeros((100, 101), np.uint8))
    monkeypatch.setenv("GUIDINO_MAX_PIXELS", "10000")
    with pytest.raises(DataError, match="claims 101 x 100 pixels"):
        readers.read(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "header",
    [b"{'descr': '|u1',  fortran_order': False, 'shape': (4, 4), }", b"{'descr': '|u1'}", b"((((", b"[1, 2]", b"\xff"],
)
def test_a_damaged_header_of_an_array_is_an_error_that_names_the_file(header: bytes, tmp_path: Path) -> None:
    body = header.ljust(117) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body + bytes(16))
    with pytest.raises(DataError, match=r"a\.npy: cannot be read as an array"):
        readers.read(tmp_path / "a.npy")


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "zlib", "tile": (64, 64)}])
def test_a_tiff_that_claims_more_than_it_has_is_refused_unread(options: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    tifffile.imwrite(path, pixels, photometric="minisblack", **options)  # type: ignore[arg-type]
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags  # type: ignore[union-attr]
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            if name in tags:
                size = 2 if tags[name].dtype == 3 else 4
                content[tags[name].valueoffset : tags[name].valueoffset + size] = (44000).to_bytes(size, "little")
    path.write_bytes(content)
    for read in (readers.read, readers.open_regions):
        with pytest.raises(DataError, match=r"a\.tif: claims"):
            read(path)


def test_a_tiff_of_equal_pixels_above_the_limit_is_no_photograph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((1000, 1000), np.uint8), photometric="minisblack", compression="zlib")
    assert readers.open_regions(path).geometry.shape == (1000, 1000)
    monkeypatch.setenv("GUIDINO_MAX_PIXELS", "999999")
    with pytest.raises(DataError, match="claims 1000 x 1000 pixels"):
        readers.open_regions(path)
    # Of varied pixels it is read in parts whatever its size.
    pixels = np.random.default_rng(0).integers(0, 255, (1000, 1000), dtype=np.uint8)
    tifffile.imwrite(path, pixels, photometric="minisblack", compression="zlib")
    assert np.array_equal(readers.open_regions(path).read_all()[..., 0], pixels)


def test_deflate_makes_no_more_than_1032_bytes_out_of_one() -> None:
    packed = len(zlib.compress(bytes(10**8), 9))
    require_unpackable(Path("a"), packed, 10**8)
    with pytest.raises(DataError, match=r"a: claims 100,000,000 bytes"):
        require_unpackable(Path("a"), packed // 2, 10**8)


def test_a_format_that_starts_other_programs_is_not_opened(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.eps")
    (tmp_path / "a.eps").rename(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image"):
        readers.read(tmp_path / "a.png")
