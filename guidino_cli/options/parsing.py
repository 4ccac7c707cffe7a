"""Parsers of option values that are text: shards, pairs of numbers, windows of grey values."""

import math
import re
from collections.abc import Callable
from typing import TypeVar

from guidino_cli.errors import ConfigError

N = TypeVar("N", int, float)


def parse_shard(option: str, text: str) -> tuple[int, int]:
    """Parse a shard such as `2/8`, the second of eight.

    Raises:
        ConfigError: Not of this form, or no such shard.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"{option} {text}: expected NUMBER/COUNT such as 2/8, the first is 1/8")
    return int(match[1]), int(match[2])


def split_names(text: str | None) -> list[str]:
    """Comma-separated names, without spaces around them; none of None, and none that is empty."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def parse_pair(number: Callable[[str], N], option: str, text: str, *, expected: str) -> tuple[N, N]:
    """Parse two numbers, such as `40,400`.

    Args:
        number: `int` or `float`.
        option: Name of the option, for the message.
        text: What was typed.
        expected: What would be valid, for the message.

    Raises:
        ConfigError: Not two numbers.
    """
    try:
        first, second = (number(part) for part in text.split(","))
    except ValueError as error:
        raise ConfigError(f"{option} {text}: expected {expected}") from error
    return first, second


def parse_grey_window(option: str, text: str) -> tuple[float, float] | None:
    """Parse a window of grey values: its level and width, or None for `auto`.

    Raises:
        ConfigError: Not two numbers, or a width that is not positive.
    """
    if text == "auto":
        return None
    return parse_fixed_grey_window(option, text, expected="two numbers, such as 40,400 or auto")


def parse_fixed_grey_window(option: str, text: str, *, expected: str) -> tuple[float, float]:
    """Parse the level and the width of a window of grey values, where there is no `auto`.

    Args:
        option: Name of the option, for the message.
        text: What was typed.
        expected: What would be valid, for the message.

    Raises:
        ConfigError: Not two numbers, or a width that is not positive.
    """
    level, width = parse_pair(float, option, text, expected=expected)
    if not (math.isfinite(level) and 0 < width < math.inf):
        raise ConfigError(f"{option} {text}: expected a level and a width above 0, such as 40,400")
    return level, width
