"""Which classes does the user name, and which mask values stand for them?"""

import re
from dataclasses import dataclass

from guidino_cli.data.masks.rule import Code
from guidino_cli.errors import ConfigError

_EXAMPLE = "expected names such as 'background,polyp' or values such as '0=background,255=polyp' or '#ff0000=polyp'"


@dataclass(frozen=True)
class Classes:
    """Class names by index, the first being the background, and the values that stand for them if the user gave any."""

    names: tuple[str, ...]
    codes: dict[Code, int] | None = None


def parse_classes(text: str) -> Classes:
    """Read `--classes`: names in the order of their indices, or `value=name` entries.

    Values are grey values or indices (`0`, `255`) or colours (`#ff0000`); several values may share a name. The first
    name is the background, index 0.

    Raises:
        ConfigError: Neither form, names twice, one name only, or more than 255.
    """
    entries = [entry.strip() for entry in text.split(",")]
    with_values = ["=" in entry for entry in entries]
    if any(with_values) != all(with_values) or not all(entries):
        raise ConfigError(f"--classes '{text}': {_EXAMPLE}")
    classes = _with_values(entries, text) if all(with_values) else Classes(tuple(entries))
    if len(set(classes.names)) != len(classes.names):
        raise ConfigError(f"--classes '{text}': a name is given twice")
    if not 2 <= len(classes.names) <= 255:
        raise ConfigError(f"--classes '{text}': found {len(classes.names)} class, expected 2 to 255; {_EXAMPLE}")
    if "background" in classes.names[1:]:
        raise ConfigError(f"--classes '{text}': background must come first, it is class 0")
    return classes


def default_names(count: int) -> tuple[str, ...]:
    """Names for classes the user did not name: background, foreground; or background, class_1, class_2."""
    if count == 2:
        return ("background", "foreground")
    return ("background", *(f"class_{index}" for index in range(1, count)))


def _with_values(entries: list[str], text: str) -> Classes:
    names: list[str] = []
    codes: dict[Code, int] = {}
    for entry in entries:
        value, _, name = (part.strip() for part in entry.partition("="))
        code = _code(value, text)
        if not name or code in codes:
            raise ConfigError(f"--classes '{text}': '{entry}' has no name or repeats a value; {_EXAMPLE}")
        if name not in names:
            names.append(name)
        codes[code] = names.index(name)
    return Classes(tuple(names), codes)


def _code(value: str, text: str) -> Code:
    if re.fullmatch(r"-?\d+", value):
        return int(value)
    if re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)
    raise ConfigError(f"--classes '{text}': '{value}' is neither a whole number nor a colour like #ff0000")
