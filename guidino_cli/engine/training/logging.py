"""Progress of a run on the terminal, and a profile of its first optimization steps."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.progress import Progress, TaskID
from torch.autograd.profiler_util import FunctionEventAvg
from torch.profiler import ProfilerActivity, profile

from guidino_cli.engine.training.checkpoint import TrainState
from guidino_cli.files import write_atomically, write_text
from guidino_cli.progress import format_duration, is_terminal, log_info, pluralize, status_line

History = Sequence[Mapping[str, Any]]

# Longest silence of a log during a long epoch.
_LOG_EVERY_SECONDS = 60.0
# Number of recent epochs from which the remaining time is estimated.
_RECENT = 5


class ProgressLogger:
    """Logs epochs, and the progress within them: a live line on a terminal, a plain line now and then elsewhere.

    Args:
        epochs: Number of epochs of the run.
        steps: Batches per epoch on this process.
        cases: Samples used in an epoch, on all processes together.
        terms: Names of the loss terms.
        enabled: True in one process only.
        units: What samples are called: "images", "slices" or "patches".
    """

    def __init__(
        self, *, epochs: int, steps: int, cases: int, terms: Sequence[str], enabled: bool, units: str = "images"
    ) -> None:
        self._units, self._short_units = units, "img" if units == "images" else units
        self._epochs, self._steps, self._cases, self._terms = epochs, steps, cases, terms
        self._enabled = enabled
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._loss: float | None = None
        self._history: History = []
        self._logged_at = time.monotonic()

    @contextmanager
    def live_line(self, history: History) -> Iterator[None]:
        """Show the live line for the epochs after `history`."""
        self._history, self._logged_at = history, time.monotonic()
        with status_line(enabled=self._enabled) as bar:
            self._bar = bar
            self._task = bar.add_task("", total=self._epochs * self._steps, completed=len(history) * self._steps)
            yield
        self._bar = None

    def step(self, state: TrainState, *, seconds: float, loss: float | None) -> None:
        """Update the live line after a step.

        Args:
            state: Progress of the run.
            seconds: Duration of the epoch so far.
            loss: Mean of the epoch so far, where it was read; reading it waits for the device.
        """
        self._loss = loss if loss is not None else self._loss
        speed = f"{self._images_per_second(state.step, seconds):.3g}"
        short = f"{speed} {self._short_units}/s"
        left = format_duration(self._seconds_left(state, seconds))
        if self._bar is not None and is_terminal():
            epoch = f"epoch {state.epoch + 1}/{self._epochs} {100 * state.step // self._steps}%"
            mean_loss = "" if self._loss is None else f"loss {self._loss:.3f}"
            parts = filter(None, [epoch, mean_loss, short, self._validation_dice(), f"{left} left"])
            self._bar.update(self._task, completed=state.epoch * self._steps + state.step, description="  ".join(parts))
        elif self._enabled and loss is not None and time.monotonic() - self._logged_at >= _LOG_EVERY_SECONDS:
            epoch = f"epoch {state.epoch + 1}/{self._epochs}, step {state.step} of {self._steps}"
            self._log(f"{epoch}: loss {loss:.4f}, {speed} {self._units}/s, about {left} left")

    def epoch(self, history: History, *, best: tuple[float, int]) -> None:
        """Log the last epoch of `history`; `best` is the highest validation Dice and its epoch."""
        self._history, self._loss = history, None
        if self._enabled:
            left = seconds_left(history, epochs=self._epochs)
            self._log(format_epoch(history[-1], epochs=self._epochs, terms=self._terms, best=best, left=left))

    def _log(self, line: str) -> None:
        log_info(line)
        self._logged_at = time.monotonic()

    def _images_per_second(self, step: int, seconds: float) -> float:
        return self._cases * step / self._steps / max(seconds, 1e-9)

    def _validation_dice(self) -> str:
        scores = [row["val_dice"] for row in self._history if "val_dice" in row]
        best = f" best {max(scores):.3f}" if scores and max(scores) > 0 else ""
        return f"val Dice {scores[-1]:.3f}{best}" if scores else ""

    def _seconds_left(self, state: TrainState, seconds: float) -> float:
        whole = seconds / max(1, state.step) * self._steps
        return (self._epochs - state.epoch) * (whole + _validation_seconds(self._history)) - seconds


SPEED_SUFFIX = "_per_second"
"""Of the column of the history with the speed, such as "images_per_second"."""


def format_epoch(
    row: Mapping[str, Any], *, epochs: int, terms: Sequence[str], best: tuple[float, int], left: float
) -> str:
    """One line of plain text for an epoch.

    Args:
        row: Row of the history.
        epochs: Number of epochs of the run.
        terms: Names of the loss terms.
        best: Highest validation Dice so far, and its epoch.
        left: Estimated remaining seconds.
    """
    terms_shown = [f"{term_label(name)} {row[name]:.4f}" for name in terms if name in row]
    parts = [f"loss {row['loss']:.4f}" + (f" ({', '.join(terms_shown)})" if len(terms_shown) > 1 else "")]
    if "val_dice" in row:
        note = "best" if best[1] == row["epoch"] else f"best {best[0]:.4f} in epoch {best[1]}"
        note = note if best[0] > 0 or row.get("val_empty") else "no overlap with a true mask yet"
        empty = f"; {pluralize(row['val_empty'], 'empty case')}" if row.get("val_empty") else ""
        parts.append(f"val Dice {row['val_dice']:.4f} ({note}{empty})")
    key = next(name for name in row if name.endswith(SPEED_SUFFIX))
    parts.append(f"{row[key]:.3g} {key.removesuffix(SPEED_SUFFIX)}/s")
    if row["epoch"] < epochs:
        parts.append(f"about {format_duration(left)} left")
    return f"epoch {row['epoch']}/{epochs}: {', '.join(parts)}"


def term_label(name: str) -> str:
    """Label of a loss term that cannot be mistaken for a score: "dice" is a "dice loss"."""
    return "cross-entropy" if name == "cross_entropy" else f"{name.replace('_', ' ')} loss"


def seconds_left(history: History, *, epochs: int) -> float:
    """Estimated duration of the epochs after `history`, from its last ones."""
    if not history:
        return 0.0
    training = median(row.get("train_seconds", 0.0) for row in history[-_RECENT:])
    return (training + _validation_seconds(history)) * (epochs - history[-1]["epoch"])


def _validation_seconds(history: History) -> float:
    """Mean validation time per epoch, also counting epochs without validation."""
    recent = [row.get("val_seconds", 0.0) for row in history[-_RECENT:]]
    return sum(recent) / len(recent) if recent else 0.0


TRACE_FILE, PROFILE_FILE = "trace.json", "trace.txt"
STEP_PARTS = ("guidino.augment", "guidino.forward", "guidino.loss", "guidino.backward", "guidino.optimize")
_TOP_OPERATIONS = 20
# The first two allocate the optimizer's state and select kernels.
_WARMUP_STEPS = 2
_DEVICE_READS = (
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
)


class StepProfiler:
    """Profiles the steps of an epoch from the third to `last`, or to its end.

    Args:
        run: Folder for `trace.json` and `trace.txt`.
        last: Number of the last step, from 1; 0 for no profile.
        device: Device of the run.
    """

    def __init__(self, run: Path, *, last: int, device: torch.device) -> None:
        self._run, self._last, self._device = run, last, device
        self._profile: profile | None = None
        self._started_at, self._first = 0.0, 0

    def step(self, step: int) -> None:
        """Start or stop as due after a step; `step` counts from 1."""
        if self._profile is None and step == _WARMUP_STEPS < self._last:
            self._start(step + 1)
        elif self._profile is not None and step >= self._last:
            self.stop(step)

    def stop(self, step: int) -> None:
        """Write the profile of the steps up to `step`, if it was started."""
        if self._profile is None:
            return
        profiler, self._profile, self._last = self._profile, None, 0
        profiler.stop()
        seconds, steps = time.monotonic() - self._started_at, step - self._first + 1
        if steps > 0:
            write_atomically(self._run / TRACE_FILE, lambda path: profiler.export_chrome_trace(str(path)))
            title = f"steps {self._first} to {step} of the first epoch on {self._device}"
            summary = format_profile(list(profiler.key_averages()), steps=steps, seconds=seconds)
            write_text(self._run / PROFILE_FILE, f"{title}: {summary}")
            log_info(
                f"guidino: wrote {self._run / PROFILE_FILE}, and {self._run / TRACE_FILE} "
                f"for chrome://tracing or ui.perfetto.dev"
            )

    def _start(self, first: int) -> None:
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if self._device.type == "cuda" else [])
        self._profile = profile(activities=activities)
        self._profile.start()
        self._started_at, self._first = time.monotonic(), first


def format_profile(events: list[FunctionEventAvg], *, steps: int, seconds: float) -> str:
    """Table of the parts of a step, the most expensive operations, and reads from the device, all per step.

    Args:
        events: Averages of the profiler; times in microseconds.
        steps: Number of profiled steps.
        seconds: Their duration, data loading included.
    """
    by_name = {str(event.key): event for event in events}
    lines = [f"{1000 * seconds / steps:.1f} ms a step", "", _row("part of a step", "calls", "CPU ms", "device ms")]
    for name in STEP_PARTS:
        if name in by_name:
            event = by_name[name]
            lines.append(_numbers(name.partition(".")[2], event, event.cpu_time_total, event.device_time_total, steps))
    lines += ["", _row("operation, without what it calls", "calls", "CPU ms", "device ms")]
    operations = [event for event in events if event.key not in STEP_PARTS]
    operations.sort(key=lambda event: -(event.self_device_time_total + event.self_cpu_time_total))
    for event in operations[:_TOP_OPERATIONS]:
        lines.append(_numbers(str(event.key), event, event.self_cpu_time_total, event.self_device_time_total, steps))
    reads = [f"{name} {by_name[name].count / steps:.1f}" for name in _DEVICE_READS if name in by_name]
    return "\n".join([*lines, "", f"read back from the device, times per step: {', '.join(reads) or 'none'}", ""])


def _numbers(name: str, event: FunctionEventAvg, cpu: float, device: float, steps: int) -> str:
    return _row(name, f"{event.count / steps:.1f}", f"{cpu / 1000 / steps:.2f}", f"{device / 1000 / steps:.2f}")


def _row(name: str, calls: str, cpu: str, device: str) -> str:
    return f"{name[:44]:<44} {calls:>9} {cpu:>11} {device:>11}"
