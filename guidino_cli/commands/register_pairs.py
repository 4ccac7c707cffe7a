"""The pairs that `guidino register` is given: two files, or a table of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import describe_unsafe_name, file_stem
from guidino_cli.options.registration import RegisterOptions
from guidino_cli.tables import path_of_cell, read_csv

_REQUIRED, _OPTIONAL = ("fixed", "moving"), ("name", "fixed_mask", "moving_mask")
_FEWEST = 2


@dataclass(frozen=True)
class PairFiles:
    """Files of a pair.

    Attributes:
        name: Of the pair, and of its folder.
        fixed: Image that stays.
        moving: Image that is brought to it.
        fixed_mask: Labels of the fixed image; None if the pair has no labels.
        moving_mask: Likewise; both are given or none.
    """

    name: str
    fixed: Path
    moving: Path
    fixed_mask: Path | None = None
    moving_mask: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """All files."""
        return [path for path in (self.fixed, self.moving, self.fixed_mask, self.moving_mask) if path is not None]


@dataclass(frozen=True)
class TrainingFiles:
    """What a network that registers learns from: images, or pairs of them.

    Attributes:
        images: Of a folder, any two of which are a pair; empty for a table.
        pairs: Fixed and moving image of each row of a table; empty for a folder.
    """

    images: tuple[Path, ...] = ()
    pairs: tuple[tuple[Path, Path], ...] = ()

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return len(self.pairs) or len(self.images) * (len(self.images) - 1)

    @property
    def paths(self) -> list[Path]:
        """All files, in order."""
        return [*self.images, *(path for pair in self.pairs for path in pair)]


def stamp_files(paths: Iterable[Path]) -> list[list[Any]]:
    """Place, size and time of the last change of each file, by which files are told from those of an earlier run."""
    stamps: list[list[Any]] = []
    for path in paths:
        found = path.stat() if path.exists() else None
        stamps.append([str(path.resolve()), *([] if found is None else [found.st_size, found.st_mtime_ns])])
    return stamps


def is_table(path: Path) -> bool:
    """Whether an argument is a table of pairs by its name."""
    return path.suffix.lower() in {".csv", ".tsv"}


def collect_pairs(fixed: Path, moving: Path | None, options: RegisterOptions) -> list[PairFiles]:
    """The pairs to register.

    Raises:
        ConfigError: One image, a table together with an image, or labels of one image only.
        DataError: The table cannot be read, has no pairs, lacks a column or a cell, names two pairs alike, or holds
            2-D images and volumes.
    """
    if moving is not None:
        if is_table(fixed):
            raise ConfigError(f"{fixed}: is a table of pairs and names both images: leave {moving} out")
        _require_both(options.fixed_mask, options.moving_mask, "--fixed-mask", "--moving-mask", source="")
        name = f"{file_stem(moving)}-to-{file_stem(fixed)}"
        return [PairFiles(name, fixed, moving, options.fixed_mask, options.moving_mask)]
    if not is_table(fixed):
        raise ConfigError(f"{fixed}: the image to bring to it is missing: guidino register FIXED MOVING -o OUT")
    if options.fixed_mask is not None or options.moving_mask is not None:
        raise ConfigError(f"--fixed-mask and --moving-mask are for two images; {fixed} has columns of these names")
    return _read_table(fixed)


def _read_table(path: Path) -> list[PairFiles]:
    headings, rows = read_csv(path)
    if missing := [name for name in _REQUIRED if name not in headings]:
        known = ", ".join((*_REQUIRED, *_OPTIONAL))
        raise DataError(f"{path}: has no column {missing[0]} (found {', '.join(headings) or 'none'}); columns: {known}")
    if not rows:
        raise DataError(f"{path}: has a heading line and no pairs")
    pairs = [_read_row(path, number, row) for number, row in enumerate(rows, start=1)]
    _require_distinct(path, pairs)
    _require_one_unit(path, pairs)
    return pairs


def _read_row(path: Path, number: int, row: dict[str, str]) -> PairFiles:
    cells = {key: row.get(key, "").strip() for key in (*_REQUIRED, *_OPTIONAL)}
    for key in _REQUIRED:
        if not cells[key]:
            raise DataError(f"{path}: pair {number} has no {key} image")
    fixed_mask, moving_mask = (
        path_of_cell(path.parent, cells[key]) if cells[key] else None for key in ("fixed_mask", "moving_mask")
    )
    source = f"{path}: pair {number}: "
    _require_both(fixed_mask, moving_mask, "fixed_mask", "moving_mask", source=source)
    fixed, moving = (path_of_cell(path.parent, cells[key]) for key in _REQUIRED)
    name = cells["name"] or f"{file_stem(moving)}-to-{file_stem(fixed)}"
    if reason := describe_unsafe_name(name):
        raise DataError(f"{path}: pair {number} has a name that {reason}; give it another one in column name")
    return PairFiles(name, fixed, moving, fixed_mask, moving_mask)


def _require_both(first: Path | None, second: Path | None, one: str, other: str, *, source: str) -> None:
    if (first is None) == (second is None):
        return
    given, lacking = (one, other) if second is None else (other, one)
    error = DataError if source else ConfigError
    raise error(f"{source}{given} is given without {lacking}; scores compare the labels of both images")


def _require_distinct(path: Path, pairs: Sequence[PairFiles]) -> None:
    seen: dict[str, int] = {}
    for number, pair in enumerate(pairs, start=1):
        # Some file systems do not tell upper from lower case.
        first = seen.setdefault(pair.name.lower(), number)
        if first != number:
            raise DataError(
                f"{path}: pairs {first} and {number} are both called {pair.name}; name them in a column name"
            )


def _require_one_unit(path: Path, pairs: Sequence[PairFiles]) -> None:
    """Require 2-D images only, or volumes only: no mean is in pixels and millimetres."""
    from guidino_cli.data.images import is_image

    image, volume = (next((pair for pair in pairs if is_image(pair.fixed) is kind), None) for kind in (True, False))
    if image is not None and volume is not None:
        raise DataError(
            f"{path}: mixes 2-D images, measured in px (pair {image.name}), and volumes, measured in mm (pair "
            f"{volume.name}); split it into a table of each"
        )


def collect_training_files(data: Path) -> TrainingFiles:
    """Images of a folder, from any two of which a network may learn, or fixed and moving image of each pair of a table.

    Raises:
        ConfigError: Neither a folder nor a table.
        DataError: A folder with less than two images, or a table that cannot be read.
    """
    if data.is_dir():
        from guidino_cli.data.images import is_image
        from guidino_cli.data.volumes.reading import is_volume_file

        found = sorted(path for path in data.iterdir() if path.is_file() and (is_image(path) or is_volume_file(path)))
        if len(found) < _FEWEST:
            raise DataError(f"{data}: has {len(found) or 'no'} images, expected {_FEWEST} at least")
        return TrainingFiles(images=tuple(found))
    if not is_table(data):
        raise ConfigError(f"{data}: expected a folder of images, or a .csv with columns fixed and moving")
    return TrainingFiles(pairs=tuple((pair.fixed, pair.moving) for pair in _read_table(data)))
