"""Progress of a run on the terminal, and a profile of its first steps."""

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
from guidino_cli.progress import format_duration, is_terminal, log_info, status_line

History = Sequence[Mapping[str, Any]]

# A log of a long epoch is not silent for longer.
_QUIET_SECONDS = 60.0
# Epochs that the time left is judged by.
_LATELY = 5


class ProgressLogger:
    """Says where a run stands.

    Args:
        epochs: Of the run.
        steps: Batches of an epoch on this process.
        shown: Cases that an epoch shows, on all processes together.
        terms: Names of the loss terms.
        speaks: Whether it says anything: one of several processes does.
    """

    def __init__(self, *, epochs: int, steps: int, shown: int, terms: Sequence[str], speaks: bool) -> None:
        self._epochs, self._steps, self._shown, self._terms = epochs, steps, shown, terms
        self._speaks = speaks
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._loss: float | None = None
        self._history: History = []
        self._said_at = time.monotonic()

    @contextmanager
    def shown_on_terminal(self, history: History) -> Iterator[None]:
        """Show the moving line while the run goes on behind `history`."""
        self._history, self._said_at = history, time.monotonic()
        with status_line(enabled=self._speaks) as bar:
            self._bar = bar
            self._task = bar.add_task("", total=self._epochs * self._steps, completed=len(history) * self._steps)
            yield
        self._bar = None

    def step(self, at: TrainState, *, seconds: float, loss: float | None) -> None:
        """A step is done.

        Args:
            at: Where the run stands.
            seconds: That the epoch has taken so far.
            loss: Mean of the epoch so far, where it was looked at; reading it waits for the device.
        """
        self._loss = loss if loss is not None else self._loss
        pace = f"{self._images_per_second(at.step, seconds):.3g}"
        left = format_duration(self._left(at, seconds))
        if self._bar is not None and is_terminal():
            place = f"epoch {at.epoch + 1}/{self._epochs} {100 * at.step // self._steps}%"
            spoken_loss = "" if self._loss is None else f"loss {self._loss:.3f}"
            words = filter(None, [place, spoken_loss, f"{pace} img/s", self._dice(), f"{left} left"])
            self._bar.update(self._task, completed=at.epoch * self._steps + at.step, description="  ".join(words))
        elif self._speaks and loss is not None and time.monotonic() - self._said_at >= _QUIET_SECONDS:
            place = f"epoch {at.epoch + 1}/{self._epochs}, step {at.step} of {self._steps}"
            self._say(f"{place}: loss {loss:.4f}, {pace} images/s, about {left} left")

    def epoch(self, history: History, *, best: tuple[float, int]) -> None:
        """An epoch is saved: the last of `history`; `best` is the highest validation Dice and its epoch."""
        self._history, self._loss = history, None
        if self._speaks:
            left = seconds_left(history, epochs=self._epochs)
            self._say(format_epoch(history[-1], epochs=self._epochs, terms=self._terms, best=best, left=left))

    def _say(self, line: str) -> None:
        log_info(line)
        self._said_at = time.monotonic()

    def _images_per_second(self, step: int, seconds: float) -> float:
        return self._shown * step / self._steps / max(seconds, 1e-9)

    def _dice(self) -> str:
        scores = [row["val_dice"] for row in self._history if "val_dice" in row]
        return f"val Dice {scores[-1]:.3f} best {max(scores):.3f}" if scores else ""

    def _left(self, at: TrainState, seconds: float) -> float:
        whole = seconds / max(1, at.step) * self._steps
        return (self._epochs - at.epoch) * (whole + _validation(self._history)) - seconds


def format_epoch(
    row: Mapping[str, Any], *, epochs: int, terms: Sequence[str], best: tuple[float, int], left: float
) -> str:
    """An epoch in one line of plain text; a loss is called one, for a Dice loss of 0.4 is no Dice of 0.4.

    Args:
        row: Of the history.
        epochs: Of the run.
        terms: Names of the loss terms.
        best: Highest validation Dice so far, and its epoch.
        left: Seconds.
    """
    parts = [f"{term_label(name)} {row[name]:.4f}" for name in terms if name in row]
    words = [f"loss {row['loss']:.4f}" + (f" ({', '.join(parts)})" if len(parts) > 1 else "")]
    if "val_dice" in row:
        place = "best" if best[1] == row["epoch"] else f"best {best[0]:.4f} in epoch {best[1]}"
        words.append(f"val Dice {row['val_dice']:.4f} ({place})")
    words.append(f"{row['images_per_second']:.3g} images/s")
    if row["epoch"] < epochs:
        words.append(f"about {format_duration(left)} left")
    return f"epoch {row['epoch']}/{epochs}: {', '.join(words)}"


def term_label(name: str) -> str:
    """A loss term in words that nobody takes for a score: "dice" is a "dice loss"."""
    return "cross-entropy" if name == "cross_entropy" else f"{name.replace('_', ' ')} loss"


def seconds_left(history: History, *, epochs: int) -> float:
    """How long the epochs behind `history` will take if they are like its last ones."""
    if not history:
        return 0.0
    training = median(row.get("train_seconds", 0.0) for row in history[-_LATELY:])
    return (training + _validation(history)) * (epochs - history[-1]["epoch"])


def _validation(history: History) -> float:
    """Seconds an epoch; where only some epochs are validated, their time is shared out among all."""
    lately = [row.get("val_seconds", 0.0) for row in history[-_LATELY:]]
    return sum(lately) / len(lately) if lately else 0.0


TRACE_FILE, PROFILE_FILE = "trace.json", "trace.txt"
STEP_PARTS = ("guidino.augment", "guidino.forward", "guidino.loss", "guidino.backward", "guidino.optimize")
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


class StepProfiler:
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
            write_atomically(self._run / TRACE_FILE, lambda place: watched.export_chrome_trace(str(place)))
            title = f"steps {self._first} to {step} of the first epoch on {self._device}"
            summary = format_profile(list(watched.key_averages()), steps=steps, seconds=seconds)
            write_text(self._run / PROFILE_FILE, f"{title}: {summary}")
            log_info(
                f"guidino: wrote {self._run / PROFILE_FILE}, and {self._run / TRACE_FILE} "
                f"for chrome://tracing or ui.perfetto.dev"
            )

    def _begin(self, first: int) -> None:
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if self._device.type == "cuda" else [])
        self._profile = profile(activities=activities)
        self._profile.start()
        self._began, self._first = time.monotonic(), first


def format_profile(events: list[FunctionEventAvg], *, steps: int, seconds: float) -> str:
    """Parts of a step, the operations that cost most, and how often something was read back, each for one step.

    Args:
        events: As the profiler sums them up; times are in microseconds.
        steps: How many were watched.
        seconds: That they took, loading included.
    """
    by_name = {str(event.key): event for event in events}
    lines = [f"{1000 * seconds / steps:.1f} ms a step", "", _row("part of a step", "calls", "CPU ms", "device ms")]
    for name in STEP_PARTS:
        if name in by_name:
            event = by_name[name]
            lines.append(_numbers(name.partition(".")[2], event, event.cpu_time_total, event.device_time_total, steps))
    lines += ["", _row("operation, without what it calls", "calls", "CPU ms", "device ms")]
    operations = [event for event in events if event.key not in STEP_PARTS]
    for event in sorted(operations, key=lambda e: -(e.self_device_time_total + e.self_cpu_time_total))[:_ROWS]:
        lines.append(_numbers(str(event.key), event, event.self_cpu_time_total, event.self_device_time_total, steps))
    reads = [f"{name} {by_name[name].count / steps:.1f}" for name in _READS if name in by_name]
    # Where the device is a CPU, nobody waits.
    return "\n".join([*lines, "", f"read back from the device, times a step: {', '.join(reads) or 'none'}", ""])


def _numbers(name: str, event: FunctionEventAvg, cpu: float, device: float, steps: int) -> str:
    return _row(name, f"{event.count / steps:.1f}", f"{cpu / 1000 / steps:.2f}", f"{device / 1000 / steps:.2f}")


def _row(name: str, calls: str, cpu: str, device: str) -> str:
    return f"{name[:44]:<44} {calls:>9} {cpu:>11} {device:>11}"
