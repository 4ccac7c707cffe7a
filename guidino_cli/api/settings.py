"""Arguments of Python functions as the command line types them."""

import json
from collections.abc import Collection, Mapping
from dataclasses import fields
from typing import Any, TypeVar

from guidino_cli.errors import ConfigError, unknown_name

T = TypeVar("T")


def to_overrides(settings: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Settings as `--set` takes them: `{"train.epochs": 3}` becomes ("train.epochs=3",)."""
    return tuple(f"{key}={json.dumps(value, default=str)}" for key, value in (settings or {}).items())


def make_options(kind: type[T], given: Mapping[str, Any], *, refused: Collection[str] = ()) -> T:
    """Options of a command from keyword arguments, without the refused ones.

    Raises:
        ConfigError: No such option.
    """
    names = [item.name for item in fields(kind) if item.name not in refused]  # type: ignore[arg-type]
    for name in given:
        if name not in names:
            raise ConfigError(unknown_name("argument", name, names))
    return kind(**given)
