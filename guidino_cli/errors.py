"""What a user can do wrong, and the exit code each kind ends with."""

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


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """A line for a name that does not exist: `unknown preset 'unte'; did you mean 'unet'? (known: ...)`."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"unknown {kind} '{name}'{hint} (known: {', '.join(names) or 'none'})"
