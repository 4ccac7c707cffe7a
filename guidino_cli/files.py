"""Atomic writes of files and folders, removal of what killed processes left, and SHA-256 of files."""

import hashlib
import os
import re
import shutil
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath

from guidino_cli.errors import ResourceError

_RESERVED_NAMES = {"CON", "PRN", "AUX", "NUL"} | {
    f"{port}{number}" for port in ("COM", "LPT") for number in range(1, 10)
}
_DOUBLE_EXTENSION = ".nii.gz"
MAX_NAME_BYTES = 200
"""Longest stem of a file that is written; file systems allow 255 bytes, temporary names and suffixes need the rest."""


def file_stem(path: PurePath) -> str:
    """The name of a file without its extension; `.nii.gz` is one extension."""
    return path.name[: -len(_DOUBLE_EXTENSION)] if path.name.lower().endswith(_DOUBLE_EXTENSION) else path.stem


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it: readers see the old file or the whole new one.

    Raises:
        ResourceError: The disk is full or the path cannot be written.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        _unlink(temporary)
        if not _is_write_error(error):
            raise
        raise _write_error(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically; bytes of file names that are not UTF-8 become an escape such as \\udce9."""
    content = text.encode("utf-8", errors="backslashreplace")
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


@contextmanager
def atomic_folder(path: Path, *, hint: str = "free some space or choose another -o") -> Iterator[Path]:
    """Yield a new folder beside `path` to fill; on success it replaces `path` with everything that was in it.

    Args:
        path: Folder to create or replace.
        hint: Advice at the end of the error message.

    Raises:
        ResourceError: The disk is full or the path cannot be written; an older folder stays as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        _swap_folders(temporary, path)
    except Exception as error:
        if not _is_write_error(error):
            raise
        raise _write_error(path, error, hint) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# What `write_atomically` and `atomic_folder` leave if their process is killed: .STEM.PID.tmp.SUFFIX, .NAME.PID.old
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<process>[1-9]\d*)\.(?P<kind>tmp|old)(\.[^.]+)?")
# Deepest of the files that guidino writes: guides/class_1/.NAME.PID.tmp.png
_DEPTH = 3


def remove_leftovers(folder: Path, *, older_than: float = 0.0) -> list[Path]:
    """Remove temporary files in a folder, and temporary folders beside it, whose process has ended.

    Args:
        folder: Output folder; it need not exist.
        older_than: Age in seconds below which they stay: on a shared disk, a process of another machine may be alive.

    Returns:
        What was removed.
    """
    beside = [path for path in _children(folder.parent) if _belongs_to(path, folder)]
    removed = [path for path in [*beside, *_walk(folder, _DEPTH)] if _is_leftover(path, older_than)]
    for path in removed:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            _unlink(path)
    return removed


def _belongs_to(path: Path, folder: Path) -> bool:
    found = _TEMPORARY.fullmatch(path.name)
    # Without the folder itself, the old one is the only copy of its content.
    return found is not None and found["name"] == folder.name and (found["kind"] == "tmp" or folder.exists())


def _is_leftover(path: Path, older_than: float) -> bool:
    found = _TEMPORARY.fullmatch(path.name)
    if found is None or is_process_alive(int(found["process"])):
        return False
    try:
        return time.time() - path.lstat().st_mtime >= older_than
    except OSError:
        return False


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    for path in _children(folder):
        yield path
        if depth > 1 and path.is_dir() and not path.is_symlink():
            yield from _walk(path, depth - 1)


def _children(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def is_process_alive(process: int) -> bool:
    """Whether a process of this machine exists; always true on Windows, where asking would end it."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes in hexadecimal, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def lines_sha256(lines: Iterable[str]) -> str:
    """SHA-256 in hexadecimal of lines of UTF-8 text, each ended by a newline."""
    digest = hashlib.sha256()
    for line in lines:
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


def describe_damage(path: Path, kind: str, error: BaseException) -> str:
    """Why a file cannot be read, in one line: it is empty, or what a library said; `kind` such as "an image"."""
    with suppress(OSError):
        if path.stat().st_size == 0:
            return "is empty (0 bytes)"
    return f"cannot be read as {kind} ({' '.join(str(error).split())})"


def describe_unsafe_name(name: str) -> str:
    """Why a name cannot be the stem of a file in any folder; "" if it can.

    Separators and `..` would lead out of the folder, control characters (ANSI sequences, newlines) would change what a
    terminal or a list shows, and Windows reserves some names. It also has no files with one of : * ? " < > | in their
    names; other systems do. Names of more than `MAX_NAME_BYTES` bytes leave no room for suffixes.
    """
    if not name.strip() or name.startswith("."):
        return "is empty or begins with a dot"
    forbidden = '/\\:*?"<>|' if os.name == "nt" else "/\\"
    if set(name) & set(forbidden):
        return f"holds one of {' '.join(forbidden)}"
    if any(unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for character in name):
        return "holds a control character"
    if name.split(".")[0].rstrip().upper() in _RESERVED_NAMES:
        return "is a name that Windows reserves"
    count = len(name.encode())
    if count > MAX_NAME_BYTES:
        return f"has {count} bytes, expected at most {MAX_NAME_BYTES}"
    return ""


def shorten_name(name: str, *, limit: int = 60) -> str:
    """A name for a message, with its end cut off if it has more than `limit` characters."""
    return name if len(name) <= limit else f"{name[: limit - 3]}..."


def is_dead_link(path: Path) -> bool:
    """Whether a symbolic link leads to nothing; it stands for a lost file, which is an error and no absence."""
    return path.is_symlink() and not path.exists()


def relative_posix(path: Path, folder: Path) -> str:
    """The path relative to a folder, with `/` and `..` where needed."""
    return Path(os.path.relpath(path, folder)).as_posix()


def _swap_folders(temporary: Path, path: Path) -> None:
    """Move `temporary` to `path`; the older folder is deleted last, so that a failure can bring it back."""
    old = path.with_name(f".{path.name}.{os.getpid()}.old")
    if path.is_dir():
        os.replace(path, old)
    try:
        os.replace(temporary, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise
    if old.is_symlink():
        old.unlink()
    shutil.rmtree(old, ignore_errors=True)


def _unlink(path: Path) -> None:
    # Where the folder is a file, even asking for a file in it fails.
    with suppress(OSError):
        path.unlink(missing_ok=True)


# How safetensors (Rust) and torch tell of a full disk, a quota or a size limit, without an OSError.
_WRITE_ERRORS = re.compile(r"\(os error \d+\)|kind: StorageFull|code: \d+, kind|No space left|PytorchStreamWriter")


def _is_write_error(error: BaseException) -> bool:
    kind = type(error).__name__ in {"SafetensorError", "RuntimeError"}
    return isinstance(error, OSError) or (kind and _WRITE_ERRORS.search(str(error)) is not None)


def _write_error(path: Path, error: BaseException, hint: str = "free some space or choose another -o") -> ResourceError:
    reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:160]
    return ResourceError(f"{path}: cannot be written ({reason}); {hint}")
