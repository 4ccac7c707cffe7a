"""Error classes with their exit codes, and messages for unknown names."""

import errno
import re
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from pathlib import Path

EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "a bug in guidino; GUIDINO_DEBUG=1 shows the traceback",
    2: "the command line or a setting is invalid",
    3: "an image, mask or folder cannot be used",
    4: "weights are missing, gated, or made for another model",
    5: "an optional package is missing",
    6: "finished, but some cases failed; they are listed",
    7: "out of memory or disk space",
    8: "a quality gate failed",
    130: "interrupted; what was done is saved",
    143: "training ended by SIGTERM; what was done is saved",
}


# Longer lists of names are not printed in full.
_MANY = 12


class UserError(Exception):
    """An error that the user can fix; its message is one line: what was given, what was expected, what to do.

    Attributes:
        exit_code: Exit code of the process.
        option: Option that lets the same command succeed, "" if there is none; `main` prints the command with it.
    """

    exit_code = 1
    option = ""


class ConfigError(UserError):
    """The command line or a setting is invalid."""

    exit_code = 2


class DataError(UserError):
    """An image, mask or folder cannot be used."""

    exit_code = 3


class WeightsError(UserError):
    """Weights are missing, gated, or of another model."""

    exit_code = 4


class DependencyError(UserError):
    """An optional package is missing."""

    exit_code = 5


class PartialError(UserError):
    """The work finished, but some cases failed."""

    exit_code = 6


class ResourceError(UserError):
    """Memory or disk space ran out."""

    exit_code = 7


class GateError(UserError):
    """Scores are written, but a quality gate failed."""

    exit_code = 8


class StoppedError(UserError):
    """A signal stopped the work between two steps; its state is saved."""

    def __init__(self, message: str, *, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[object, ...]:
        return partial(StoppedError, exit_code=self.exit_code), self.args


_OUT_OF_MEMORY = (
    "out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory",
    # cuBLAS and cuDNN, which allocate their workspaces themselves.
    "status_alloc_failed",
)  # fmt: skip


def is_out_of_memory(error: BaseException) -> bool:
    """Whether Python, the system, torch (RuntimeError, or OutOfMemoryError of a GPU) or CUDA ran out of memory.

    Not by the word "memory" alone: an "illegal memory access" is a bug.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    is_candidate = isinstance(error, RuntimeError | OSError)
    return is_candidate and any(phrase in str(error).lower() for phrase in _OUT_OF_MEMORY)


@contextmanager
def explain_out_of_memory(advice: str) -> Iterator[None]:
    """Turn memory that ran out into a `ResourceError` that ends with `advice`."""
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if not is_out_of_memory(error):
            raise
        raise ResourceError(f"out of memory ({first_line(error)}); {advice}") from error


LOST_RANK_CODE = 77
"""Exit code of a process of `--devices` that lost another one; the process that started them tells the cause."""
_LOST_RANK_TYPES = {"DistBackendError", "DistNetworkError", "DistStoreError"}
# Of gloo and NCCL, which raise RuntimeError too.
_LOST_RANK = (
    "connection closed by peer", "connection reset by peer", "broken pipe", "gloo/transport", "timed out waiting",
    "remote process exited", "nccl communicator was aborted", "failed to recv, got 0 bytes",
)  # fmt: skip


def is_lost_rank(error: BaseException) -> bool:
    """Whether a collective operation failed because another process of the run ended or does not answer."""
    if type(error).__name__ in _LOST_RANK_TYPES:
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in _LOST_RANK)


def as_user_error(error: BaseException) -> UserError | None:
    """The error that `main` reports: itself, memory or disk space that ran out anywhere, or None for a bug."""
    if isinstance(error, UserError):
        return error
    if is_out_of_memory(error):
        return ResourceError(
            f"out of memory ({first_line(error)}); close other programs, or choose smaller inputs or settings"
        )
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        place = f"{error.filename}: " if error.filename else ""
        return ResourceError(f"{place}cannot be written ({error.strerror}); free some space")
    if isinstance(error, OSError) and error.filename and error.errno in _REFUSED_BY_SYSTEM:
        return DataError(f"{error.filename}: cannot be used ({error.strerror}); check the path and its permissions")
    return None


# No bug: names that are too long, folders without permission, circular links, damaged or read-only disks.
_REFUSED_BY_SYSTEM = {errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EIO, errno.EROFS}


def first_line(error: BaseException) -> str:
    """First line of an error's message, at most 160 characters; its type if there is none."""
    lines = str(error).strip().splitlines()
    return lines[0][:160] if lines else type(error).__name__


_LONGEST_MESSAGE = 4000


def to_one_line(message: str) -> str:
    """A message as `main` prints it: control characters, which files may hold, escaped; the middle of long ones cut."""
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[: _LONGEST_MESSAGE // 2]} ... {message[-_LONGEST_MESSAGE // 2 :]}"
    return "".join(
        character if unicodedata.category(character) not in _UNPRINTABLE else repr(character)[1:-1]
        for character in message
    )


_UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}


@contextmanager
def file_errors(
    path: Path | str, problem: str, *, error: type[UserError] = DataError, hint: str = "replace or remove the file"
) -> Iterator[None]:
    """Turn whatever a library raises about a file into an error that names the file.

    Libraries let many kinds through that they do not document: of struct, zlib, yaml's constructors, recursion. A
    `UserError` passes, and so does memory that ran out.

    Args:
        path: The file that is read, or another name of the text's origin.
        problem: What is wrong with it where a library fails, such as "cannot be read as an image".
        error: Class of the error.
        hint: Advice at the end of the message.
    """
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as cause:
        if is_out_of_memory(cause):
            raise
        if isinstance(cause, OSError) and cause.strerror:
            raise error(f"{path}: cannot be read ({cause.strerror}); {hint}") from cause
        raise error(f"{path}: {problem} ({_describe_cause(cause)}); {hint}") from cause


def _describe_cause(cause: Exception) -> str:
    if isinstance(cause, RecursionError):
        return "nested too deep"
    if isinstance(cause, UnicodeDecodeError):
        return f"not UTF-8 text at byte {cause.start}"
    if isinstance(cause, UnicodeEncodeError):
        return "text with half of a surrogate pair"
    return first_line(cause)


def unknown_name(kind: str, name: str, known: Iterable[str], *, lister: str = "") -> str:
    """Message for a name that does not exist: `unknown preset 'unte'; did you mean 'unet'? (known: ...)`.

    Args:
        kind: Kind of thing that was named.
        name: What was typed.
        known: The names that exist.
        lister: Command that lists them; the message names it instead of a long list, and suggests three names.
    """
    names = sorted(known)
    is_long = bool(lister) and len(names) > _MANY
    near = [f"'{item}'" for item in closest_names(name, names, count=3 if is_long else 1)]
    hint = f"; did you mean {' or '.join(filter(None, (', '.join(near[:-1]), near[-1])))}?" if near else ""
    listing = f"`{lister}` lists all" if is_long else f"known: {', '.join(names) or 'none'}"
    return f"unknown {kind} '{name}'{hint} ({listing})"


def closest_names(name: str, known: Iterable[str], *, count: int = 1, cutoff: float = 0.5) -> list[str]:
    """Names that may have been meant, best first: those that contain all its words, then those of similar spelling.

    Args:
        name: What was typed.
        known: The names that exist.
        count: Maximum number of names.
        cutoff: Minimum similarity of the spelling, 0 to 1.
    """
    names = list(known)
    words = _words(name)
    same_words = [item for item in names if words <= _words(item)] if words and len(name) > 1 else []
    found = [*get_close_matches(name, same_words, n=count, cutoff=0.0), *get_close_matches(name, names, count, cutoff)]
    return list(dict.fromkeys(found))[:count]


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", name.lower())) - {""}
