"""Records of images and masks by which a file that was replaced after `guidino prepare` is noticed."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from guidino_cli.data.manifest import MANIFEST_NAME
from guidino_cli.errors import DataError
from guidino_cli.files import file_sha256
from guidino_cli.processes import usable_cpus
from guidino_cli.progress import join_first, log_warning, pluralize, track
from guidino_cli.types import Case, FileRecord


def record_file(path: Path, *, with_time: bool) -> FileRecord:
    """Record the current size, time and hash of a file.

    Args:
        path: A file that exists.
        with_time: Record its time, too, by which it can be recognised without reading it.
    """
    # First: a change while the file is read makes the record older than the file, not younger.
    found = path.stat()
    return FileRecord(found.st_size, file_sha256(path), found.st_mtime_ns if with_time else None)


def find_changed_files(cases: Iterable[Case], data: Path, *, images: bool = True, masks: bool = True) -> list[Path]:
    """Files of cases that are not those that were prepared; files without a record are not checked.

    A file is taken for unchanged if its size and time are those of the record and nothing was done to it since
    `cases.json` was written; otherwise its hash decides, as it does in a folder that was copied. Missing files are left
    to their readers.

    Args:
        cases: Cases of a manifest.
        data: The prepared folder, or its `cases.json`.
        images: Check images.
        masks: Check masks.
    """
    records = [
        pair
        for case in cases
        for pair in ([(case.image, case.image_record)] if images else [])
        + ([(case.mask, case.mask_record)] if masks else [])
    ]
    return _find_changed([(path, record) for path, record in records if path and record], data)


def require_unchanged_files(
    cases: Iterable[Case], data: Path, *, images: bool = True, masks: bool = True, only_warn: bool = False
) -> None:
    """Require that the files of cases are those that were prepared, as `find_changed_files` finds out.

    Args:
        cases: Cases of a manifest.
        data: The prepared folder, or its `cases.json`.
        images: Check images.
        masks: Check masks.
        only_warn: Print a warning instead.

    Raises:
        DataError: Some have changed; the first of them are named.
    """
    changed = find_changed_files(cases, data, images=images, masks=masks)
    if not changed:
        return
    names = join_first([str(path) for path in changed], limit=3)
    verb = "has" if len(changed) == 1 else "have"
    text = f"{data}: {pluralize(len(changed), 'file')} {verb} changed since `guidino prepare` ({names})"
    if only_warn:
        log_warning(text)
        return
    raise DataError(f"{text}; run `guidino prepare` again")


def _find_changed(records: Sequence[tuple[Path, FileRecord]], data: Path) -> list[Path]:
    manifest = data if data.name == MANIFEST_NAME else data / MANIFEST_NAME
    prepared_ns = manifest.stat().st_ctime_ns
    with ThreadPoolExecutor(max_workers=usable_cpus()) as pool:
        states = pool.map(lambda item: _is_changed(*item, prepared_ns=prepared_ns), records)
        progress = track(states, total=len(records), description="checking files")
        return [path for (path, _), is_changed in zip(records, progress, strict=True) if is_changed]


def _is_changed(path: Path, record: FileRecord, *, prepared_ns: int) -> bool:
    try:
        found = path.stat()
        if found.st_size != record.size:
            return True
        # A program that replaces a file may give it the old time (cp -p, touch -r), but not the time of its inode.
        if found.st_mtime_ns == record.mtime_ns and found.st_ctime_ns < prepared_ns:
            return False
        return file_sha256(path) != record.sha256
    except OSError:
        return False
