"""Two numbers that a user types as one word."""

import math
import re

from guidino_cli.errors import ConfigError


def pair(option: str, text: str, *, between: str, example: str) -> tuple[float, float]:
    """`40,400` as 40.0 and 400.0.

    Raises:
        ConfigError: Not two numbers.
    """
    first, _, second = text.partition(between)
    try:
        return float(first), float(second)
    except ValueError as error:
        raise ConfigError(f"{option} {text}: expected two numbers, such as {example}") from error


def level_and_width(option: str, text: str) -> tuple[float, float] | None:
    """A window of grey values, or None for `auto`.

    Raises:
        ConfigError: Not two numbers, or a width that holds no values.
    """
    if text == "auto":
        return None
    level, width = pair(option, text, between=",", example="40,400 or auto")
    if not (math.isfinite(level) and 0 < width < math.inf):
        raise ConfigError(f"{option} {text}: expected a level and a width above 0, such as 40,400")
    return level, width


def share(option: str, text: str) -> tuple[int, int]:
    """`2/8`, the second of eight shares, as 2 and 8.

    Raises:
        ConfigError: Not of this form, or no such share.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text, re.ASCII)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"{option} {text}: expected NUMBER/COUNT such as 2/8, the first is 1/8")
    return int(match[1]), int(match[2])
