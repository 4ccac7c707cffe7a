"""Types of a discovered data set before any file is opened, and a thread pool to open the files."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from guidino_cli.data.images import IMAGE_SUFFIXES
from guidino_cli.data.label_files.regions import Drawing
from guidino_cli.data.volumes.reading import VOLUME_FILE_SUFFIXES
from guidino_cli.errors import DataError, file_errors
from guidino_cli.files import file_stem
from guidino_cli.preparation.matching import MatchResult
from guidino_cli.processes import usable_cpus
from guidino_cli.progress import pluralize, track


@dataclass(frozen=True)
class ImageMaskPair:
    """One image and its mask files.

    Attributes:
        id: Unique name of the case.
        images: One file, or one file per channel.
        masks: One file, or several to merge (a pixel is foreground if it is in any of them).
        split: Official split "train", "val" or "test", or None.
        fold: Official cross-validation fold, or None.
        group: Name of the cases that a split keeps together, or None for the case alone.
        stratum: Kind of case ("benign") that each split gets its share of, or "".
        fields: Further columns of the source table.
        series: Keys of the DICOM series of `images`, which are folders then; () for files.
        drawing: Regions of the image by a label file, which `masks` names then; None for masks.
    """

    id: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    split: str | None = None
    fold: int | None = None
    group: str | None = None
    stratum: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    series: tuple[str | None, ...] = ()
    drawing: Drawing | None = None


@dataclass(frozen=True)
class DiscoveredDataset:
    """Files of a data set as its layout arranges them.

    Attributes:
        layout: Name of the layout.
        evidence: Why the layout was recognised, in one sentence.
        pairs: Sorted by id.
        unmatched_images: Images without a mask.
        unmatched_masks: Masks without an image.
        collisions: Groups of files with ambiguous names.
        notes: Files that were left out on purpose, and why.
        unused_parts: Folders named as a part of a split (`test2/imgs`) of which no file is used.
        needs_merging: Whether images have several masks that are merged only if the user asks for it.
        class_names: Named by the data set itself, background first; None if it does not name them.
        official: Where the official split comes from, or "" without one.
        ignore_label: Mask value of pixels that do not count, by the data set itself.
        is_volumes: Whether the files are volumes.
        channels: Names of the channels of volumes; () for images.
        label_values: Mask value -> class index, where the data set itself tells it of volumes.
        incomplete: Cases that lack a channel, each with the names of those.
        missing_images: Images that label files name and that are not there.
    """

    layout: str
    evidence: str
    pairs: list[ImageMaskPair]
    unmatched_images: list[Path] = field(default_factory=list)
    unmatched_masks: list[Path] = field(default_factory=list)
    collisions: list[tuple[Path, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    class_names: tuple[str, ...] | None = None
    official: str = ""
    unused_parts: list[Path] = field(default_factory=list)
    needs_merging: bool = False
    ignore_label: int | None = None
    is_volumes: bool = False
    channels: tuple[str, ...] = ()
    label_values: dict[int, int] | None = None
    incomplete: list[str] = field(default_factory=list)
    missing_images: list[str] = field(default_factory=list)

    @property
    def is_drawn(self) -> bool:
        """Whether masks are drawn from the regions of label files."""
        return any(pair.drawing is not None for pair in self.pairs)


@dataclass(frozen=True)
class MatchedFolders:
    """A folder of images matched with its folder of masks: official split, prefix of the case ids, stratum."""

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
    """Merge several pairs of folders into one data set.

    Ids get the prefix of their folders if a name occurs in several (as in TN3K, where each counts from 0000).
    """
    stems = [stem.lower() for part in parts for stem, _, _ in part.matches.pairs]
    prefixed = always_prefix or len(set(stems)) < len(stems)
    pairs = [
        ImageMaskPair(_case_id(part, stem, prefixed), (image,), masks, split=part.split, stratum=part.stratum)
        for part in parts
        for stem, image, masks in part.matches.pairs
    ]
    pairs = [replace(pair, group=f"{pair.stratum}/{pair.id}") if pair.stratum else pair for pair in pairs]
    return DiscoveredDataset(
        layout,
        evidence,
        sorted(pairs, key=lambda pair: pair.id),
        [path for part in parts for path in part.matches.unmatched_images],
        [path for part in parts for path in part.matches.unmatched_masks],
        [files for part in parts for files in part.matches.collisions],
        list(notes),
        official=official,
        needs_merging=any(part.matches.is_several for part in parts),
    )


def _case_id(part: MatchedFolders, stem: str, prefixed: bool) -> str:
    return f"{part.prefix}_{stem}" if prefixed and part.prefix else stem


def apply_split_lists(dataset: DiscoveredDataset, folder: Path) -> DiscoveredDataset:
    """Apply the lists of names `train.txt`, `val.txt`, `test.txt` in the folder, if there are any.

    Cases in no list are left out if there is a `train.txt`; else they keep no split, and are what can be trained on.

    Raises:
        DataError: A name in two lists, or in none of the folders.
    """
    lists = {split: folder / f"{split}.txt" for split in ("train", "val", "test")}
    lists = {split: path for split, path in lists.items() if path.is_file()}
    if not lists or dataset.official:
        return dataset
    split_of: dict[str, str] = {}
    for split, path in lists.items():
        for stem in read_split_list(path):
            if split_of.setdefault(stem, split) != split:
                raise DataError(f"{path}: {stem} is also in {split_of[stem]}.txt; a case has one split")
    stems = {file_stem(path) for pair in dataset.pairs for path in pair.images}
    stems |= {pair.id for pair in dataset.pairs if dataset.is_volumes}
    stems |= {file_stem(path) for path in dataset.unmatched_images} | {
        file_stem(path) for files in dataset.collisions for path in files
    }
    missing = sorted(set(split_of) - stems)
    if missing:
        names = ", ".join(missing[:10])
        raise DataError(f"{folder}: the split lists name {pluralize(len(missing), 'image')} not there: {names}")
    # Volumes of several channels are listed by the name of the case.
    by_id = split_of if dataset.is_volumes else {}
    pairs = [replace(pair, split=split_of.get(file_stem(pair.images[0]), by_id.get(pair.id))) for pair in dataset.pairs]
    left = [pair.id for pair in pairs if pair.split is None]
    notes = list(dataset.notes)
    if left and "train" in lists:
        notes.append(f"images in no split list, left out: {len(left)} ({', '.join(left[:5])})")
        pairs = [pair for pair in pairs if pair.split is not None]
    return replace(dataset, pairs=pairs, notes=notes, official=", ".join(path.name for path in lists.values()))


def read_split_list(path: Path) -> list[str]:
    """Read the stems in a list of names: one a line, with or without folder and suffix; further columns are ignored."""
    return [_stem(line) for line in read_names(path)]


def read_names(path: Path) -> list[str]:
    """Read a text file of names, one per line; empty lines and those that begin with # are left out."""
    with file_errors(path, "not a list of names", hint="save it as UTF-8 text, one name per line"):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _stem(line: str) -> str:
    known = (*IMAGE_SUFFIXES, *VOLUME_FILE_SUFFIXES)
    for separator in (",", "\t"):
        line = line.split(separator)[0].strip()
    first = line.split(" ")[0]
    # Names may hold spaces ("benign (1).png"), and a second column begins after a suffix and a space.
    line = first if first.lower().endswith(known) else line
    name = line.replace("\\", "/").rsplit("/", 1)[-1]
    return file_stem(Path(name)) if name.lower().endswith(known) else name


Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_threads(function: Callable[[Item], Result], items: Sequence[Item], description: str) -> list[Result]:
    """Apply a function to all items in threads, with a progress bar; Pillow decodes without the interpreter lock."""
    pool = ThreadPoolExecutor(max_workers=usable_cpus())
    try:
        return list(track(pool.map(function, items), total=len(items), description=description))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
