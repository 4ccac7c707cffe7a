"""Say how a long job is getting on: a bar on a terminal, one line an epoch elsewhere."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")

_console = Console(stderr=True)


@contextmanager
def progress_bar(*, enabled: bool = True) -> Iterator[Progress]:
    """A progress display on stderr, silent where stderr is not a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=_console, transient=True, disable=not (enabled and _console.is_terminal)) as bar:
        yield bar


@contextmanager
def status_line(*, enabled: bool = True) -> Iterator[Progress]:
    """One moving line on stderr whose task's description says all, the bar in what room is left; silent elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None))
    is_shown = enabled and _console.is_terminal
    with Progress(*columns, console=_console, transient=True, disable=not is_shown, expand=True) as bar:
        yield bar


def is_terminal() -> bool:
    """Whether somebody sees lines move."""
    return _console.is_terminal


def track(items: Iterable[T], *, total: int, description: str, every_seconds: float = 15.0) -> Iterator[T]:
    """Iterate with a progress bar; where stderr is no terminal, a plain line now and then instead."""
    started = said = time.monotonic()
    with progress_bar() as bar:
        task = bar.add_task(description, total=total, note="")
        for number, item in enumerate(items, start=1):
            yield item
            bar.advance(task)
            now = time.monotonic()
            if not _console.is_terminal and number < total and now - said >= every_seconds:
                left = (now - started) / number * (total - number)
                log_info(f"{description} {number}/{total}, about {format_duration(left)} left")
                said = now


def format_duration(seconds: float) -> str:
    """A time in one number and its unit, such as "45 s" or "1.5 h"."""
    seconds = max(0.0, seconds)
    for unit, size, enough in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds / size < enough:
            return f"{seconds / size:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86400:.1f} days"


def pluralize(count: int, noun: str, plural: str = "") -> str:
    """A number and its noun: "1 case", "2 cases", "0 cases"; `plural` where it does not only take an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def log_info(line: str) -> None:
    """Print one line of plain text to stderr, above a running bar."""
    _console.print(line, markup=False, highlight=False, soft_wrap=True)
