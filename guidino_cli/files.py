"""Files and folders that are written whole or not at all."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from guidino_cli.errors import ResourceError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: readers see the old file or the whole new one.

    Raises:
        ResourceError: The disk is full or the place cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except OSError as error:
        _unlink(temporary)
        raise _write_error(path, error) from error
    except BaseException:
        _unlink(temporary)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomically(path, lambda place: place.write_text(text, encoding="utf-8", newline="\n"))


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder beside `path` to fill; then it takes its place, and an older folder goes with all that is in it.

    Raises:
        ResourceError: The disk is full or the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unlink(path: Path) -> None:
    # Where the folder is a file, even asking for a file in it fails.
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _write_error(path: Path, error: OSError) -> ResourceError:
    reason = error.strerror or str(error)
    return ResourceError(f"{path}: cannot be written ({reason}); free some space or choose another -o")
