"""Checkpoints of training and pretraining: captured state, random states, and the two newest files with checksums."""

import io
import os
import random
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from guidino_cli.distributed import all_gather_object, rank, run_on_main_process
from guidino_cli.errors import ConfigError, DataError, file_errors, first_line
from guidino_cli.files import write_atomically
from guidino_cli.progress import log_warning

if TYPE_CHECKING:
    from accelerate import Accelerator


def get_random_state(device: torch.device) -> dict[str, Any]:
    """State of every generator that a part of the run may use; as tensors, since lists of numbers pickle slowly."""
    version, words, gauss = random.getstate()
    legacy: Any = np.random.get_state()  # noqa: NPY002 (dependencies may use it)
    kind, keys, *rest = legacy
    return {
        "python": (version, torch.tensor(words), gauss),
        "numpy": (kind, torch.tensor(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "device": None if device.type == "cpu" else torch.get_device_module(device).get_rng_state(),
    }


def set_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Restore what `get_random_state` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["device"] is not None and device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state["device"])


STATE_FILE, PREVIOUS_STATE_FILE = "state.pt", "previous.pt"


@dataclass(frozen=True)
class StateFolder:
    """A run's folder whose `last/` holds the newest state file and the one before; one of them is always intact."""

    path: Path

    @property
    def state(self) -> Path:
        """Everything needed to resume."""
        return self.path / "last" / STATE_FILE

    @property
    def previous_state(self) -> Path:
        """The state before, for the case that the newest is damaged."""
        return self.path / "last" / PREVIOUS_STATE_FILE

    def has_state(self) -> bool:
        """Whether there is a state to resume from."""
        return self.state.is_file() or self.previous_state.is_file()

    def remove_states(self) -> None:
        """Remove the states of a run that is overwritten."""
        for path in (self.state, self.previous_state):
            path.unlink(missing_ok=True)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write tensors and plain values, so that `weights_only` loading suffices: no pickle that runs code.

        Raises:
            ResourceError: The disk is full or the folder cannot be written.
        """
        buffer = io.BytesIO()
        torch.save(dict(state), buffer)

        def write(temporary: Path) -> None:
            _write_durably(temporary, buffer.getbuffer())
            if self.state.is_file():
                os.replace(self.state, self.previous_state)

        write_atomically(self.state, write)

    def load_state(self) -> dict[str, Any]:
        """Read the newest intact state; a warning on stderr says if it is the previous one.

        Raises:
            DataError: There is none.
        """
        if not self.has_state():
            raise DataError(f"{self.state}: is missing, so there is nothing to resume; train again with --overwrite")
        try:
            return _read(self.state)
        except DataError as error:
            if not self.previous_state.is_file():
                raise DataError(f"{error}; train again with --overwrite") from error
            damage = error
        try:
            state = _read(self.previous_state)
        except DataError as error:
            both = f"{damage}, and so is the state before ({PREVIOUS_STATE_FILE})"
            raise DataError(f"{both}; train again with --overwrite") from error
        if rank() == 0:
            log_warning(f"{damage}; resuming from the state before, {self.previous_state}")
        return state


def _read(path: Path) -> dict[str, Any]:
    """`DataError` if a file is missing, truncated, or has one wrong bit."""
    if not path.is_file():
        raise DataError(f"{path}: is missing")
    try:
        # torch.load itself does not verify the checksums.
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
        if broken is not None:
            raise zipfile.BadZipFile(f"wrong checksum in {broken}")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = first_line(error)
        raise DataError(f"{path}: is damaged ({reason})") from error
    return state


def _identify_folder(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _write_durably(path: Path, content: memoryview) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@dataclass
class RunState:
    """Progress of a run.

    Attributes:
        sums: Every loss term and metric, summed over the batches since the last row of the history.
    """

    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add the values of a batch."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach()


S = TypeVar("S", bound=RunState)


class Stateful(Protocol):
    """A part of a checkpoint, such as an optimizer."""

    def state_dict(self) -> Any:
        """Tensors and plain values."""

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Restore what `state_dict` returned."""


class CheckpointManager(Generic[S]):
    """Saves and restores all that decides the steps to come, so that a resumed run repeats them bit for bit.

    Args:
        folder: Receives the state files.
        accelerator: Accelerator of the run.
        parts: What changes with the steps, such as the optimizer, under its key in the file.
        state_type: Class of the run's progress; its fields are keys of the file.
        version: Format of the file.
        save_minutes: Between two saves; 0 to save only when asked.
        describe: Progress in words, such as "step 3 of 6".

    Attributes:
        folder: The run's folder.
        saved: Progress of the newest saved state in words; None before the first.
    """

    def __init__(
        self,
        folder: StateFolder,
        accelerator: "Accelerator",
        parts: Mapping[str, Stateful],
        *,
        state_type: type[S],
        version: int,
        save_minutes: float,
        describe: Callable[[S], str],
    ) -> None:
        self.folder = folder
        self.saved: str | None = None
        self._accelerator, self._parts, self._state_type = accelerator, parts, state_type
        self._version, self._seconds, self._describe = version, 60 * save_minutes, describe
        self._saved_at = time.monotonic()
        self._folder_id: tuple[int, int] | None = None

    def is_due(self) -> bool:
        """Whether the last save was `save_minutes` ago; only rank 0 says so."""
        return rank() == 0 and time.monotonic() - self._saved_at >= self._seconds > 0

    def save(self, state: S) -> None:
        """Write the state between two optimization steps; every rank must call it."""
        content = self.capture(state)
        run_on_main_process(lambda: self._write(content))
        self.saved, self._saved_at = self._describe(state), time.monotonic()

    def _write(self, content: Mapping[str, Any]) -> None:
        self.require_folder()
        self.folder.save_state(content)
        self._folder_id = _identify_folder(self.folder.path)

    def require_folder(self) -> None:
        """`DataError` if the run's folder was removed, or replaced by another, since the last save.

        Writing would make a new folder that holds a part of a run.
        """
        if self._folder_id is not None and _identify_folder(self.folder.path) != self._folder_id:
            raise DataError(
                f"{self.folder.path}: the run folder was removed while the run was writing to it; nothing more is "
                "written; start a new run"
            )

    def capture(self, state: S) -> dict[str, Any]:
        """Tensors and plain values; every rank must call it."""

        return {
            "format": self._version,
            "processes": self._accelerator.num_processes,
            "random": all_gather_object(get_random_state(self._accelerator.device)),
            **asdict(state),
            # Those of each rank: with their mean, the row of the history in progress would end in other digits.
            "sums": {name: self._accelerator.gather(value) for name, value in state.sums.items()},
            **{name: part.state_dict() for name, part in self._parts.items()},
        }

    def restore(self) -> S:
        """Load the newest intact state into all parts, and return the progress.

        Raises:
            ConfigError: Saved by another number of processes: batches would have another size.
            DataError: No intact state, or one of another format or another model.
        """
        content = self.folder.load_state()
        with file_errors(self.folder.state, "does not fit the run's settings", hint="train again with --overwrite"):
            self._load(content)
            state = self._state_type(**{item.name: content[item.name] for item in fields(self._state_type)})
            state.sums = {name: self._own(value) for name, value in state.sums.items()}
        self.saved = self._describe(state)
        self._folder_id = _identify_folder(self.folder.path)
        return state

    def _load(self, content: Mapping[str, Any]) -> None:
        path = self.folder.state
        if content.get("format") != self._version:
            raise DataError(f"{path}: written by another version of guidino; resume with that one, or start a new run")
        if content["processes"] != self._accelerator.num_processes:
            raise ConfigError(
                f"{path}: saved by {content['processes']} processes, but now there are "
                f"{self._accelerator.num_processes}; resume with as many as before"
                + ("" if content["processes"] == 1 else f": add --devices {content['processes']}")
            )
        try:
            for name, part in self._parts.items():
                part.load_state_dict(content[name])
        except DataError as error:
            raise DataError(f"{path}: {error}; train again with --overwrite") from error
        # Last: loading may draw random numbers.
        set_random_state(content["random"][self._accelerator.process_index], self._accelerator.device)

    def _own(self, values: Tensor) -> Tensor:
        """This rank's entry of gathered values; a single rank gathers scalars."""
        own = values[self._accelerator.process_index] if values.ndim else values
        return own.to(self._accelerator.device)
