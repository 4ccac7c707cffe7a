"""From folders of volumes to folders of slices: one volume at a time, and what is done is not done again."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from guidino_cli.data.volumes import VOLUME_SUFFIXES, SliceSettings, is_volume, read_slices
from guidino_cli.errors import ConfigError, DataError, ResourceError
from guidino_cli.files import write_text

_SETTINGS_FILE = "slices.json"


@dataclass(frozen=True)
class SliceResult:
    """What became of a volume.

    Attributes:
        volume: Its path below the folder.
        slices: How many were written; None where it was done before.
        error: Why it could not be read, or None.
    """

    volume: str
    slices: int | None = None
    error: str | None = None


def find_volumes(folder: Path, *, shard: tuple[int, int] = (0, 1)) -> list[Path]:
    """NIfTI files of a folder and the folders below, sorted; of a shard (i, n) every n-th from number i on.

    Raises:
        DataError: No such folder, no volume in it, or two that would be cut into the same folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give a folder of .nii or .nii.gz files")
    found = sorted(path for path in folder.rglob("*") if is_volume(path) and path.is_file())
    if not found:
        raise DataError(f"{folder}: no .nii or .nii.gz file in it or in the folders below")
    # Of all shards: what one of them writes, another would take for its own and done.
    _require_distinct_folders(folder, found)
    return found[shard[0] :: shard[1]]


def start_folder(out: Path, settings: SliceSettings) -> None:
    """Note the settings; `ConfigError` if the folder was begun with others, since the slices would not match."""
    record, wanted = out / _SETTINGS_FILE, json.loads(json.dumps(asdict(settings)))
    if record.is_file():
        before = json.loads(record.read_text(encoding="utf-8"))
        changed = [name for name, value in wanted.items() if before.get(name) != value]
        if changed:
            name = changed[0]
            raise ConfigError(
                f"{out}: was begun with {name} {before.get(name)}, not {wanted[name]}; use the same, or another -o"
            )
        return
    if out.is_dir() and any(out.iterdir()):
        raise ConfigError(f"{out}: is not empty and holds no slices; choose another -o")
    write_text(record, json.dumps(wanted, indent=2) + "\n")


def slice_volumes(folder: Path, volumes: list[Path], out: Path, settings: SliceSettings) -> Iterator[SliceResult]:
    """Write `out/VOLUME/NUMBER.png` for each volume; its folder appears when all its slices are in it.

    Raises:
        ResourceError: The disk is full or the place cannot be written.
    """
    for path in volumes:
        name = path.relative_to(folder).as_posix()
        place = out / _strip_suffix(name)
        if place.is_dir():
            yield SliceResult(name)
            continue
        try:
            yield SliceResult(name, slices=_write_slices(path, place, settings))
        except DataError as error:
            yield SliceResult(name, error=str(error))


def _write_slices(path: Path, place: Path, settings: SliceSettings) -> int:
    temporary = place.with_name(f".{place.name}.{os.getpid()}.tmp")
    count = 0
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        for count, (number, pixels) in enumerate(read_slices(path, settings), start=1):  # noqa: B007
            Image.fromarray(pixels).save(temporary / f"{number:04d}.png", compress_level=3)
        os.replace(temporary, place)
    except OSError as error:
        raise ResourceError(
            f"{place}: cannot be written ({error.strerror or error}); free some space, then run it again"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return count


def _require_distinct_folders(folder: Path, volumes: list[Path]) -> None:
    """`DataError` where two volumes would be cut into one folder, or one into a folder that holds another's."""
    taken: dict[str, str] = {}
    for name in (path.relative_to(folder).as_posix() for path in volumes):
        stem = _strip_suffix(name)
        if stem in taken:
            raise DataError(f"{folder}: {taken[stem]} and {name} would both be cut into {stem}/; rename or remove one")
        taken[stem] = name
    for stem, name in taken.items():
        outer = next((above for above in map(str, PurePosixPath(stem).parents) if above in taken), None)
        if outer is not None:
            raise DataError(f"{folder}: {taken[outer]} would be cut into {outer}/, as would {name}; rename one of them")


def _strip_suffix(name: str) -> str:
    return next(name[: -len(suffix)] for suffix in VOLUME_SUFFIXES if name.lower().endswith(suffix))
