"""Progress bars and log lines on stderr; plain lines where stderr is not a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

_console = Console(stderr=True)


@contextmanager
def progress_bar(*, enabled: bool = True) -> Iterator[Progress]:
    """Show a progress bar on stderr; nothing where stderr is not a terminal."""
    # Imported where a bar may be shown: it takes a tenth of a second.
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

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
    """Show one status line on stderr, a task's description and a bar in the remaining width; nothing elsewhere."""
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=None))
    is_shown = enabled and _console.is_terminal
    with Progress(*columns, console=_console, transient=True, disable=not is_shown, expand=True) as bar:
        yield bar


def is_terminal() -> bool:
    """Whether stderr is a terminal, on which lines can be redrawn."""
    return _console.is_terminal


def track(items: Iterable[T], *, total: int, description: str, every_seconds: float = 15.0) -> Iterator[T]:
    """Iterate with a progress bar, or with a plain line every `every_seconds` where stderr is not a terminal."""
    if not _console.is_terminal:
        yield from _track_with_lines(items, total=total, description=description, every_seconds=every_seconds)
        return
    with progress_bar() as bar:
        task = bar.add_task(description, total=total, note="")
        for item in items:
            yield item
            bar.advance(task)


def _track_with_lines(items: Iterable[T], *, total: int, description: str, every_seconds: float) -> Iterator[T]:
    started = logged = time.monotonic()
    for number, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if number < total and now - logged >= every_seconds:
            remaining = (now - started) / number * (total - number)
            log_info(f"{description} {number}/{total}, about {format_duration(remaining)} left")
            logged = now


def format_duration(seconds: float) -> str:
    """Format a duration as one number and a unit, such as "45 s" or "1.5 h"; negative ones as "0 s"."""
    seconds = max(0.0, seconds)
    for unit, size, limit in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds / size < limit:
            return f"{seconds / size:.{1 if unit == 'h' else 0}f} {unit}"
    return f"{seconds / 86400:.1f} days"


def pluralize(count: int, noun: str, plural: str = "") -> str:
    """Join a count and its noun: "1 case", "2 cases", "0 cases"; `plural` is for nouns that take more than an s."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def join_first(items: Sequence[str], separator: str = ", ", *, limit: int = 5) -> str:
    """Join the first few texts, followed by the number of those left out: "a, b and 3 more"."""
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return separator.join(items[:limit]) + more


def log_info(message: str) -> None:
    """Print one line of plain text to stderr, above a running bar."""
    _console.print(message, markup=False, highlight=False, soft_wrap=True)


def log_warning(message: str) -> None:
    """Print a warning to stderr, above a running bar."""
    log_info(f"guidino: warning: {message}")
