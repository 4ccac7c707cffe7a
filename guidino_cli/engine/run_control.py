"""Run control of training and pretraining: signals, requests synchronized over all ranks, and loss checks."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self, TypeVar

import torch
from torch import Tensor

from guidino_cli.distributed import all_reduce_max_on_cpu, raise_on_all_ranks
from guidino_cli.engine.checkpointing import CheckpointManager, RunState
from guidino_cli.errors import ConfigError, StoppedError, UserError

T = TypeVar("T")

_STOPPING = b"\nguidino: stopping after this step, which is saved; press Ctrl-C again to stop at once\n"
# By priority: the highest request of any rank is granted on all.
_CONTINUE, _SAVE, _FAIL, _STOP = range(4)


class RunControl:
    """Decides between steps whether a run continues, is saved, fails or stops; the decision is the same on all ranks.

    A context manager: while it is entered, SIGINT and SIGTERM stop the run after the current step.

    Args:
        checkpoints: Saves the run.
        resume_command: Continues a saved run, such as "guidino train --resume -o runs/a".
        loss_watch: Remembers the first non-finite loss.
        describe_loss: Error message for a non-finite loss, given its step and the indices of its samples.
    """

    def __init__(
        self,
        checkpoints: CheckpointManager[Any],
        *,
        resume_command: str,
        loss_watch: "NonFiniteLossWatch",
        describe_loss: Callable[[int, Sequence[int]], str],
    ) -> None:
        self.loss_watch = loss_watch
        self._checkpoints, self._resume_command, self._describe_loss = checkpoints, resume_command, describe_loss
        self._signals = SignalHandler()

    def __enter__(self) -> Self:
        self._signals.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._signals.__exit__(kind, error, trace)

    @property
    def is_stop_requested(self) -> bool:
        """Whether this rank received a signal."""
        return self._signals.signal is not None

    def sync(self, state: RunState, batch: T | UserError, *, can_save: bool = True) -> T:
        """Return the batch if all ranks continue.

        Args:
            state: Saved where a rank requests it, and before the run ends.
            batch: Next batch of this rank, or the error that was raised instead.
            can_save: False in the middle of an optimization step; a signal waits for its end then.

        Raises:
            UserError: That of any rank's batch, with the resume hint.
            StoppedError: A rank received a signal.
            ConfigError: The loss is not finite; nothing is saved.
        """
        request = all_reduce_max_on_cpu(self._requested_action(batch, can_save=can_save))
        if request != _CONTINUE and can_save:
            self.check_loss()
            self._checkpoints.save(state)
        if request == _STOP:
            self.abort(None)
        if request == _FAIL or isinstance(batch, UserError):
            self.abort(batch if isinstance(batch, UserError) else None)
        return batch

    def _requested_action(self, batch: object, *, can_save: bool) -> int:
        if can_save and self.is_stop_requested:
            return _STOP
        if isinstance(batch, UserError):
            return _FAIL
        return _SAVE if can_save and self._checkpoints.is_due() else _CONTINUE

    def abort(self, error: UserError | None) -> NoReturn:
        """End all ranks: with the first error that any rank gives, else because of the signal.

        Raises:
            UserError: The error, with the resume hint.
            StoppedError: No rank gave an error; exit code 130 after SIGINT, 143 after SIGTERM, as shells report them.
        """
        raise_on_all_ranks(None if error is None else type(error)(f"{error}; {self._resume_hint()}"))
        number = self._signals.signal or signal.SIGINT
        raise_on_all_ranks(StoppedError(f"stopped by {number.name}; {self._resume_hint()}", exit_code=128 + number))

    def check_loss(self) -> None:
        """`ConfigError` on all ranks if a loss of any rank was not finite; waits for the device."""
        found = self.loss_watch.first_nonfinite()
        raise_on_all_ranks(None if found is None else self.fatal_error(self._describe_loss(*found)))

    def fatal_error(self, message: str) -> ConfigError:
        """An error after which resuming is useless; the message ends with what the run's folder holds."""
        return ConfigError(f"{message}; {self._checkpoints.folder.path} keeps {self._checkpoints.saved}")

    def _resume_hint(self) -> str:
        return f"{self._checkpoints.saved} is saved; resume with: {self._resume_command}"


class SignalHandler:
    """Remembers SIGINT (Ctrl-C) and SIGTERM while it is entered, so that a step is finished first; a second one stops.

    Outside the main thread, where Python delivers no signals, it does nothing.

    Attributes:
        signal: The first one received, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._previous: dict[signal.Signals, signal.Handlers | int | None] = {}
        self._process = os.getpid()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)  # type: ignore[assignment]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:  # Forked workers inherit this handler.
            return
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        # Not through a console: the signal may have arrived while it was writing.
        os.write(2, _STOPPING)


class NonFiniteLossWatch:
    """Remembers the first step whose loss is NaN or infinite, on the loss's device and without waiting for it.

    Args:
        device: Device of the losses.
        history: For how many steps sample indices are remembered: as many as lie between two checks.
    """

    def __init__(self, device: torch.device, *, history: int) -> None:
        self._first = torch.full((), float("inf"), device=device)
        self._recent: deque[tuple[int, Sequence[int]]] = deque(maxlen=history)

    def update(self, loss: Tensor, *, step: int, samples: Sequence[int]) -> None:
        """Add the loss of a step, and the indices of its samples."""
        self._first = torch.where(torch.isfinite(loss), self._first, self._first.clamp(max=step))
        self._recent.append((step, samples))

    def first_nonfinite(self) -> tuple[int, Sequence[int]] | None:
        """The first step with a non-finite loss and its samples, or None; waits for the device."""
        first = float(self._first)
        if first == float("inf"):
            return None
        return int(first), next((samples for step, samples in self._recent if step == first), [])
