"""Command signatures read from dataclasses, so that an option is declared once.

    @dataclass(frozen=True)
    class ScoreOptions:
        seed: Annotated[int, typer.Option(help="Random seed.")] = 0

    @expand_dataclasses
    def score(masks: Annotated[Path, typer.Argument()], options: ScoreOptions) -> None: ...

Typer sees `score MASKS --seed`; the body receives a `ScoreOptions`.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import wraps
from inspect import Parameter
from typing import Any, get_type_hints


def expand_dataclasses(function: Callable[..., None]) -> Callable[..., None]:
    """Replace each dataclass parameter by one keyword parameter per field, for Typer to read.

    A field is annotated as Typer expects of a parameter, with `typer.Option` or `typer.Argument`, or is itself a
    dataclass. Fields keep the order of `dataclasses.fields`: those of parent classes come first.

    Raises:
        ValueError: Two parameters have the same name.
    """
    hints = get_type_hints(function, include_extras=True)
    own = inspect.signature(function).parameters
    expanded = [item for name in own for item in _expand(name, hints[name], own[name].default)]

    @wraps(function)
    def call(**values: Any) -> None:
        function(**{name: _collect(name, hints[name], values) for name in own})

    call.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]  # Functions accept any attribute.
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in expanded}
    return call


def _expand(name: str, annotation: Any, default: Any) -> Iterator[Parameter]:
    if not _is_dataclass_type(annotation):
        # Keyword-only, because a required parameter may follow one with a default.
        yield Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        return
    hints = get_type_hints(annotation, include_extras=True)
    for field in fields(annotation):
        yield from _expand(field.name, hints[field.name], _default(field))


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return Parameter.empty if field.default is MISSING else field.default


def _collect(name: str, annotation: Any, values: Mapping[str, Any]) -> Any:
    if not _is_dataclass_type(annotation):
        return values[name]
    hints = get_type_hints(annotation, include_extras=True)
    return annotation(**{field.name: _collect(field.name, hints[field.name], values) for field in fields(annotation)})


def _is_dataclass_type(annotation: Any) -> bool:
    return isinstance(annotation, type) and is_dataclass(annotation)
