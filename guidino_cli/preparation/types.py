"""Pairs of files that a layout finds, before any is opened; and a thread pool to open them."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from guidino_cli.errors import DataError
from guidino_cli.preparation.matching import MatchResult
from guidino_cli.progress import pluralize, track


@dataclass(frozen=True)
class Pair:
    """One image and its mask files.

    Attributes:
        id: Unique name of the case.
        images: One file, or one file a channel.
        masks: One file, or several that are merged (a pixel is foreground if any of them says so).
        split: Official part "train", "val" or "test", or None.
        fold: Official cross-validation fold, or None.
        group: What belongs together, or None for the case itself.
        stratum: Kind of case that every part should hold its share of ("benign"), or "".
        fields: What else a table says about the case, by column.
    """

    id: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    split: str | None = None
    fold: int | None = None
    group: str | None = None
    stratum: str = ""
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DiscoveredDataset:
    """The outcome of a layout.

    Attributes:
        layout: Its name.
        evidence: Why it was recognised, one sentence.
        pairs: Sorted by id.
        images: Images without a mask.
        masks: Masks without an image.
        collisions: Files whose names cannot be told apart.
        notes: What was left aside on purpose, and why.
        class_names: Given by the data set itself, the background first; None if it does not say.
        official: Where the official parts come from, or "" without any.
    """

    layout: str
    evidence: str
    pairs: list[Pair]
    images: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)
    collisions: list[tuple[Path, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    class_names: tuple[str, ...] | None = None
    official: str = ""


@dataclass(frozen=True)
class MatchedFolders:
    """One folder pair of a data set, matched: its official split, and a word for its cases' ids."""

    matches: MatchResult
    split: str | None = None
    prefix: str = ""
    stratum: str = ""


def merge_folders(
    layout: str,
    evidence: str,
    parts: Sequence[MatchedFolders],
    *,
    always_prefix: bool = False,
    notes: Sequence[str] = (),
    official: str = "",
) -> DiscoveredDataset:
    """Make one `Found` of several folder pairs.

    Ids get their part's prefix if a name occurs in several parts (as in TN3K, whose parts all count from 0000).
    """
    stems = [stem.lower() for part in parts for stem, _, _ in part.matches.pairs]
    prefixed = always_prefix or len(set(stems)) < len(stems)
    pairs = [
        Pair(_case_id(part, stem, prefixed), (image,), masks, split=part.split, stratum=part.stratum)
        for part in parts
        for stem, image, masks in part.matches.pairs
    ]
    pairs = [replace(pair, group=f"{pair.stratum}/{pair.id}") if pair.stratum else pair for pair in pairs]
    return DiscoveredDataset(
        layout,
        evidence,
        sorted(pairs, key=lambda pair: pair.id),
        [path for part in parts for path in part.matches.images],
        [path for part in parts for path in part.matches.masks],
        [files for part in parts for files in part.matches.collisions],
        list(notes),
        official=official,
    )


def _case_id(part: MatchedFolders, stem: str, prefixed: bool) -> str:
    return f"{part.prefix}_{stem}" if prefixed and part.prefix else stem


def apply_split_lists(found: DiscoveredDataset, folder: Path) -> DiscoveredDataset:
    """Apply `train.txt`, `val.txt`, `test.txt` of names beside the folders, if there are any.

    Raises:
        DataError: A name in two lists, or in none of the folders.
    """
    lists = {split: folder / f"{split}.txt" for split in ("train", "val", "test")}
    lists = {split: path for split, path in lists.items() if path.is_file()}
    if not lists or found.official:
        return found
    split_of: dict[str, str] = {}
    for split, path in lists.items():
        for stem in read_split_list(path):
            if split_of.setdefault(stem, split) != split:
                raise DataError(f"{path}: {stem} is also in {split_of[stem]}.txt; a case has one split")
    stems = {path.stem for pair in found.pairs for path in pair.images}
    stems |= {path.stem for path in found.images} | {path.stem for files in found.collisions for path in files}
    missing = sorted(set(split_of) - stems)
    if missing:
        names = ", ".join(missing[:10])
        raise DataError(f"{folder}: the split lists name {pluralize(len(missing), 'image')} not there: {names}")
    pairs = [replace(pair, split=split_of.get(pair.images[0].stem)) for pair in found.pairs]
    left = [pair.id for pair in pairs if pair.split is None]
    notes = list(found.notes)
    if left:
        notes.append(f"images in no split list, left out: {len(left)} ({', '.join(left[:5])})")
        pairs = [pair for pair in pairs if pair.split is not None]
    return replace(found, pairs=pairs, notes=notes, official=", ".join(path.name for path in lists.values()))


def read_split_list(path: Path) -> list[str]:
    """Stems in a list of names: one a line, with or without folder and suffix; a second column is ignored."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a list of names ({error})") from error
    return [_stem(line.strip()) for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _stem(line: str) -> str:
    known = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
    for separator in (",", "\t"):
        line = line.split(separator)[0].strip()
    first = line.split(" ")[0]
    # Names may hold spaces ("benign (1).png"), and a second column begins after a suffix and a space.
    line = first if first.lower().endswith(known) else line
    name = line.replace("\\", "/").rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[0] if name.lower().endswith(known) else name


Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item], description: str) -> list[Result]:
    """Apply a function to all items and show a bar: Pillow decodes without the interpreter lock."""
    pool = ThreadPoolExecutor(max_workers=os.cpu_count())
    try:
        return list(track(pool.map(function, items), total=len(items), description=description))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
