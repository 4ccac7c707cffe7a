"""Options of a task as its commands take them, checked before anything is computed or torch is imported."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from guidino_cli.commands import features, probe, register_options
from guidino_cli.commands.bench.recipe import BenchTask, Recipe
from guidino_cli.commands.bench.task_options import take_options
from guidino_cli.commands.evaluate_options import parse_options
from guidino_cli.commands.register_pairs import is_table
from guidino_cli.config import RunConfig, load_preset
from guidino_cli.errors import ConfigError
from guidino_cli.options.evaluation import EvaluateOptions
from guidino_cli.options.probing import (
    BagProbeOptions,
    FeatureOptions,
    LinearProbeOptions,
    NeighbourProbeOptions,
    ProbeOptions,
)
from guidino_cli.options.registration import RegisterOptions

_PROBES: Mapping[str, type[ProbeOptions]] = {
    "linear": LinearProbeOptions,
    "knn": NeighbourProbeOptions,
    "abmil": BagProbeOptions,
}


def check_tasks(recipe: Recipe) -> None:
    """Refuse options that the commands would refuse.

    Raises:
        ConfigError: The message has the path of the task.
    """
    checks: Mapping[str, Any] = {"decoder": _check_decoder, "registration": _check_registration}
    for task in recipe.tasks:
        try:
            checks.get(task.kind, _check_probe)(task)
        except ConfigError as error:
            raise ConfigError(f"{recipe.path}: tasks.{task.name}: {_as_key(str(error))}") from error


def _as_key(message: str) -> str:
    """The message of a command about `--px` as one about the key px."""
    option, _, rest = message.partition(" ")
    if not option.startswith("--"):
        return message
    name, colon = (option[2:-1], ":") if option.endswith(":") else (option[2:], "")
    return f"{name.replace('-', '_')}{colon} {rest}"


def feature_options(task: BenchTask, out: Path) -> FeatureOptions:
    """Options of `features` for a task, without the backbone."""
    return FeatureOptions(out=out, controls=task.controls, **take_options(FeatureOptions, task.kind, task.options))


def probe_options(task: BenchTask, out: Path) -> ProbeOptions:
    """Options of `probe` for a task."""
    kind = _PROBES[task.kind]
    return kind(out=out, **take_options(kind, task.kind, task.options))


def registration_options(task: BenchTask, out: Path) -> RegisterOptions:
    """Options of `register` for a task, without the backbone."""
    return RegisterOptions(out=out, **{"features": "dino", **take_options(RegisterOptions, task.kind, task.options)})


def decoder_options(task: BenchTask) -> EvaluateOptions:
    """Options of `evaluate` for the masks of a decoder."""
    return EvaluateOptions(**take_options(EvaluateOptions, task.kind, task.options))


def decoder_overrides(task: BenchTask) -> list[str]:
    """Settings of a task as `--set` takes them: JSON, which YAML reads as the value that it was."""
    return [f"{key}={json.dumps(value)}" for key, value in task.overrides.items()]


def decoder_config(task: BenchTask) -> RunConfig:
    """The preset of a decoder with the task's settings; `ConfigError` if its backbone is missing or learns."""
    config = load_preset(task.preset, decoder_overrides(task))
    if config.model.backbone is None:
        raise ConfigError(f"preset {task.preset} has no backbone; take one with a frozen one, such as kvasir-light2d")
    for way in ("lora", "finetune"):
        if getattr(config.model, way) is not None:
            raise ConfigError(f"preset {task.preset} trains the backbone; add model.{way}: null to set")
    return config


def _check_probe(task: BenchTask) -> None:
    features.check_options(feature_options(task, Path()))
    probe.check_options(probe_options(task, Path()))


def _check_decoder(task: BenchTask) -> None:
    if "model.backbone" in {key[: len("model.backbone")] for key in task.overrides}:
        raise ConfigError("set: model.backbone is what the recipe's backbones fill in; leave it out")
    decoder_config(task)
    parse_options(decoder_options(task))
    if decoder_options(task).split not in {"val", "test"}:
        raise ConfigError(
            f"split {decoder_options(task).split}: expected test or val; what was trained on tells nothing"
        )


def _check_registration(task: BenchTask) -> None:
    options = registration_options(task, Path())
    if not is_table(task.data):
        raise ConfigError(f"data {task.data}: expected a table of pairs, a CSV with the columns fixed,moving")
    if options.features == "mind":
        raise ConfigError("features mind: MIND is a row by itself; expected dino or both")
    # Of a backbone, so that px and layer are not refused.
    register_options.check_options(replace(options, backbone="guidino-tiny"))
