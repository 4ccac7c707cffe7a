"""Cut the volumes of a folder into slices, one volume at a time; finished volumes are skipped."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from guidino_cli.data.volumes.nifti import is_volume
from guidino_cli.data.volumes.slices import SliceSettings, cut_slices, open_grey_volume
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import atomic_folder, file_stem, is_dead_link, write_text
from guidino_cli.json_files import read_json_object
from guidino_cli.outputs import require_output_folder
from guidino_cli.preparation.volume_kinds import VolumeContent, describe_other_volumes, inspect_volume

_SETTINGS_FILE = "slices.json"


@dataclass(frozen=True)
class SliceResult:
    """The outcome for one volume.

    Attributes:
        volume: Its path relative to the source folder.
        slices: Number of slices written; None if it was done before.
        error: Why it could not be read, or None.
        content: Its values; None if it was done before or could not be read.
        white: Share of the pixels of its slices that are white (255), in [0, 1].
        is_left_out: Whether it was left out as a label map.
    """

    volume: str
    slices: int | None = None
    error: str | None = None
    content: VolumeContent | None = None
    white: float = 0.0
    is_left_out: bool = False


def find_volumes(folder: Path, *, shard: tuple[int, int] = (0, 1)) -> list[Path]:
    """NIfTI files of a folder and the folders below, sorted; of a shard (i, n) every n-th from number i on.

    Raises:
        DataError: No such folder, no volume in it, or two that would be cut into the same folder.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give a folder of .nii or .nii.gz files")
    # A dead link stands for a lost volume, which must not go unnoticed.
    volumes = sorted(path for path in folder.rglob("*") if is_volume(path) and (path.is_file() or is_dead_link(path)))
    if not volumes:
        others = describe_other_volumes(folder)
        hint = f"; found {others}" if others else ""
        raise DataError(f"{folder}: no .nii or .nii.gz file in it or in the folders below{hint}")
    # Checked over all shards: a shard would take a folder that another one wrote for its own finished work.
    _require_distinct_folders(folder, volumes)
    return volumes[shard[0] :: shard[1]]


def find_misnamed_folders(folder: Path) -> list[str]:
    """Folders named like a NIfTI file that hold none, relative to the folder."""
    folders = sorted(path for path in folder.rglob("*") if is_volume(path) and path.is_dir())
    return [
        path.relative_to(folder).as_posix()
        for path in folders
        if not any(is_volume(below) for below in path.rglob("*"))
    ]


def start_folder(out: Path, settings: SliceSettings) -> None:
    """Record the settings in the folder; `ConfigError` if it was started with others, since slices would not match."""
    record, wanted = out / _SETTINGS_FILE, json.loads(json.dumps(asdict(settings)))
    if record.is_file():
        before = read_json_object(record, hint="choose another -o")
        changed = [name for name, value in wanted.items() if before.get(name) != value]
        if changed:
            name = changed[0]
            raise ConfigError(
                f"{out}: was begun with {name} {before.get(name)}, not {wanted[name]}; use the same, or another -o"
            )
        return
    require_output_folder(out, overwrite=False, recognised=False)
    write_text(record, json.dumps(wanted, indent=2) + "\n")


def slice_volumes(
    folder: Path, volumes: list[Path], out: Path, settings: SliceSettings, *, keep_label_maps: bool = False
) -> Iterator[SliceResult]:
    """Write `out/VOLUME/NUMBER.png` for each volume; a folder appears once all slices are in it.

    Label maps are left out unless `keep_label_maps` is true.

    Raises:
        ResourceError: The disk is full or the folder cannot be written.
    """
    for path in volumes:
        name = path.relative_to(folder).as_posix()
        target = out / _strip_suffix(name)
        if target.is_dir():
            yield SliceResult(name)
            continue
        try:
            yield _slice_volume(path, target, SliceResult(name), settings, keep_label_maps=keep_label_maps)
        except DataError as error:
            yield SliceResult(name, error=str(error))


def _slice_volume(
    path: Path, folder: Path, result: SliceResult, settings: SliceSettings, *, keep_label_maps: bool
) -> SliceResult:
    if is_dead_link(path):
        raise DataError(f"{path}: is a link to {path.readlink()}, which does not exist; restore the file or remove it")
    volume = open_grey_volume(path)
    if volume.stored.dtype.kind == "f" and np.isnan(volume.stored).all():
        raise DataError(f"{path}: all its voxels are NaN, expected intensities; export it again or remove it")
    content = inspect_volume(volume)
    if content.label_count is not None and not keep_label_maps:
        return replace(result, content=content, is_left_out=True)
    count, pixels, white = 0, 0, 0
    with atomic_folder(folder, hint="free some space, then run it again") as temporary:
        for number, picture in cut_slices(volume, settings):
            Image.fromarray(picture).save(temporary / f"{number:04d}.png", compress_level=3)
            count, pixels, white = count + 1, pixels + picture.size, white + int(np.count_nonzero(picture == 255))
    return replace(result, content=content, slices=count, white=white / max(pixels, 1))


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
    path = PurePosixPath(name)
    return path.with_name(file_stem(path)).as_posix()
