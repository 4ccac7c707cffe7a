"""Schedules of learning rate, momentum and temperature: functions of the step alone, so a resume needs no state."""

import math


def linear_schedule(step: int, *, steps: int, start: float, end: float) -> float:
    """A straight line from `start` at step 0 to `end` at `steps`, constant after that."""
    if step >= steps:
        return end
    return start + (end - start) * step / steps


def cosine_schedule(step: int, *, steps: int, start: float, end: float) -> float:
    """Half a cosine from `start` at step 0 to `end` at `steps`, constant after that."""
    fraction = min(1.0, step / max(1, steps))
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * fraction))


def warmup_cosine_schedule(step: int, *, steps: int, peak: float, final: float | None, warmup: int) -> float:
    """Linear warm-up from 0 to `peak` over `warmup` steps, then half a cosine to `final`; constant if that is None.

    As in DINOv3's code, the first step has rate 0 and the step after the warm-up `peak`.
    """
    if step < warmup:
        return peak * step / warmup
    if final is None:
        return peak
    return cosine_schedule(step - warmup, steps=steps - warmup, start=peak, end=final)
