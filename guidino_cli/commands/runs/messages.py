"""What `train` prints about a run: the model and hints when it is interrupted."""

import errno
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table
from torch.nn import Parameter

from guidino_cli.config import RunConfig
from guidino_cli.data.manifest import Manifest
from guidino_cli.errors import ConfigError, ResourceError
from guidino_cli.models.base import is_lora_parameter
from guidino_cli.models.composed import Model
from guidino_cli.progress import pluralize

_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@contextmanager
def add_resume_hints(folder: Path, *, go_on: str, is_begun: Callable[[], bool], less_memory: str) -> Iterator[None]:
    """Turn errors of the system into a `ResourceError`, and say on stderr what Ctrl-C leaves.

    Args:
        folder: Of the run.
        go_on: The command line that goes on with it.
        is_begun: Whether there is a state to go on from.
        less_memory: Which settings to change where memory ran out.
    """
    try:
        yield
    except KeyboardInterrupt:
        way = f"go on with: {go_on}" if is_begun() else "nothing was done yet, start again with --overwrite"
        print(f"guidino: interrupted in the middle of a step; {way}", file=sys.stderr)
        raise
    except ResourceError as error:
        raise ResourceError(f"{error}; then {go_on}" if "--resume" not in str(error) else str(error)) from error
    except (MemoryError, RuntimeError, OSError) as error:
        if isinstance(error, MemoryError) or any(words in str(error).lower() for words in _NO_MEMORY):
            raise ResourceError(f"out of memory ({_first_line(error)}); {less_memory}; or {go_on}") from error
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise ResourceError(f"{folder}: disk full; free some space, then {go_on}") from error
        raise


@contextmanager
def explain_determinism_errors() -> Iterator[None]:
    """Turn torch's refusal of `train.deterministic` into a line that names what it has no deterministic form of."""
    try:
        yield
    except RuntimeError as error:
        if "deterministic implementation" not in str(error):
            raise
        reason = str(error).partition(" does not have")[0]
        raise ConfigError(
            f"train.deterministic: torch has no deterministic form of {reason} on this device; leave the setting "
            "out, or take another segmenter"
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def print_run_summary(config: RunConfig, model: Model, manifest: Manifest) -> None:
    """Say on stderr: the model and its weights, the data, the grid, the schedule."""
    counts = {split: len(manifest.select(split, config.data.fold)) for split in ("train", "val")}
    size, resize = config.data.image_size, config.data.resize
    rows = {
        "model": config.description or config.model.segmenter.name,
        "parameters": _learning_of_all(model.named_parameters(), config),
        **_parameters_by_part(model, config),
        "backbone": "none" if model.backbone is None else model.backbone.identity["weights"],
        "data": f"{manifest.name}: {counts['train']} train, {counts['val']} val; {', '.join(manifest.classes)}",
        "grid": f"{size} x {size} px, resize {resize}, augmentation {config.data.augment}",
        "schedule": f"{pluralize(config.train.epochs, 'epoch')}, batch {config.train.batch_size}, {_rates(config)}",
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows.items():
        table.add_row(name, value)
    Console(stderr=True, highlight=False).print(table)


def _rates(config: RunConfig) -> str:
    heads = "heads frozen" if config.train.freeze_heads else f"lr {config.train.lr:g}"
    if config.model.finetune is not None:
        return f"{heads}, backbone's lr {config.train.backbone_lr or config.train.lr:g}"
    return heads if config.model.lora is None else f"{heads}, adapter's lr {config.train.lora_lr:g}"


def _parameters_by_part(model: Model, config: RunConfig) -> dict[str, str]:
    """Which part learns how much, where the backbone does too; else nothing is said."""
    if config.model.lora is None and config.model.finetune is None:
        return {}
    named = list(model.named_parameters())
    parts = {
        "adapter": [item for item in named if is_lora_parameter(item[0])],
        "backbone": [item for item in named if item[0].startswith("backbone.") and not is_lora_parameter(item[0])],
        "guide": [item for item in named if item[0].startswith("guide.")],
        "segmenter": [item for item in named if item[0].startswith("segmenter.")],
    }
    return {f"  {part}": _learning_of_all(items, config) for part, items in parts.items() if items}


def _learning_of_all(named: Iterable[tuple[str, Parameter]], config: RunConfig) -> str:
    items = list(named)
    frozen_heads = config.train.freeze_heads
    learning = sum(p.numel() for name, p in items if p.requires_grad and (is_lora_parameter(name) or not frozen_heads))
    return f"{learning:,} trainable of {sum(p.numel() for _, p in items):,}"
