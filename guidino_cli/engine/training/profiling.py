"""What some steps of a run spend their time on: a trace for a viewer, and a short table."""

import time
from pathlib import Path

import torch
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile

from guidino_cli.files import write_atomically, write_text
from guidino_cli.progress import say

TRACE, TABLE = "trace.json", "trace.txt"
PARTS = ("guidino.augment", "guidino.forward", "guidino.loss", "guidino.backward", "guidino.optimize")
_ROWS = 20
# In the first two the optimiser makes its state, and kernels are chosen.
_LEFT_OUT = 2
_READS = (
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
)


class StepProfile:
    """Watches the steps of an epoch from the third to `last`, or to its end.

    Args:
        run: Folder for `trace.json` and `trace.txt`.
        last: Number of the last step, from 1; 0 to watch none.
        device: Of the run.
    """

    def __init__(self, run: Path, *, last: int, device: torch.device) -> None:
        self._run, self._last, self._device = run, last, device
        self._profile: profile | None = None
        self._began, self._first = 0.0, 0

    def after(self, step: int) -> None:
        """Step number `step`, from 1, is done."""
        if self._profile is None and step == _LEFT_OUT < self._last:
            self._begin(step + 1)
        elif self._profile is not None and step >= self._last:
            self.end(step)

    def end(self, step: int) -> None:
        """Write what was seen up to a step, if anything."""
        if self._profile is None:
            return
        watched, self._profile, self._last = self._profile, None, 0
        watched.stop()
        seconds, steps = time.monotonic() - self._began, step - self._first + 1
        if steps > 0:
            write_atomically(self._run / TRACE, lambda place: watched.export_chrome_trace(str(place)))
            title = f"steps {self._first} to {step} of the first epoch on {self._device}"
            summary = table(list(watched.key_averages()), steps=steps, seconds=seconds)
            write_text(self._run / TABLE, f"{title}: {summary}")
            say(f"guidino: wrote {self._run / TABLE}, and {self._run / TRACE} for chrome://tracing or ui.perfetto.dev")

    def _begin(self, first: int) -> None:
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if self._device.type == "cuda" else [])
        self._profile = profile(activities=activities)
        self._profile.start()
        self._began, self._first = time.monotonic(), first


def table(events: list[FunctionEventAvg], *, steps: int, seconds: float) -> str:
    """Parts of a step, the operations that cost most, and how often something was read back, each for one step.

    Args:
        events: As the profiler sums them up; times are in microseconds.
        steps: How many were watched.
        seconds: That they took, loading included.
    """
    by_name = {str(event.key): event for event in events}
    lines = [f"{1000 * seconds / steps:.1f} ms a step", "", _row("part of a step", "calls", "CPU ms", "device ms")]
    for name in PARTS:
        if name in by_name:
            event = by_name[name]
            lines.append(_numbers(name.partition(".")[2], event, event.cpu_time_total, event.device_time_total, steps))
    lines += ["", _row("operation, without what it calls", "calls", "CPU ms", "device ms")]
    operations = [event for event in events if event.key not in PARTS]
    for event in sorted(operations, key=lambda e: -(e.self_device_time_total + e.self_cpu_time_total))[:_ROWS]:
        lines.append(_numbers(str(event.key), event, event.self_cpu_time_total, event.self_device_time_total, steps))
    reads = [f"{name} {by_name[name].count / steps:.1f}" for name in _READS if name in by_name]
    # Where the device is a CPU, nobody waits.
    return "\n".join([*lines, "", f"read back from the device, times a step: {', '.join(reads) or 'none'}", ""])


def _numbers(name: str, event: FunctionEventAvg, cpu: float, device: float, steps: int) -> str:
    return _row(name, f"{event.count / steps:.1f}", f"{cpu / 1000 / steps:.2f}", f"{device / 1000 / steps:.2f}")


def _row(name: str, calls: str, cpu: str, device: str) -> str:
    return f"{name[:44]:<44} {calls:>9} {cpu:>11} {device:>11}"
