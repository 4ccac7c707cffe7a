"""Options of `guidino register`, checked before anything large is imported."""

from guidino_cli.errors import ConfigError
from guidino_cli.options.parsing import parse_grey_window
from guidino_cli.options.registration import FeatureKind, RegisterOptions

_KINDS: tuple[FeatureKind, ...] = ("mind", "dino", "both")


def check_options(options: RegisterOptions) -> None:
    """Raise `ConfigError` for values that cannot be, or options that do not go together."""
    kind = choose_features(options)
    used = [name for name in ("backbone", "weights", "layer", "px") if getattr(options, name) is not None]
    if kind == "mind" and used:
        raise ConfigError(f"--{used[0]} is for --features dino or both; MIND needs no backbone")
    if options.onto not in {None, "fixed"}:
        raise ConfigError(f"--onto {options.onto}: expected fixed, the only grid that is asked for")
    if options.skip_existing and options.overwrite:
        raise ConfigError("--skip-existing keeps pairs, --overwrite replaces them: choose one")
    choose_limits(options)


def choose_features(options: RegisterOptions) -> FeatureKind:
    """The kind of features; `ConfigError` if there is no such kind."""
    for kind in _KINDS:
        if options.features == kind:
            return kind
    raise ConfigError(f"--features {options.features}: expected mind, dino or both")


def choose_limits(options: RegisterOptions) -> tuple[float, float] | None:
    """Low and high ends of `--window`, None for those of each image; `ConfigError` if it is no window."""
    window = parse_grey_window("--window", options.window)
    return None if window is None else (window[0] - window[1] / 2, window[0] + window[1] / 2)
