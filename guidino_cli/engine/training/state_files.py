"""The two newest states of a run on the disk: the newest, and the one before in case that one is damaged."""

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from guidino_cli.errors import DataError
from guidino_cli.files import write_atomically
from guidino_cli.progress import say

NEWEST, BEFORE = "state.pt", "previous.pt"


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain values, so that `weights_only` loading suffices: no pickle that runs code.

    At any moment one of the two files is whole.

    Raises:
        ResourceError: The disk is full or the place cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)

    def write(place: Path) -> None:
        _write_durably(place, buffer.getbuffer())
        if (folder / NEWEST).is_file():
            os.replace(folder / NEWEST, folder / BEFORE)

    write_atomically(folder / NEWEST, write)


def read_state(folder: Path) -> dict[str, Any]:
    """The newest state that is whole; a warning on stderr says if it is the one before.

    Raises:
        DataError: There is none.
    """
    if not has_state(folder):
        raise DataError(f"{folder / NEWEST}: is missing, so there is nothing to resume; train again with --overwrite")
    try:
        return _read(folder / NEWEST)
    except DataError as error:
        if not (folder / BEFORE).is_file():
            raise DataError(f"{error}; train again with --overwrite") from error
        damage = error
    try:
        state = _read(folder / BEFORE)
    except DataError as error:
        raise DataError(f"{damage}, and so is the state before ({BEFORE}); train again with --overwrite") from error
    if PartialState().is_main_process:
        say(f"guidino: warning: {damage}; going on from the state before, {folder / BEFORE}")
    return state


def has_state(folder: Path) -> bool:
    """Whether there is something to go on from."""
    return any((folder / name).is_file() for name in (NEWEST, BEFORE))


def remove_states(folder: Path) -> None:
    """Forget a run that is written over."""
    for name in (NEWEST, BEFORE):
        (folder / name).unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    """`DataError` if a file is missing, cut off, or has one wrong bit."""
    if not path.is_file():
        raise DataError(f"{path}: is missing")
    try:
        # torch.load itself does not look at the checksums.
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise zipfile.BadZipFile(f"wrong checksum in {broken}")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: is damaged ({reason})") from error
    return state


def _write_durably(path: Path, content: memoryview) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
