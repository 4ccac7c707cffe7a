"""Which options of other commands a task of a recipe may have, with the types and limits that the commands declare."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Literal, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from guidino_cli.errors import ConfigError
from guidino_cli.options.evaluation import EvaluateOptions
from guidino_cli.options.probing import BagProbeOptions, FeatureOptions, LinearProbeOptions, NeighbourProbeOptions
from guidino_cli.options.registration import RegisterOptions

TaskKind = Literal["linear", "knn", "abmil", "decoder", "registration"]
KINDS: tuple[TaskKind, ...] = get_args(TaskKind)
REGISTRATION_METRICS = ("dice", "hd95", "asd", "correlation", "folding")
PROBE_KINDS: tuple[TaskKind, ...] = ("linear", "knn", "abmil")

_FEATURES = (
    "token", "layers", "px", "label", "classes", "every", "window", "orientation", "min_tissue", "batch", "seed",
)  # fmt: skip
_PROBE = ("folds", "seeds", "per_class", "threshold")
_TAKEN: Mapping[TaskKind, tuple[tuple[type, tuple[str, ...]], ...]] = {
    "linear": ((FeatureOptions, _FEATURES), (LinearProbeOptions, (*_PROBE, "solver", "pool"))),
    "knn": ((FeatureOptions, _FEATURES), (NeighbourProbeOptions, (*_PROBE, "k", "pool"))),
    "abmil": ((FeatureOptions, _FEATURES), (BagProbeOptions, (*_PROBE, "epochs", "sheets"))),
    "decoder": ((EvaluateOptions, ("split", "metrics", "policy", "hd95", "tolerance", "lesion_iou", "group")),),
    "registration": (
        (
            RegisterOptions,
            (
                "features", "layer", "px", "pca", "components", "grid", "reach", "steps", "smoothness", "onto",
                "window", "orientation", "ignore_headers", "figures",
            ),
        ),
    ),
}  # fmt: skip


def option_names(kind: TaskKind) -> list[str]:
    """Names of the options that a task of this kind may have."""
    return [name for _, names in _TAKEN[kind] for name in names]


def read_option(kind: TaskKind, name: str, value: Any) -> Any:
    """The value of an option as its command takes it; lists and numbers become text where an option is text.

    Raises:
        ConfigError: Of another type, or beyond the limits that the option declares; without a place.
    """
    owner = next(owner for owner, names in _TAKEN[kind] if name in names)
    hint = get_type_hints(owner)[name]
    if str in (hint, *get_args(hint)):
        value = _as_text(value)
    wants_number = not {bool, str} & {hint, *get_args(hint)}
    if isinstance(value, bool) and wants_number:
        raise ConfigError(f"input should be a number, found {str(value).lower()}")
    try:
        found = TypeAdapter(hint).validate_python(value, strict=float not in (hint, *get_args(hint)))
    except ValidationError as error:
        raise ConfigError(f"{error.errors()[0]['msg'].lower()}, found {value!r:.80}") from error
    _require_limits(owner, name, found)
    return found


def take_options(owner: type, kind: TaskKind, given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the given options that belong to a dataclass of options."""
    own = next((names for known, names in _TAKEN[kind] if known is owner), ())
    return {name: value for name, value in given.items() if name in own}


def default_of(kind: TaskKind, name: str) -> Any:
    """The default of an option, as its command has it."""
    owner = next(owner for owner, names in _TAKEN[kind] if name in names)
    default = next(item.default for item in fields(owner) if item.name == name)
    return None if default is MISSING else default


def _as_text(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ",".join(str(item) for item in value)
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _require_limits(owner: type, name: str, value: Any) -> None:
    """`ConfigError` beyond the least and largest value in the declaration of a command's option."""
    if not isinstance(value, int | float):
        return
    metadata = getattr(get_type_hints(owner, include_extras=True)[name], "__metadata__", ())
    for item in metadata:
        low, high = getattr(item, "min", None), getattr(item, "max", None)
        if (low is not None and value < low) or (high is not None and value > high):
            limits = " ".join(f"{word} {end:g}" for word, end in (("from", low), ("to", high)) if end is not None)
            raise ConfigError(f"expected a number {limits}, found {value:g}")
