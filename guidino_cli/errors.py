"""What a user can do wrong, and the exit code each kind ends with."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from functools import partial

EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "a bug in guidino; GUIDINO_DEBUG=1 shows the traceback",
    2: "the command line or a setting cannot be used",
    3: "an image, mask or folder cannot be used",
    4: "weights are missing, gated, or made for another model",
    5: "an optional package is missing",
    6: "finished, but some cases failed; they are listed",
    7: "out of memory or disk space",
    8: "a quality gate did not hold",
    130: "interrupted; what was done is saved",
    143: "training ended by SIGTERM; what was done is saved",
}


# As many names as are read at a glance.
_MANY = 12


class UserError(Exception):
    """Something the user can put right. The message is one line: what came, what was expected, what to do."""

    exit_code = 1


class ConfigError(UserError):
    """The words or settings cannot be used."""

    exit_code = 2


class DataError(UserError):
    """An image, mask or folder cannot be used."""

    exit_code = 3


class WeightsError(UserError):
    """Weights are missing, gated, or made for another model."""

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
    """Scores are written, but a quality gate did not hold."""

    exit_code = 8


class StoppedError(UserError):
    """A signal ended the work between two steps; what was done is saved."""

    def __init__(self, message: str, *, exit_code: int = 130) -> None:
        super().__init__(message)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[object, ...]:
        return partial(StoppedError, exit_code=self.exit_code), self.args


def unknown_name(kind: str, name: str, known: Iterable[str], *, lister: str = "") -> str:
    """A line for a name that does not exist: `unknown preset 'unte'; did you mean 'unet'? (known: ...)`.

    Args:
        kind: What it was meant to be, for the message.
        name: The name.
        known: The names that exist.
        lister: A command that lists them, named instead where they are many: then the nearest three are suggested.
    """
    names = sorted(known)
    is_long = bool(lister) and len(names) > _MANY
    near = [f"'{item}'" for item in closest_names(name, names, count=3 if is_long else 1)]
    hint = f"; did you mean {' or '.join(filter(None, (', '.join(near[:-1]), near[-1])))}?" if near else ""
    all_of_them = f"`{lister}` lists all" if is_long else f"known: {', '.join(names) or 'none'}"
    return f"unknown {kind} '{name}'{hint} ({all_of_them})"


def closest_names(name: str, known: Iterable[str], *, count: int = 1, cutoff: float = 0.5) -> list[str]:
    """Names that may have been meant, best first: those with all its words, then those spelt alike.

    Args:
        name: What was typed.
        known: The names that exist.
        count: How many at most.
        cutoff: How alike the spelling must be, from 0 to 1 for the same.
    """
    names = list(known)
    words = _words(name)
    same_words = [item for item in names if words <= _words(item)] if words and len(name) > 1 else []
    found = [*get_close_matches(name, same_words, n=count, cutoff=0.0), *get_close_matches(name, names, count, cutoff)]
    return list(dict.fromkeys(found))[:count]


def _words(name: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", name.lower())) - {""}
