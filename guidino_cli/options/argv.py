"""Options as command-line arguments, for child processes."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

OptionValue = str | int | bool | Path | list[str] | None


def to_argv(options: Mapping[str, OptionValue]) -> list[str]:
    """`{"seed": 3, "resume": True, "set": ["a=1"], "out": None}` as `--seed 3 --resume --set a=1`."""
    argv: list[str] = []
    for name, value in options.items():
        if isinstance(value, bool):
            argv += [f"--{name}"] if value else []
        elif isinstance(value, list):
            argv += [word for item in value for word in (f"--{name}", item)]
        elif value is not None:
            argv += [f"--{name}", str(value)]
    return argv


def option_values(options: Any) -> dict[str, OptionValue]:
    """Values of a dataclass of options by the long names that Typer gives them, such as "dry-run" for `dry_run`."""
    hints = get_type_hints(type(options), include_extras=True)
    return {_long_name(field.name, hints[field.name]): getattr(options, field.name) for field in fields(options)}


def _long_name(field: str, annotation: Any) -> str:
    option = annotation.__metadata__[0]
    # Within Annotated, Typer takes the first name for the default.
    declared = (option.default, *(option.param_decls or ()))
    names = [str(name).removeprefix("--") for name in declared if str(name).startswith("--")]
    return names[0] if names else field.replace("_", "-")
