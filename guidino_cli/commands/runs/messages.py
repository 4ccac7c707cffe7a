"""Messages of `train` about a run: the model, and hints when it is interrupted."""

import errno
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from accelerate import PartialState
from rich.console import Console
from rich.table import Table
from torch.nn import Parameter

from guidino_cli.config import RunConfig
from guidino_cli.data.manifest import Manifest
from guidino_cli.engine.runs.inputs import NetworkInput
from guidino_cli.engine.training.data import steps_per_epoch
from guidino_cli.errors import ConfigError, ResourceError, explain_out_of_memory
from guidino_cli.models.base import is_lora_parameter
from guidino_cli.models.composed import Model
from guidino_cli.progress import pluralize


@contextmanager
def add_resume_hints(
    folder: Path, *, resume_command: str, can_resume: Callable[[], bool], memory_hint: str
) -> Iterator[None]:
    """Turn errors of the operating system into a `ResourceError` with hints, and print one on Ctrl-C.

    Args:
        folder: The run folder.
        resume_command: Command line that resumes the run.
        can_resume: Whether there is a state to resume from.
        memory_hint: Settings to change if memory runs out.
    """
    try:
        with explain_out_of_memory(f"{memory_hint}; or {resume_command}"):
            yield
    except KeyboardInterrupt:
        hint = (
            f"resume with: {resume_command}" if can_resume() else "nothing was saved yet, start again with --overwrite"
        )
        print(f"guidino: interrupted in the middle of a step; {hint}", file=sys.stderr)
        raise
    except ResourceError as error:
        raise ResourceError(
            f"{error}; then {resume_command}" if "--resume" not in str(error) else str(error)
        ) from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise ResourceError(f"{folder}: disk full; free some space, then {resume_command}") from error


@contextmanager
def explain_determinism_errors() -> Iterator[None]:
    """Turn torch's error on `train.deterministic` into one that names the operation and what to do."""
    try:
        yield
    except RuntimeError as error:
        if "deterministic implementation" not in str(error):
            raise
        reason = str(error).partition(" does not have")[0]
        raise ConfigError(
            f"train.deterministic: torch has no deterministic implementation of {reason} on this device; leave the "
            "setting out, or use another segmenter"
        ) from error


def print_run_summary(config: RunConfig, model: Model, manifest: Manifest, network_input: NetworkInput) -> None:
    """Print model, weights, data, grid and schedule to stderr."""
    counts = {split: len(manifest.select(split, config.data.fold)) for split in ("train", "val")}
    batch = describe_batch(config.train.batch_size, config.train.accumulate)
    rows = {
        **({"preset": config.description} if config.description else {}),
        "model": _model_text(config),
        "parameters": _trainable_of_all(model.named_parameters(), config),
        **_parameters_by_part(model, config),
        "backbone": "none" if model.backbone is None else model.backbone.identity["weights"],
        "data": f"{manifest.name}: {counts['train']} train, {counts['val']} val; {', '.join(manifest.classes)}",
        **_volume_rows(network_input),
        "grid": f"{_grid_text(config, network_input)}, augmentation {config.data.augment}",
        "schedule": f"{_epochs_text(config, network_input)}, {batch}, {_lr_text(config)}",
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows.items():
        table.add_row(name, value)
    Console(stderr=True, highlight=False).print(table)


def _grid_text(config: RunConfig, network_input: NetworkInput) -> str:
    """Size of the network's input, in words."""
    if network_input.patch_size is not None:
        return f"patches of {' x '.join(map(str, network_input.patch_size))} voxels (slices x rows x columns)"
    size, resize = config.data.image_size, config.data.resize
    seen = {1: "slices of "} if network_input.volumes is not None else {1: ""}
    each = seen.get(network_input.slab, f"slabs of {network_input.slab} slices of ")
    return f"{each}{size} x {size} px, resize {resize}"


def _epochs_text(config: RunConfig, network_input: NetworkInput) -> str:
    epochs = pluralize(config.train.epochs, "epoch")
    return epochs if network_input.volumes is None else f"{epochs} of {steps_per_epoch(config)} steps"


def _volume_rows(network_input: NetworkInput) -> dict[str, str]:
    """Channels and voxels of volumes; {} for images."""
    volumes = network_input.volumes
    if volumes is None:
        return {}
    channels = zip(volumes.channels, volumes.intensities, strict=True)
    spacing = " x ".join("own" if side is None else f"{side:.4g}" for side in volumes.spacing_mm)
    voxels = "voxels of their own spacing" if set(volumes.spacing_mm) == {None} else f"voxels of {spacing} mm"
    mapped = ", ".join(f"{name} mapped by {intensity.kind}" for name, intensity in channels)
    return {"volumes": f"{mapped}; {voxels}; slices along {'zyx'[volumes.slice_axis]}"}


def _model_text(config: RunConfig) -> str:
    """The segmenter, what gates it and what adapts its backbone."""
    model = config.model
    parts = [model.segmenter.name]
    if model.guide is not None:
        name = model.guide.name
        ways = {"logits": f"guide {name} at its logits", "channels": f"guide {name} among its input channels"}
        parts.append(ways.get(model.guide.at, f"gated by {name} at its {model.guide.at}"))
    if model.lora is not None:
        parts.append(f"backbone adapted by LoRA of rank {model.lora.rank}")
    return ", ".join([*parts, *(["backbone trained whole"] if model.finetune is not None else [])])


def describe_batch(size: int, accumulate: int) -> str:
    """Images of an optimization step, and how they come together: "batch 32 (8 on each of 2 processes, 2 times)"."""
    processes = PartialState().num_processes
    if accumulate == processes == 1:
        return f"batch {size}"
    each = f"{size} on each of {processes} processes" if processes > 1 else str(size)
    return f"batch {size * accumulate * processes} ({each}{f', {accumulate} times' if accumulate > 1 else ''})"


def _lr_text(config: RunConfig) -> str:
    heads = "heads frozen" if config.train.freeze_heads else f"lr {config.train.lr:g}"
    if config.model.finetune is not None:
        return f"{heads}, backbone's lr {config.train.backbone_lr or config.train.lr:g}"
    return heads if config.model.lora is None else f"{heads}, adapter's lr {config.train.lora_lr:g}"


def _parameters_by_part(model: Model, config: RunConfig) -> dict[str, str]:
    """Trainable and all parameters of each part if the backbone is trained too, else nothing."""
    if config.model.lora is None and config.model.finetune is None:
        return {}
    named = list(model.named_parameters())
    parts = {
        "adapter": [item for item in named if is_lora_parameter(item[0])],
        "backbone": [item for item in named if item[0].startswith("backbone.") and not is_lora_parameter(item[0])],
        "guide": [item for item in named if item[0].startswith("guide.")],
        "segmenter": [item for item in named if item[0].startswith("segmenter.")],
    }
    return {f"  {part}": _trainable_of_all(items, config) for part, items in parts.items() if items}


def _trainable_of_all(named: Iterable[tuple[str, Parameter]], config: RunConfig) -> str:
    items = list(named)
    frozen_heads = config.train.freeze_heads
    trainable = sum(p.numel() for name, p in items if p.requires_grad and (is_lora_parameter(name) or not frozen_heads))
    return f"{trainable:,} trainable of {sum(p.numel() for _, p in items):,}"
