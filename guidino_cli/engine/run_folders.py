"""Shared parts of run folders: the check for a new one, the JSON file with its metadata, and the history."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from guidino_cli.errors import ConfigError, DataError, ResourceError, first_line
from guidino_cli.files import remove_leftovers, write_text
from guidino_cli.json_files import read_json_object
from guidino_cli.outputs import require_output_folder
from guidino_cli.progress import log_warning


def require_new_run_folder(folder: Path, *, overwrite: bool, recognised: bool | None = None) -> None:
    """Require a folder for a new run; see `require_output_folder`."""
    hint = "resume with --resume, start again with --overwrite"
    require_output_folder(folder, overwrite=overwrite, recognised=recognised, hint=hint)


@contextmanager
def lock_run_folder(folder: Path, *, shared: bool = False, content: str = "run") -> Iterator[None]:
    """Create a run folder if needed, and keep other processes from writing to the same run.

    The system releases the lock when the process ends, however it ends. What killed processes left in the folder is
    removed, unless it is shared. On Windows nothing is locked; on a file system without locks a warning says so.

    Args:
        folder: Folder to lock.
        shared: Let other processes in that share the folder too, and only those.
        content: What the folder is called in messages.

    Raises:
        ConfigError: Another process writes to the folder.
        ResourceError: The folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{folder}: cannot be created ({error.strerror}); choose another -o") from error
    if os.name != "posix":
        yield
        return
    import fcntl

    # The folder itself is locked, so no lock file can be left behind.
    handle = os.open(folder, os.O_RDONLY)
    _held_locks.add(handle)
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise _locked_error(folder, content) from error
        except OSError as error:
            # Some network file systems have no locks; a run there must not depend on them.
            log_warning(f"{folder}: cannot be locked ({error.strerror}); let no other process write to this {content}")
        if not shared:
            remove_leftovers(folder)
        yield
    finally:
        _held_locks.discard(handle)
        os.close(handle)


def require_unlocked_run_folder(folder: Path, *, content: str = "run") -> None:
    """Refuse a run that another process writes to, before anything slow is done.

    The lock itself is taken later, when all ranks are ready: ranks that ask here do not hinder each other.

    Raises:
        ConfigError: Another process writes to the run.
    """
    if os.name != "posix" or not folder.is_dir():
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _locked_error(folder, content) from error
    except OSError:
        # `lock_run_folder` warns of a file system without locks.
        return
    finally:
        os.close(handle)


def _locked_error(folder: Path, content: str) -> ConfigError:
    return ConfigError(
        f"{folder}: another guidino process writes to this {content}; wait for it or stop it, or choose another -o"
    )


_held_locks: set[int] = set()


def _close_inherited_locks() -> None:
    """A forked worker must not hold the lock: it may outlive a killed run for some seconds."""
    for handle in _held_locks:
        os.close(handle)
    _held_locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited_locks)


def read_facts(path: Path, *, version: int, hint: str) -> dict[str, Any]:
    """Read the metadata of a run.

    Args:
        path: JSON file.
        version: Expected format.
        hint: Advice if it is damaged.

    Raises:
        DataError: Damaged, or of another format.
    """
    facts = read_json_object(path, hint=hint)
    if facts.get("format") != version:
        raise DataError(
            f"{path}: written in format {facts.get('format')!r}, this guidino reads format {version}; {hint}"
        )
    return facts


def read_history(path: Path, *, counter: str, finished: int | None = None) -> list[dict[str, Any]]:
    """Read the rows of a JSON lines file; none if it does not exist.

    Args:
        path: The file.
        counter: Name of the integer in every row that counts epochs or steps.
        finished: Skip rows with a higher counter; then the last line may be damaged, too.

    Raises:
        DataError: A line is damaged.
    """
    lines = path.read_bytes().splitlines() if path.is_file() else []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row: dict[str, Any] = json.loads(line.decode("utf-8"))
            _require_row(row, counter, before=rows[-1][counter] if rows else 0)
            rows.append(row)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if number == len(lines) and finished is not None and number > finished:
                break
            hint = "repair or remove the line (only its metrics are lost)"
            raise DataError(f"{path}, line {number}: is damaged ({first_line(error)}); {hint}") from error
    return [row for row in rows if finished is None or row[counter] <= finished]


_TEXT = {"stage"}


def _require_row(row: Mapping[str, Any], counter: str, *, before: int) -> None:
    """`ValueError` for a row that no run writes."""
    for name, value in row.items():
        kind = str if name in _TEXT else int if name == counter else (int, float)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"{name} is {value!r:.40}")
    if row[counter] <= before:
        raise ValueError(f"{counter} {row[counter]} comes after {before}")


def write_history(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as JSON lines."""
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
