"""Options as the words that a user would type for them, to hand a command on to other processes."""

from collections.abc import Mapping
from pathlib import Path

Value = str | int | bool | Path | list[str] | None


def words(options: Mapping[str, Value]) -> list[str]:
    """`{"seed": 3, "resume": True, "set": ["a=1"], "out": None}` as `--seed 3 --resume --set a=1`."""
    result: list[str] = []
    for name, value in options.items():
        if isinstance(value, bool):
            result += [f"--{name}"] if value else []
        elif isinstance(value, list):
            result += [word for item in value for word in (f"--{name}", item)]
        elif value is not None:
            result += [f"--{name}", str(value)]
    return result
