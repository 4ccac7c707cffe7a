"""When training must stop: signals from the user or a scheduler, and a loss that is not finite."""

import os
import signal
import threading
from collections import deque
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Self

import torch
from torch import Tensor

from guidino_cli.errors import StoppedError

_NOTE = b"\nguidino: stopping: this step is finished and saved; once more to stop at once\n"


class SignalHandler:
    """Notes SIGINT (Ctrl-C) and SIGTERM while it is entered, so that a step is finished first; the second one stops.

    Outside the main thread, where Python gives no signals, it notes nothing.

    Attributes:
        signal: Which came first, or None.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[signal.Signals, signal.Handlers | int | None] = {}
        self._process = os.getpid()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name in (signal.SIGINT, signal.SIGTERM):
                self._before[name] = signal.signal(name, self._note)  # type: ignore[assignment]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)

    def stopped(self, how: str) -> StoppedError:
        """What to end with: 130 after Ctrl-C, 143 after SIGTERM, as a shell would say it.

        Args:
            how: What was saved, and how to go on.
        """
        number = self.signal or signal.SIGINT
        return StoppedError(f"stopped by {number.name}; {how}", exit_code=128 + number)

    def _note(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:  # A forked worker has this handler too.
            return
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        # Not by a console: the signal may have come in the middle of its writing.
        os.write(2, _NOTE)


class NonFiniteLossWatch:
    """Remembers where the loss broke first, on its device and without waiting for it.

    Args:
        device: Of the losses.
        remembered: How many steps back the cases of a step are known: as many as lie between two looks.
    """

    def __init__(self, device: torch.device, *, remembered: int) -> None:
        self._first = torch.full((), float("inf"), device=device)
        self._recent: deque[tuple[int, Sequence[int]]] = deque(maxlen=remembered)

    def note(self, loss: Tensor, *, step: int, cases: Sequence[int]) -> None:
        """Take in the loss of a step."""
        self._first = torch.where(torch.isfinite(loss), self._first, self._first.clamp(max=step))
        self._recent.append((step, cases))

    def first_broken(self) -> tuple[int, Sequence[int]] | None:
        """The first step whose loss is no number and its cases, or None; it waits for the device."""
        first = float(self._first)
        if first == float("inf"):
            return None
        return int(first), next((cases for step, cases in self._recent if step == first), [])
