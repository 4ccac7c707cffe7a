"""A segmenter made ready to train: batch normalization over processes, memory format and compilation."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn

from guidino_cli.config import TrainSettings
from guidino_cli.models.base import Segmenter
from guidino_cli.models.composed import Model
from guidino_cli.processes import keep_all_freed_memory
from guidino_cli.progress import log_info


def is_batch_norm_synced(wanted: Literal["auto", True, False], *, device: torch.device, processes: int) -> bool:
    """Whether batch normalization uses statistics over all processes: "auto" is yes for several processes on GPUs."""
    return processes > 1 and device.type == "cuda" if wanted == "auto" else wanted


def convert_sync_batch_norm(segmenter: Segmenter) -> Segmenter:
    """Replace batch normalization by that over all processes; weights and their names stay."""
    converted: Segmenter = nn.SyncBatchNorm.convert_sync_batchnorm(segmenter)
    return converted


def apply_speedups(model: Model, settings: TrainSettings, *, device: torch.device, precision: str) -> None:
    """Apply `train.channels_last` and `train.compile` to the segmenter, before anything wraps the model."""
    if device.type == "cpu":
        keep_all_freed_memory()
    if model.segmenter.dims == 3:
        # Not measured on GPUs; on CPUs it gained nothing.
        if settings.channels_last is True:
            to_channels_last_3d(model.segmenter)
    elif is_channels_last(settings.channels_last, device=device, precision=precision):
        to_channels_last(model.segmenter)
    if settings.compile:
        compile_segmenter(model.segmenter)


def is_channels_last(wanted: Literal["auto", True, False], *, device: torch.device, precision: str) -> bool:
    """Whether the segmenter trains in channels-last memory format.

    "auto" is yes where fast kernels need it: on a GPU in bf16 or fp16 (tensor cores), and on a CPU with AVX-512 or AMX.
    With AVX2 alone the forward pass of nnWNet took 0.73 of the time, but the backward pass 1.36, so a step was slower.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cpu":
        return torch.cpu._is_avx512_supported()
    return device.type == "cuda" and precision in {"bf16", "fp16"}


def to_channels_last(network: nn.Module) -> None:
    """Convert convolution weights to channels-last; feature maps follow. Names and values stay."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def to_channels_last_3d(network: nn.Module) -> None:
    """Convert weights of three-dimensional convolutions likewise; `Module.to` refuses networks with others too."""
    for parameter in network.parameters():
        if parameter.ndim == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)


def compile_segmenter(segmenter: Segmenter, *, backend: str = "inductor") -> None:
    """Compile encoder and decoder for training; validation, with other image sizes, runs uncompiled.

    If torch cannot compile, for example without a C++ compiler, the reason is logged once and training continues
    uncompiled. Names of weights stay.

    Args:
        segmenter: Changed in place.
        backend: Of torch.compile.
    """
    for name in ("encode", "decode"):
        plain = getattr(segmenter, name)
        setattr(segmenter, name, _CompiledHalf(segmenter, plain, torch.compile(plain, backend=backend)))


class _CompiledHalf:
    def __init__(self, segmenter: Segmenter, plain: Callable[..., Any], compiled: Callable[..., Any]) -> None:
        self._segmenter, self._plain, self._compiled = segmenter, plain, compiled
        self._has_worked = self._has_failed = False

    def __call__(self, *arguments: Any) -> Any:
        if self._has_failed or not self._segmenter.training:
            return self._plain(*arguments)
        try:
            result = self._compiled(*arguments)
        except Exception as error:
            # After one success an error is the network's own, such as out of memory.
            if self._has_worked:
                raise
            self._has_failed = True
            log_info(f"train.compile: torch cannot compile the segmenter ({_reason(error)}); continuing without")
            return self._plain(*arguments)
        self._has_worked = True
        return result


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
