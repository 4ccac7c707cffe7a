"""Whether the loss is still a number, and else since which step."""

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor


class LossWatch:
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
