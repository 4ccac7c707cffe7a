"""What ends a long run in the middle of a step, as a line that says what to do."""

import errno
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from guidino_cli.errors import ConfigError, ResourceError

_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@contextmanager
def errors_with_advice(folder: Path, *, go_on: str, is_begun: Callable[[], bool], less_memory: str) -> Iterator[None]:
    """Turn errors of the system into a `ResourceError`, and say on stderr what Ctrl-C leaves.

    Args:
        folder: Of the run.
        go_on: The command line that goes on with it.
        is_begun: Whether there is a state to go on from.
        less_memory: Which settings to change where memory ran out.
    """
    try:
        yield
    except KeyboardInterrupt:
        way = f"go on with: {go_on}" if is_begun() else "nothing was done yet, start again with --overwrite"
        print(f"guidino: interrupted in the middle of a step; {way}", file=sys.stderr)
        raise
    except ResourceError as error:
        raise ResourceError(f"{error}; then {go_on}" if "--resume" not in str(error) else str(error)) from error
    except (MemoryError, RuntimeError, OSError) as error:
        if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY):
            raise ResourceError(f"out of memory ({_first_line(error)}); {less_memory}; or {go_on}") from error
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise ResourceError(f"{folder}: disk full; free some space, then {go_on}") from error
        raise


@contextmanager
def determinism_explained() -> Iterator[None]:
    """Turn torch's refusal of `train.deterministic` into a line that names what it has no deterministic form of."""
    try:
        yield
    except RuntimeError as error:
        if "deterministic implementation" not in str(error):
            raise
        reason = str(error).partition(" does not have")[0]
        raise ConfigError(
            f"train.deterministic: torch has no deterministic form of {reason} on this device; leave the setting "
            "out, or take another segmenter"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
