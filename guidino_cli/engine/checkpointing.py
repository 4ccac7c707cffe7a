"""Checkpoints of training and pretraining: captured state, random states, and the two newest files with checksums."""

import io
import os
import random
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import gather_object
from torch import Tensor

from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import write_atomically
from guidino_cli.progress import log_warning


def get_random_state(device: torch.device) -> dict[str, Any]:
    """Of every generator that a part of the run might draw from; as tensors, since lists of numbers pickle slowly."""
    version, words, gauss = random.getstate()
    others: Any = np.random.get_state()  # noqa: NPY002 (others' code may draw from it)
    kind, keys, *rest = others
    return {
        "python": (version, torch.tensor(words), gauss),
        "numpy": (kind, torch.tensor(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "device": None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(),
    }


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Be as at the moment of `random_state`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["device"] is not None and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state["device"])


STATE_FILE, PREVIOUS_STATE_FILE = "state.pt", "previous.pt"


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
        if (folder / STATE_FILE).is_file():
            os.replace(folder / STATE_FILE, folder / PREVIOUS_STATE_FILE)

    write_atomically(folder / STATE_FILE, write)


def read_state(folder: Path) -> dict[str, Any]:
    """The newest state that is whole; a warning on stderr says if it is the one before.

    Raises:
        DataError: There is none.
    """
    if not has_state(folder):
        raise DataError(
            f"{folder / STATE_FILE}: is missing, so there is nothing to resume; train again with --overwrite"
        )
    try:
        return _read(folder / STATE_FILE)
    except DataError as error:
        if not (folder / PREVIOUS_STATE_FILE).is_file():
            raise DataError(f"{error}; train again with --overwrite") from error
        damage = error
    try:
        state = _read(folder / PREVIOUS_STATE_FILE)
    except DataError as error:
        raise DataError(
            f"{damage}, and so is the state before ({PREVIOUS_STATE_FILE}); train again with --overwrite"
        ) from error
    if PartialState().is_main_process:
        log_warning(f"{damage}; going on from the state before, {folder / PREVIOUS_STATE_FILE}")
    return state


def has_state(folder: Path) -> bool:
    """Whether there is something to go on from."""
    return any((folder / name).is_file() for name in (STATE_FILE, PREVIOUS_STATE_FILE))


def remove_states(folder: Path) -> None:
    """Forget a run that is written over."""
    for name in (STATE_FILE, PREVIOUS_STATE_FILE):
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


@dataclass
class RunState:
    """Where a run stands.

    Attributes:
        sums: Every term of the loss and every figure, summed over the batches since the last row of the history.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Count in what a batch has shown."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach()


P = TypeVar("P", bound=RunState)


def capture_run(at: RunState, accelerator: Accelerator, *, version: int) -> dict[str, Any]:
    """Tensors and plain values, between two steps of the optimiser; every process must call it."""
    # Each process's own: their mean would have the row that is under way end in other digits.
    sums = {name: accelerator.gather(value) for name, value in at.sums.items()}
    return {
        "format": version,
        "processes": accelerator.num_processes,
        "random": gather_object([get_random_state(accelerator.device)]),
        **asdict(at),
        "sums": sums,
    }


def require_resumable(state: Mapping[str, Any], accelerator: Accelerator, *, version: int) -> None:
    """Check that a run can go on from what `captured` made.

    Raises:
        ConfigError: Saved by another number of processes: batches would be of another size.
        DataError: Of another format.
    """
    if state.get("format") != version:
        raise DataError("written by another version of guidino; go on with that one, or begin anew")
    if state["processes"] != accelerator.num_processes:
        raise ConfigError(
            f"saved by {state['processes']} processes, but now there are {accelerator.num_processes}; "
            "go on with as many as before"
        )


def restore_run(state: Mapping[str, Any], accelerator: Accelerator, kind: type[P]) -> P:
    """Where the run stood at the moment of `captured`; from here on, its random numbers are drawn."""
    set_random_state(state["random"][accelerator.process_index], accelerator.device)
    at = kind(**{item.name: state[item.name] for item in fields(kind)})
    own = {name: value[accelerator.process_index] if value.ndim else value for name, value in at.sums.items()}
    at.sums = {name: value.to(accelerator.device) for name, value in own.items()}
    return at
