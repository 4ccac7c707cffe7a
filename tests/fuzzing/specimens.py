"""Small valid files of every kind that guidino reads, which the fuzz tests damage."""

import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fuzzing.mutators import GZIP, PNG, RAW, ZIP, Mutator
from PIL import Image


@dataclass(frozen=True)
class Specimen:
    """A valid file.

    Attributes:
        name: File name.
        content: Its bytes.
        mutators: What damages it.
    """

    name: str
    content: bytes
    mutators: Sequence[Mutator]


SIDE = (40, 48)


def draw_image() -> np.ndarray:
    """(40, 48, 3) uint8: a bright square on a dark texture."""
    pixels = np.random.default_rng(0).integers(0, 60, (*SIDE, 3)).astype(np.uint8)
    pixels[10:24, 12:26] += 150
    return pixels


def draw_mask() -> np.ndarray:
    """(40, 48) uint8 of 0 and 1: the square of `draw_image`."""
    mask = np.zeros(SIDE, dtype=np.uint8)
    mask[10:24, 12:26] = 1
    return mask


def image_specimens() -> list[Specimen]:
    """Photographs of every image format and pixel type."""
    pixels, rng = draw_image(), np.random.default_rng(1)
    deep = rng.integers(0, 4000, SIDE).astype(np.uint16)
    rgb, grey, palette = Image.fromarray(pixels), Image.fromarray(pixels[..., 0]), Image.fromarray(pixels).quantize(8)
    exif = Image.Exif()
    exif[0x0112] = 6
    made = [
        ("rgb.png", rgb, {}),
        ("grey.png", grey, {}),
        ("deep.png", Image.fromarray(deep), {}),
        ("palette.png", palette, {}),
        ("alpha.png", rgb.convert("RGBA"), {"exif": exif}),
        ("photo.jpg", rgb, {"exif": exif}),
        ("progressive.jpg", rgb, {"progressive": True}),
        ("cmyk.jpg", rgb.convert("CMYK"), {}),
        ("raw.tif", rgb, {}),
        ("deflate.tif", rgb, {"compression": "tiff_adobe_deflate"}),
        ("lzw.tif", grey, {"compression": "tiff_lzw"}),
        ("jpeg.tif", rgb, {"compression": "jpeg"}),
        ("deep.tif", Image.fromarray(deep), {}),
        ("float.tif", Image.fromarray(deep.astype(np.float32)), {}),
        ("palette.gif", palette, {}),
        ("rgb.bmp", rgb, {}),
        ("rgb.webp", rgb, {"lossless": True}),
    ]
    return [
        Specimen(name, _save(image, name, **options), PNG if ".png" in name else RAW) for name, image, options in made
    ]


def mask_specimens() -> list[Specimen]:
    """Masks as images, arrays, volumes and DICOM segmentations."""
    import nibabel
    from dicom_files import make_segmentation, plane

    mask = draw_mask()
    grey, palette = Image.fromarray(mask * 255), Image.fromarray(mask, mode="P")
    palette.putpalette([0, 0, 0, 255, 0, 0])
    images = [("grey.png", grey), ("palette.png", palette), ("bits.png", grey.convert("1")), ("mask.tif", grey)]
    found = [Specimen(name, _save(image, name), _mutators(name)) for name, image in images]
    for name, save in (("mask.npy", np.save), ("mask.npz", np.savez_compressed)):
        buffer = io.BytesIO()
        save(buffer, mask)
        found.append(Specimen(name, buffer.getvalue(), RAW if name == "mask.npy" else ZIP))
    volume = np.repeat(mask[:24, :24, None], 6, axis=2)
    header = nibabel.Nifti1Header()
    header.set_xyzt_units("mm")
    affine = np.diag([0.7, 1.3, 5.0, 1.0])
    nifti = nibabel.Nifti1Image(volume, affine, header).to_bytes()
    found.append(Specimen("mask.nii", nifti, RAW))
    found.append(Specimen("mask.nii.gz", _gzip(nifti), GZIP))
    dicom = io.BytesIO()
    make_segmentation(dicom, [(1, 0.0, plane(0, 0)), (1, 4.0, plane(2, 2))])
    found.append(Specimen("mask.dcm", dicom.getvalue(), RAW))
    return found


def scan_specimens() -> list[Specimen]:
    """Volumes of a scanner, for `slices`."""
    import nibabel

    values = np.random.default_rng(0).normal(40, 200, (24, 24, 6)).astype(np.int16)
    header = nibabel.Nifti1Header()
    header.set_xyzt_units("mm")
    nifti = nibabel.Nifti1Image(values, np.diag([0.7, 0.7, 5.0, 1.0]), header).to_bytes()
    return [Specimen("scan.nii", nifti, RAW), Specimen("scan.nii.gz", _gzip(nifti), GZIP)]


def _save(image: Image.Image, name: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=_format(name), **options)
    return buffer.getvalue()


def _mutators(name: str) -> Sequence[Mutator]:
    return PNG if name.endswith(".png") else RAW


def _format(name: str) -> str:
    kind = name.rpartition(".")[2].upper()
    return {"JPG": "JPEG", "TIF": "TIFF"}.get(kind, kind)


def _gzip(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)
