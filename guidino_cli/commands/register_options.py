"""Options of `guidino register` and `register train`, checked before anything large is imported."""

from dataclasses import fields
from math import inf

from guidino_cli.errors import ConfigError
from guidino_cli.options.parsing import parse_grey_window
from guidino_cli.options.registration import (
    FeatureKind,
    NetworkInput,
    NetworkLoss,
    RegisterOptions,
    RegisterTrainOptions,
)

_KINDS: tuple[FeatureKind, ...] = ("mind", "dino", "both")
_INPUTS: tuple[NetworkInput, ...] = ("image", *_KINDS)
_LOSSES: tuple[NetworkLoss, ...] = ("lncc", "features")
_OF_BACKBONE = ("backbone", "weights", "random_weights", "layer", "px")
_OF_CONVEXADAM = ("features", *_OF_BACKBONE, "pca", "components", "grid", "reach", "steps", "smoothness", "window")
_SMOOTHNESS = {"lncc": 1.0, "features": 1.25}
"""VoxelMorph's with local correlation, ConvexAdam's with features."""


def check_options(options: RegisterOptions) -> None:
    """Raise `ConfigError` for values that cannot be, or options that do not go together."""
    kind = choose_features(options)
    if options.network is not None:
        _require_none_of_convexadam(options)
    elif kind == "mind":
        _require_no_backbone(options, "MIND needs")
    _check_onto(options.onto)
    _check_smoothness(options.smoothness)
    if options.skip_existing and options.overwrite:
        raise ConfigError("--skip-existing keeps pairs, --overwrite replaces them: choose one")
    choose_limits(options)


def check_training_options(options: RegisterTrainOptions) -> None:
    """Raise `ConfigError` for values that cannot be, or options that do not go together."""
    kind = choose_input(options)
    if kind in {"image", "mind"}:
        _require_no_backbone(options, f"{kind} needs")
    _check_onto(options.onto)
    if options.resume and options.overwrite:
        raise ConfigError("--resume goes on with a training, --overwrite starts it again: choose one")
    if not 0 < options.learning_rate < inf:
        raise ConfigError(f"--learning-rate {options.learning_rate:g}: expected a number above 0, such as 1e-4")
    _check_smoothness(choose_loss(options)[1])
    choose_limits(options)


def choose_input(options: RegisterTrainOptions) -> NetworkInput:
    """What a network sees; `ConfigError` if there are no such features."""
    for kind in _INPUTS:
        if options.features == kind:
            return kind
    raise ConfigError(f"--features {options.features}: expected image, mind, dino or both")


def choose_loss(options: RegisterTrainOptions) -> tuple[NetworkLoss, float]:
    """The loss and the weight of a smooth field; `ConfigError` if there is no such loss."""
    name = options.loss or ("lncc" if options.features == "image" else "features")
    for loss in _LOSSES:
        if name == loss:
            return loss, _SMOOTHNESS[loss] if options.smoothness is None else options.smoothness
    raise ConfigError(f"--loss {options.loss}: expected lncc or features")


def _require_none_of_convexadam(options: RegisterOptions) -> None:
    for field in fields(options):
        if field.name in _OF_CONVEXADAM and getattr(options, field.name) != field.default:
            raise ConfigError(
                f"{_as_typed(field.name)} does not go with --network, which brings its own features and settings: "
                "leave it out"
            )


def _require_no_backbone(options: RegisterOptions | RegisterTrainOptions, who: str) -> None:
    for name in _OF_BACKBONE:
        if getattr(options, name) is not None:
            raise ConfigError(f"{_as_typed(name)} is for --features dino or both; {who} no backbone")


def _as_typed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_smoothness(weight: float) -> None:
    if not 0 <= weight < inf:
        raise ConfigError(f"--smoothness {weight:g}: expected a number of 0 or more, such as 1.25")


def _check_onto(onto: str | None) -> None:
    if onto not in {None, "fixed"}:
        raise ConfigError(f"--onto {onto}: expected fixed, the only grid that is asked for")


def choose_features(options: RegisterOptions) -> FeatureKind:
    """The kind of features; `ConfigError` if there is no such kind."""
    for kind in _KINDS:
        if options.features == kind:
            return kind
    raise ConfigError(f"--features {options.features}: expected mind, dino or both")


def choose_limits(options: RegisterOptions | RegisterTrainOptions) -> tuple[float, float] | None:
    """Low and high ends of `--window`, None for those of each image; `ConfigError` if it is no window."""
    window = parse_grey_window("--window", options.window)
    return None if window is None else (window[0] - window[1] / 2, window[0] + window[1] / 2)
