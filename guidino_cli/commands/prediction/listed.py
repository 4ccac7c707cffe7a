"""Inputs of `predict`, with those that `--list` names: one of these that cannot be used is a failure, not left out."""

import codecs
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from guidino_cli.commands.prediction.jobs import Job, unique_jobs
from guidino_cli.errors import ConfigError, DataError

STDIN = "-"
# Some hundred million names; devices such as /dev/zero never end.
_MAX_BYTES = 1_000_000_000

AnyJob = TypeVar("AnyJob", bound=Job)


class Inputs(NamedTuple):
    """Paths to predict.

    Attributes:
        places: Of the command line; one that cannot be used ends the call.
        listed: Of `--list`; one that cannot be used is a failed case.
    """

    places: Sequence[Path]
    listed: Sequence[Path] = ()

    @property
    def folders(self) -> list[Path]:
        """The places, and one file of each folder of those listed: what an output folder must keep clear of."""
        by_folder = {path.parent: path for path in self.listed if os.path.exists(path)}
        return [*self.places, *by_folder.values()]


def read_inputs(places: Sequence[Path], source: str | None) -> Inputs:
    """The inputs of the command line, with the names of a list.

    Args:
        places: IMAGES.
        source: Value of `--list`: a file, "-" for standard input, or None. Names are separated by line ends, or by zero
            bytes if there is one (`find -print0`); blank lines are passed over. They are relative to the working
            directory.

    Raises:
        ConfigError: A list from a terminal, or from standard input that is closed.
        DataError: The list cannot be read or holds no name.
    """
    if source is None:
        return Inputs(places)
    names = list(_split(_read(source)))
    if not names:
        what = "standard input" if source == STDIN else source
        raise DataError(f"--list {source}: {what} holds no name, expected one image per line")
    return Inputs(places, [Path(name) for name in names])


def unique_inputs(
    inputs: Inputs,
    find: Callable[[Path], Iterable[AnyJob]],
    fail: Callable[[Path, str], AnyJob],
    *,
    suffix: str,
) -> list[AnyJob]:
    """Jobs of all inputs without repetition, in their order; then those of the list that cannot be used.

    Args:
        inputs: Places and list.
        find: Makes jobs of a place.
        fail: Makes the job of a place that cannot be used, and why.
        suffix: Of the masks.

    Raises:
        DataError: A place of the command line cannot be used, or two images would be written to one mask.
    """
    failed: dict[str, AnyJob] = {}

    def jobs() -> Iterator[AnyJob]:
        for place in inputs.places:
            yield from find(place)
        for place in inputs.listed:
            try:
                found = list(find(place))
            except (DataError, OSError, ValueError) as error:
                problem = str(error) if isinstance(error, DataError) else f"{place}: cannot be used ({error})"
                failed.setdefault(str(place), fail(place, problem))
            else:
                yield from found

    usable = unique_jobs(jobs(), suffix=suffix, places=len(inputs.places) + len(inputs.listed))
    return [*usable, *failed.values()]


def _read(source: str) -> bytes:
    if source != STDIN:
        try:
            with Path(source).open("rb") as file:
                content = file.read(_MAX_BYTES + 1)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise DataError(f"--list {source}: cannot be read ({reason}); give a list of images") from error
    else:
        if sys.stdin is None or sys.stdin.closed:
            raise ConfigError("--list -: standard input is closed; give a file, or pipe the names into the command")
        if sys.stdin.isatty():
            raise ConfigError(
                "--list -: standard input is a terminal; pipe the names into the command, as in "
                "`find FOLDER -name '*.png' | guidino predict RUN --list - -o MASKS`"
            )
        content = sys.stdin.buffer.read(_MAX_BYTES + 1)
    if len(content) > _MAX_BYTES:
        raise DataError(f"--list {source}: is larger than {_MAX_BYTES // 10**9} GB, expected names; split it")
    return content


def _split(content: bytes) -> Iterator[str]:
    """The names; bytes that are no UTF-8 are kept as the file system has them."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        # Of Windows PowerShell.
        content = content.decode("utf-16", errors="replace").encode()
    content = content.removeprefix(codecs.BOM_UTF8)
    parts = content.split(b"\0") if b"\0" in content else (line.removesuffix(b"\r") for line in content.split(b"\n"))
    return (os.fsdecode(part) for part in parts if part.strip())
