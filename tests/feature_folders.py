"""Folders of features made of arrays, for tests of probes: no backbone has to run."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from guidino_cli.data.feature_folder import ABOUT_FILE, FORMAT, NO_SPLIT, FeatureItem, write_items
from guidino_cli.data.labelled.items import LabelledItem


def write_features(
    folder: Path,
    items: Sequence[LabelledItem],
    vectors: Mapping[str, np.ndarray],
    classes: Sequence[str],
    *,
    multilabel: bool = False,
    counts: Sequence[int] | None = None,
    name: str = "guidino-tiny",
) -> Path:
    """Write a complete folder; `vectors` (N, D) of each kind in the order of the items."""
    counts = counts or [1] * len(items)
    owners = np.repeat(np.arange(len(items)), counts)
    starts: dict[str, int] = {}
    entries = []
    for item, count in zip(items, counts, strict=True):
        starts.setdefault(item.split, 0)
        entries.append(FeatureItem(item, (8, 8), starts[item.split], count))
        starts[item.split] += count
    for split in starts:
        chosen = np.array([items[owner].split == split for owner in owners])
        for kind, rows in vectors.items():
            path = folder / (split or NO_SPLIT) / f"{kind}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, rows[chosen].astype(np.float16))
    write_items(folder, entries, classes, is_multilabel=multilabel, root=folder)
    settings = {"token": "mean", "layers": 1, "px": "28", "every": 1, "window": None, "orientation": None}
    about = {
        "format": FORMAT, "complete": True, "source": "made", "root": str(folder), "classes": list(classes),
        "multilabel": multilabel, "kinds": list(vectors), "items_sha256": "",
        "backbone": {"name": name, "sha256": "0" * 64}, "settings": settings,
    }  # fmt: skip
    (folder / ABOUT_FILE).write_text(json.dumps(about))
    return folder


def draw_items(folder: Path, count: int, *, classes: int = 2, split: bool = True, seed: int = 0) -> list[LabelledItem]:
    """Items of random classes with pictures; two thirds train, the rest test, or no split."""
    generator = np.random.default_rng(seed)
    items = []
    for number in range(count):
        path = folder / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 40 + number % 200).save(path)
        part = ("test" if number % 3 == 2 else "train") if split else ""
        name = path.name
        items.append(LabelledItem(name, path, (int(generator.integers(classes)),), part, name))
    return items


def draw_vectors(items: Sequence[LabelledItem], *, signal: float = 2.0, seed: int = 1) -> dict[str, np.ndarray]:
    """Vectors of all three kinds: classes lie apart for the backbone, hardly for the random network."""
    generator = np.random.default_rng(seed)
    labels = np.array([max(item.labels[0], 0) for item in items])
    centres = generator.normal(size=(labels.max() + 1, 12))
    return {
        kind: centres[labels] * strength + generator.normal(size=(len(items), 12))
        for kind, strength in (("backbone", signal), ("random", 0.1), ("pixels", 0.3))
    }


def without_labels(items: Sequence[LabelledItem], count: int) -> list[LabelledItem]:
    """Copies of the first few items under other names, of which no label is known."""
    return [
        replace(item, id=f"unknown-{item.id}", group=f"unknown-{item.id}", labels=(-1,) * len(item.labels))
        for item in items[:count]
    ]
