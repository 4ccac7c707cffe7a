"""Reading images, listing folders, and writing PNGs row by row."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from guidino_cli.data.cases import read_label_map
from guidino_cli.data.image_writing import write_label_map, write_label_rows
from guidino_cli.data.images import find_images, list_images, read_image, read_labels, turn
from guidino_cli.data.readers import open_regions
from guidino_cli.errors import DataError


def _saved(folder: Path, image: Image.Image, name: str = "a.png", **options: object) -> Path:
    image.save(folder / name, **options)  # type: ignore[arg-type]
    return folder / name


def test_eight_bit_colours_are_kept(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3)).astype(np.uint8)
    read, geometry = read_image(_saved(tmp_path, Image.fromarray(pixels)))
    assert np.array_equal(read, pixels)
    assert geometry.size_hw == (4, 6)


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    read, _ = read_image(_saved(tmp_path, Image.fromarray(grey)))
    assert np.array_equal(read, np.repeat(grey[..., None], 3, axis=2))


def test_alpha_is_dropped(tmp_path: Path) -> None:
    pixels = np.full((2, 2, 4), 7, dtype=np.uint8)
    read, _ = read_image(_saved(tmp_path, Image.fromarray(pixels, "RGBA")))
    assert read.tolist() == np.full((2, 2, 3), 7).tolist()


def test_a_palette_is_resolved_to_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    assert read_image(_saved(tmp_path, image))[0].tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_the_exif_rotation_of_a_photograph_is_applied(tmp_path: Path) -> None:
    """Orientation 6: the top of the scene is at the right of the stored pixels."""
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[:, 20:] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    path = _saved(tmp_path, Image.fromarray(pixels), "a.jpg", exif=exif, quality=100)
    read, geometry = read_image(path)
    assert geometry.size_hw == (40, 20)
    assert read[:18].max() < 30
    assert read[22:].min() > 225


def test_sixteen_bits_are_stretched_between_their_tails(tmp_path: Path) -> None:
    values = (np.arange(10_000).reshape(100, 100) + 3000).astype(np.uint16)
    read, _ = read_image(_saved(tmp_path, Image.fromarray(values)))
    assert read.dtype == np.uint8
    assert (read.min(), read.max()) == (0, 255)
    assert abs(int(read[50, 0, 0]) - 127) <= 1
    assert np.array_equal(read[..., 0], read[..., 2])


def test_one_hot_pixel_does_not_blacken_a_sixteen_bit_image(tmp_path: Path) -> None:
    values = (np.arange(10_000).reshape(100, 100) % 100 + 1000).astype(np.uint16)
    values[0, 0] = 65535
    assert read_image(_saved(tmp_path, Image.fromarray(values)))[0].std() > 50


def test_a_constant_sixteen_bit_image_is_black_and_not_an_error(tmp_path: Path) -> None:
    assert read_image(_saved(tmp_path, Image.fromarray(np.full((4, 4), 900, dtype=np.uint16))))[0].max() == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_image_with_a_pixel_that_is_no_number_is_refused(value: float, tmp_path: Path) -> None:
    values = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    values[0, 0] = value
    path = _saved(tmp_path, Image.fromarray(values), "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: 1 of 100 pixel values are NaN or infinite"):
        read_image(path)


@pytest.mark.parametrize("content", [b"hello", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.png: cannot be read as an image"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_a_truncated_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    path = _saved(tmp_path, Image.fromarray(pixels), name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=f"{name}: cannot be read as an image"):
        read_image(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.png: no such file"):
        read_image(tmp_path / "a.png")


def test_a_tiff_of_several_pages_is_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((4, 4), i, dtype=np.uint8)) for i in range(3)]
    path = _saved(tmp_path, pages[0], "a.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="has 3 pages, expected one"):
        read_image(path)


def test_images_are_found_by_suffix_in_order_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "c.txt", "._a.jpg", ".hidden.png"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in find_images(tmp_path)] == ["a.jpg", "b.PNG"]


# --- Label maps


def test_a_label_map_is_read_as_it_was_written(tmp_path: Path) -> None:
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_label_map(tmp_path / "masks" / "a.png", labels)
    assert np.array_equal(read_label_map(tmp_path / "masks" / "a.png"), labels)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16"])
def test_a_mask_of_another_mode_is_refused(mode: str, tmp_path: Path) -> None:
    path = _saved(tmp_path, Image.new(mode, (4, 4)))
    with pytest.raises(DataError, match=f"found mode {mode}"):
        read_label_map(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "z/c.png", "m/d.tif", "m/deep/e.png", ".git/f.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_images_are_sorted_and_nothing_else_is_listed(folder: Path) -> None:
    assert list(list_images(folder)) == ["a.JPG", "b.png"]


def test_subfolders_come_in_the_order_of_a_printed_tree(folder: Path) -> None:
    assert list(list_images(folder, recursive=True)) == ["a.JPG", "b.png", "m/d.tif", "m/deep/e.png", "z/c.png"]


def test_a_cyclic_link_is_not_followed(folder: Path) -> None:
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    assert len(list(list_images(folder, recursive=True))) == 5


def test_a_link_whose_target_is_gone_is_listed_and_fails_as_an_image_by_itself(folder: Path) -> None:
    (folder / "c.png").symlink_to("gone.png")
    (folder / "dead").symlink_to("gone")
    assert list(list_images(folder)) == ["a.JPG", "b.png", "c.png"]
    with pytest.raises(DataError, match=r"c\.png: links to gone\.png, which does not exist"):
        read_image(folder / "c.png")


def test_bands_are_read_back_as_one_image(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 255, (50, 37)).astype(np.uint8)
    write_label_rows(tmp_path / "a.png", (50, 37), [labels[:1], labels[1:33], labels[33:]])
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), labels)


def test_missing_rows_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="9 rows, expected 10"):
        write_label_rows(tmp_path / "a.png", (10, 4), [np.zeros((9, 4), dtype=np.uint8)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp", ".tif"])
def test_several_frames_or_pages_are_refused_as_image_and_as_mask(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    for read in (read_image, read_labels):
        with pytest.raises(DataError, match=r"has 2 (frames|pages), expected one"):
            read(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_an_array_equals_what_pillow_does_by_the_tag(tmp_path: Path, orientation: int) -> None:
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = _saved(tmp_path, Image.fromarray(values), exif=exif)
    assert turn(values, orientation).tolist() == read_labels(path)[0].tolist()


_RAMP = np.arange(100, dtype=np.uint8).reshape(10, 10)
_COLOURS = np.stack([_RAMP, 2 * _RAMP, 255 - _RAMP], axis=2)


@pytest.mark.parametrize(
    ("pixels", "options", "message"),
    [
        ((_RAMP - np.int16(50)).astype(np.int8), {"photometric": "minisblack"}, "negative pixels"),
        (
            np.moveaxis(_COLOURS * np.uint16(257), 2, 0),
            {"photometric": "rgb", "planarconfig": "separate"},
            "16-bit RGB",
        ),
        (np.stack([_RAMP] * 5, axis=2), {"photometric": "minisblack", "planarconfig": "contig"}, "cannot be read"),
        (_RAMP.astype(np.float64), {"photometric": "minisblack"}, "cannot be read"),
    ],
)
def test_a_tiff_that_would_be_read_wrongly_is_refused(
    pixels: np.ndarray, options: dict[str, str], message: str, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", pixels, **options)  # type: ignore[arg-type]
    for read in (read_image, open_regions):
        with pytest.raises(DataError, match=rf"a\.tif: .*{message}"):
            read(tmp_path / "a.tif")


def test_premultiplied_colours_are_divided_by_alpha_in_regions_too(tmp_path: Path) -> None:
    pixels = np.dstack([_COLOURS // 2, np.full((10, 10), 127, np.uint8)])
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", extrasamples=["assocalpha"])
    whole, _ = read_image(tmp_path / "a.tif")
    # Halves are rounded down: 255 / 127 times at most a half, and the rounding of the division.
    assert np.abs(whole.astype(int) - _COLOURS).max() <= 2
    assert np.array_equal(open_regions(tmp_path / "a.tif").read_all(), whole)


@pytest.mark.parametrize("name", ["cmyk.jpg", "cmyk.tif", "lab.tif", "ycbcr.tif"])
def test_other_colour_spaces_are_converted(name: str, tmp_path: Path) -> None:
    # Three colours away from the limits of each space: (red, green, blue).
    colours = np.array([[200, 80, 80], [80, 180, 90], [90, 100, 190]], dtype=np.uint8)
    image = Image.fromarray(np.repeat(np.repeat(colours[None], 16, axis=0), 16, axis=1).copy())
    kind = name.split(".")[0]
    if kind == "lab":
        profiles = [ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")]
        image = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    else:
        image = image.convert({"cmyk": "CMYK", "ycbcr": "YCbCr"}[kind])
    image.save(tmp_path / name)
    read, _ = read_image(tmp_path / name)
    assert np.abs(read[8, 8::16].astype(int) - colours).max() <= 6


def test_signed_labels_of_8_bits_are_read_if_none_is_negative(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", _RAMP.astype(np.int8), photometric="minisblack")
    assert np.array_equal(read_labels(tmp_path / "a.tif")[0], _RAMP)
