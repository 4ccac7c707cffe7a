"""Read 2-D images and masks with Pillow, write masks as PNG, list the images of a folder."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps

from guidino_cli.data.deep import deep_mode, is_deep, read_deep, require_faithful, require_unsigned, rescale_to_uint8
from guidino_cli.data.limits import require_pixels
from guidino_cli.errors import DataError, UserError
from guidino_cli.files import describe_damage, is_dead_link
from guidino_cli.types import Geometry

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
# Content decides, not the name: formats for which Pillow starts other programs (EPS) are left out.
_FORMATS = ("PNG", "JPEG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "JPEG2000", "PPM")

Image.MAX_IMAGE_PIXELS = None  # `open_header` has a limit that can be set, and an error instead of a warning.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # Names no file; errors do.


def is_image(path: Path) -> bool:
    """Whether a path looks like an image file; hidden files and macOS resource forks (`._x.jpg`) do not."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def open_image(path: Path) -> Image.Image:
    """Open and fully decode a file, with the EXIF rotation applied.

    Raises:
        DataError: Missing, truncated, not an image, or of several pages or frames.
    """
    with open_header(path) as file:
        _require_one_page(file, path)
        file.load()
        require_unsigned(file, path)
        ImageOps.exif_transpose(file, in_place=True)
        return file


@contextmanager
def open_header(path: Path) -> Iterator[Image.Image]:
    """Open an image without decoding it; errors while it is open become a `DataError` that names the file.

    Raises:
        DataError: Missing, not an image, of more pixels than `limits.max_pixels`, or what the caller finds.
    """
    with _pillow_errors(path), Image.open(path, formats=_FORMATS) as file:
        require_pixels(path, (file.height, file.width), advice=_LARGE_IMAGES)
        require_faithful(file, path)
        yield file


_LARGE_IMAGES = "save it as an 8-bit grey or RGB TIFF, which `predict` reads in parts"


@contextmanager
def _pillow_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        lost = f"links to {os.readlink(path)}, which does not exist" if path.is_symlink() else "no such file"
        raise DataError(f"{path}: {lost}") from error
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Pillow lets struct, zlib and many other errors of damaged files through
        raise DataError(f"{path}: {describe_damage(path, 'an image', error)}; replace or remove the file") from error


def read_image(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read an image as RGB.

    8-bit images keep their values. Images of more than 8 bits, grey or colour, are scaled (`deep.rescale_to_uint8`):
    absolute 16-bit values differ between cameras, and a plain conversion would saturate or blacken them. Alpha is
    dropped, palettes are resolved to colours, a grey image is repeated to three channels.

    Returns:
        (H, W, 3) uint8 after EXIF rotation, and its grid.

    Raises:
        DataError: The file cannot be read as an image.
    """
    values = read_deep_values(path)
    if values is None:
        image = open_image(path)
        # Converting RGB to RGB would copy it.
        pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    else:
        pixels = rescale_to_uint8(drop_alpha(values).astype(np.float32), path)
        pixels = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    return pixels, Geometry.of_pixels(str(path), pixels.shape[:2])


def read_deep_values(path: Path) -> np.ndarray | None:
    """Values of an image of more than 8 bits, after EXIF rotation, or None for other images.

    Returns:
        (H, W) or (H, W, C), C = 2 (grey, alpha), 3 or 4.

    Raises:
        DataError: The file cannot be read as an image.
    """
    with open_header(path) as file:
        if not is_deep(deep_mode(file)):
            return None
        _require_one_page(file, path)
        return read_deep(file, path)


def drop_alpha(values: np.ndarray) -> np.ndarray:
    """(H, W) or (H, W, 3) of values that may have an alpha channel: (H, W, 2) and (H, W, 4)."""
    if values.ndim == 2 or values.shape[2] == 3:
        return values
    return values[..., 0] if values.shape[2] == 2 else values[..., :3]


def read_labels(path: Path) -> tuple[np.ndarray, Geometry]:
    """Read a mask's values as they are stored, with the EXIF rotation applied.

    Palettes give their indices and never their colours (see `read_palette`), except that a palette of black and white
    alone is a 1-bit image whichever way round its indices are. Three equal channels become one. Alpha is dropped,
    unless the colours are constant and alpha is not (or is 0 everywhere): then alpha is the mask.

    Returns:
        (H, W) bool, integer or float values, or (H, W, 3) uint8 colours; and the grid.

    Raises:
        DataError: The file cannot be read as an image, or has colours that 8 bits cannot hold.
    """
    deep = read_deep_values(path)
    if deep is not None:
        values = _read_deep_labels(deep, path)
        return values, Geometry.of_pixels(str(path), values.shape[:2])
    image = open_image(path)
    if image.mode in {"P", "PA"}:
        values = _palette_values(image)
    else:
        if image.mode in {"CMYK", "YCbCr", "LAB", "HSV", "RGBX"}:
            image = image.convert("RGB")
        values = np.asarray(image)
        if image.mode in {"RGBA", "LA", "RGBa", "La"}:
            values = _alpha_or_colours(values)
        values = merge_equal_channels(values)
    return values, Geometry.of_pixels(str(path), values.shape[:2])


def read_orientation(path: Path) -> int:
    """EXIF orientation of a file, 1 (as stored) to 8; 1 without a valid tag.

    Raises:
        DataError: The file cannot be read as an image.
    """
    with open_header(path) as file:
        orientation = file.getexif().get(ExifTags.Base.Orientation, 1)
    return int(orientation) if orientation in range(1, 9) else 1


def turn(values: np.ndarray, orientation: int) -> np.ndarray:
    """Turn or mirror (H, W, ...) as an EXIF orientation of 1 to 8 tells viewers to."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    # 5 and 8 begin with the other corner of the transposed array than 6 and 7.
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return np.flip(values, flips) if flips else values


def read_palette(path: Path) -> np.ndarray | None:
    """Colours of a palette image by index, or None for an image without a palette.

    Returns:
        (N, 3) uint8, N up to 256.

    Raises:
        DataError: The file cannot be read as an image.
    """
    with open_header(path) as file:
        if file.mode not in {"P", "PA"}:
            return None
        palette = file.palette
        # PNG has the palette in its header, other formats only after decoding.
        if palette is None or palette.rawmode != "RGB":
            return np.asarray(file.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
        return np.frombuffer(bytes(palette.palette or b""), dtype=np.uint8).reshape(-1, 3)


def palette_to_colours(indices: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Replace palette indices (H, W) by their colours: (H, W, 3) uint8, or (H, W) if all of them are grey.

    Raises:
        DataError: An index beyond the palette; the caller adds the file name.
    """
    if indices.max() >= len(palette):
        raise DataError(f"has palette index {indices.max()}, but its palette has {len(palette)} colours")
    return merge_equal_channels(palette[indices])


def merge_equal_channels(values: np.ndarray) -> np.ndarray:
    """(H, W) of colours (H, W, 3) whose three channels are equal; anything else unchanged."""
    if values.ndim == 3 and np.array_equal(values[..., 0], values[..., 1]):
        return values[..., 0] if np.array_equal(values[..., 0], values[..., 2]) else values
    return values


def _palette_values(image: Image.Image) -> np.ndarray:
    indices = np.asarray(image if image.mode == "P" else image.getchannel(0))
    palette = np.asarray(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
    used = np.unique(indices)
    if len(palette) > used[-1]:
        # Of a mask with one colour, full or empty, only the whole palette tells that it is black and white.
        colours = palette[used] if len(used) > 1 else palette
        if {tuple(colour) for colour in colours.tolist()} == {(0, 0, 0), (255, 255, 255)}:
            return palette[indices][..., 0] > 0
    return indices


def _read_deep_labels(values: np.ndarray, path: Path) -> np.ndarray:
    """Mask values (H, W), or colours (H, W, 3) uint8, of an image of more than 8 bits."""
    if values.ndim == 3 and values.shape[2] in {2, 4}:
        values = _alpha_or_colours(values)
    values = merge_equal_channels(values)
    if values.ndim == 2:
        return values
    # Programs that widen 8 bits to 16 repeat the byte: 0xABAB = 257 * 0xAB.
    if (values % 257).any():
        raise DataError(f"{path}: is a mask of 16-bit colours, expected class indices or colours of 8 bits")
    return (values // 257).astype(np.uint8)


def _alpha_or_colours(values: np.ndarray) -> np.ndarray:
    colours, alpha = values[..., :-1], values[..., -1]
    is_constant = bool((colours == colours[0, 0]).all())
    if is_constant and (not alpha.any() or bool((alpha != alpha[0, 0]).any())):
        return alpha
    return colours[..., 0] if colours.shape[-1] == 1 else colours


def _require_one_page(file: Image.Image, path: Path) -> None:
    """Refuse a TIFF of several pages, or an animation: reading only the first would be a silent loss.

    The second picture of a camera's JPEG (MPO) is a preview of the first and may be left out.
    """
    pages = getattr(file, "n_frames", 1) if file.format in {"TIFF", "GIF", "PNG", "WEBP"} else 1
    if pages > 1:
        what, kind = ("pages", "volumes") if file.format == "TIFF" else ("frames", "animations")
        raise DataError(f"{path}: has {pages} {what}, expected one; {kind} are not supported, save {what} as PNG")


def find_images(folder: Path, *, recursive: bool = False) -> list[Path]:
    """Image files of a folder; see `list_images` for the order."""
    return [folder / name for name in list_images(folder, recursive=recursive)]


def list_images(folder: Path, *, recursive: bool = False) -> Iterator[str]:
    """Paths of the images in a folder, relative to it with `/`, sorted within each folder; no file is opened.

    Hidden files and folders are left out, links to folders are not followed.

    Args:
        folder: Where to look.
        recursive: Also in the folders below, in the order of a directory tree printed from top to bottom.
    """
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        names, folders = _scan_folder(folder / inside, recursive=recursive)
        yield from (inside + name for name in names)
        waiting.extend(f"{inside}{name}/" for name in reversed(folders))


def _scan_folder(folder: Path, *, recursive: bool) -> tuple[list[str], list[str]]:
    """Sorted names of the images and of the folders to descend into."""
    names: list[str] = []
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES and (
                entry.is_file() or is_dead_link(Path(entry.path))
            ):
                names.append(entry.name)
            elif recursive and entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
    return sorted(names), sorted(folders)
