"""Many files at once, in threads."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from guidino_cli.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Sequence[Item], description: str) -> list[Result]:
    """Apply a function to all items and show a bar: Pillow decodes without the interpreter lock."""
    pool = ThreadPoolExecutor(max_workers=os.cpu_count())
    try:
        return list(track(pool.map(function, items), total=len(items), description=description))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
