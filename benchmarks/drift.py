"""Measure `guidino drift`: how often images of the same source are called drift, and how often those of another are.

    python benchmarks/drift.py measure ROOT --cache CACHE > benchmarks/results/drift/rows.jsonl
    python benchmarks/drift.py table

ROOT holds a folder for each of `SOURCES`, with images/ and the lists train.txt, val.txt and test.txt, and
isic_archive_51 with images/. False alarms: the images of a source are dealt anew into parts of the sizes of its lists,
and sets of 30 images are drawn from the new test part. Found changes: the reference is made of the official training
and validation parts, and sets of 30 are drawn from the changed or foreign images. Descriptors are kept in CACHE.
"""

import argparse
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from guidino_cli.data.readers import read
from guidino_cli.engine.drift.descriptors import describe_pixels, load_instrument
from guidino_cli.engine.drift.distances import LEVEL, image_drift, set_drift
from guidino_cli.engine.drift.reference import DriftReference

SIZE, DEALS, SETS_A_DEAL, SETS = 30, 40, 3, 20
FEW = 20
"""Images of a set where there are only 28."""
SOURCES = {"polyps": "kvasir_seg", "skin lesions": "isic_merged_256", "ultrasound": "ddti", "nuclei": "dsb2018"}
Changed = Callable[[Image.Image], Image.Image]


def _jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=20)
    return Image.open(io.BytesIO(file.getvalue())).convert("RGB")


CHANGES: dict[str, Changed] = {
    "": lambda image: image,
    "blur, sigma 1 px": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "blur, sigma 2 px": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "JPEG, quality 20": _jpeg,
}
# Reference, folder and part of the new images, and how they are changed.
FOUND: list[tuple[str, str, str, str]] = [
    ("polyps", "kvasir_seg", "test", "blur, sigma 1 px"),
    ("polyps", "kvasir_seg", "test", "blur, sigma 2 px"),
    ("polyps", "kvasir_seg", "test", "JPEG, quality 20"),
    ("polyps", "isic_merged_256", "test", ""),
    ("polyps", "ddti", "test", ""),
    ("skin lesions", "isic_archive_51", "all", ""),
    ("skin lesions", "isic_merged_256", "test", "JPEG, quality 20"),
    ("ultrasound", "ddti", "test", "blur, sigma 2 px"),
    ("ultrasound", "ddti", "test", "JPEG, quality 20"),
]
RESULTS = Path(__file__).parent / "results" / "drift"


class Descriptors:
    """Descriptors of the images of a part of a folder, computed once."""

    def __init__(self, root: Path, cache: Path) -> None:
        self.root, self.cache = root, cache
        self.instrument = load_instrument(torch.device("cpu"))

    def __call__(self, folder: str, part: str, change: str = "") -> np.ndarray:
        """(N, F) of the images in the order of their list."""
        path = self.cache / f"{folder}-{part}-{change.replace(' ', '')}.npy"
        if not path.is_file():
            found = [self._describe(image, change) for image in self.images(folder, part)]
            np.save(path, np.stack(found))
        return np.load(path)

    def images(self, folder: str, part: str) -> list[Path]:
        """Files of a part."""
        files = {path.stem: path for path in sorted((self.root / folder / "images").iterdir())}
        if part == "all":
            return list(files.values())
        return [files[stem] for stem in (self.root / folder / f"{part}.txt").read_text().split()]

    def _describe(self, path: Path, change: str) -> np.ndarray:
        image = CHANGES[change](Image.fromarray(read(path)[0]))
        return describe_pixels(self.instrument, np.asarray(image))


def judge(reference: DriftReference, images: np.ndarray) -> dict[str, Any]:
    """What the tables need of a set of images."""
    placed = reference.place(images)
    whole = set_drift(reference, placed)
    beyond = float((image_drift(reference, placed).distance > 1).mean())
    return {"p_value": whole.p_value, "distance": round(whole.distance, 3), "beyond": round(beyond, 3)}


def measure_same(describe: Descriptors, name: str) -> Iterator[dict[str, Any]]:
    """Sets of the source itself."""
    parts = [describe(SOURCES[name], part) for part in ("train", "val", "test")]
    images, first, second = np.concatenate(parts), len(parts[0]), len(parts[0]) + len(parts[1])
    for deal in range(DEALS):
        random = np.random.default_rng(deal)
        order = random.permutation(len(images))
        reference = DriftReference.fit(images[order[:first]], images[order[first:second]], instrument="")
        for _ in range(SETS_A_DEAL):
            chosen = random.permutation(order[second:])[:SIZE]
            yield {"source": name, "new": "the same source", **judge(reference, images[chosen])}


def measure_other(describe: Descriptors, source: str, folder: str, part: str, change: str) -> Iterator[dict[str, Any]]:
    """Sets of changed images or of another source."""
    reference = DriftReference.fit(*(describe(SOURCES[source], split) for split in ("train", "val")), instrument="")
    images = describe(folder, part, change)
    name = change or next((known for known, place in SOURCES.items() if place == folder), folder)
    for number in range(SETS):
        chosen = np.random.default_rng(number).permutation(len(images))[:SIZE]
        yield {"source": source, "new": name, **judge(reference, images[chosen])}


def measure_stains(describe: Descriptors) -> Iterator[dict[str, Any]]:
    """Nuclei: the reference knows images without colour only, and the new ones are in colour."""
    parts = ("train", "val", "test")
    images = np.concatenate([describe(SOURCES["nuclei"], part) for part in parts])
    files = [path for part in parts for path in describe.images(SOURCES["nuclei"], part)]
    is_grey = np.array([bool((np.ptp(read(path)[0].astype(int), axis=2) <= 2).all()) for path in files])
    reference = DriftReference.fit(images[is_grey], images[:0], instrument="")
    coloured = images[~is_grey]
    for number in range(SETS):
        chosen = np.random.default_rng(number).permutation(len(coloured))[:FEW]
        yield {"source": "nuclei, grey", "new": "nuclei, stained in colour", **judge(reference, coloured[chosen])}


def print_table() -> None:
    """Print the table of benchmarks/results/drift.md."""
    rows = [json.loads(line) for line in (RESULTS / "rows.jsonl").read_text().splitlines()]
    print("| source of the run | new images | sets | called drift | median distance | images beyond 1 |")
    print("|---|---|---:|---:|---:|---:|")
    for source, new in dict.fromkeys((row["source"], row["new"]) for row in rows):
        own = [row for row in rows if (row["source"], row["new"]) == (source, new)]
        share = np.mean([row["p_value"] <= LEVEL for row in own])
        distance, beyond = (np.array([row[key] for row in own]) for key in ("distance", "beyond"))
        shown = f"{100 * share:.1f} % | {np.median(distance):.2f} | {100 * beyond.mean():.1f} %"
        print(f"| {source} | {new} | {len(own)} | {shown} |")


def main() -> None:
    """Parse the command line."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    measure = commands.add_parser("measure")
    measure.add_argument("root", type=Path)
    measure.add_argument("--cache", type=Path, required=True)
    commands.add_parser("table")
    arguments = parser.parse_args()
    if arguments.command == "table":
        print_table()
        return
    describe = Descriptors(arguments.root, arguments.cache)
    for name in SOURCES:
        for row in measure_same(describe, name):
            print(json.dumps(row), flush=True)
    for what in FOUND:
        for row in measure_other(describe, *what):
            print(json.dumps(row), flush=True)
    for row in measure_stains(describe):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
