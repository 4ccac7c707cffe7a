"""Numbers that change over a run: each a function of the step alone, so that a resume needs nothing else."""

import math


def linear_schedule(step: int, *, steps: int, start: float, end: float) -> float:
    """A straight line from `start` at step 0 to `end` at `steps`, and `end` behind that."""
    if step >= steps:
        return end
    return start + (end - start) * step / steps


def cosine_schedule(step: int, *, steps: int, start: float, end: float) -> float:
    """From `start` at step 0 along half a cosine to `end` at `steps`, and `end` behind that."""
    share = min(1.0, step / max(1, steps))
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def warmup_cosine_schedule(step: int, *, steps: int, peak: float, final: float | None, warmup: int) -> float:
    """A line up to `peak` over `warmup` steps, then half a cosine to `final`, or `peak` to the end."""
    if step < warmup:
        return peak * (step + 1) / warmup
    if final is None:
        return peak
    return cosine_schedule(step - warmup, steps=steps - warmup, start=peak, end=final)
