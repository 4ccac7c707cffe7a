"""Size and cost of a segmenter: parameters, multiply-adds (FLOPs / 2), memory and time of a training step."""

import math
import multiprocessing
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import DINOv3ViTConfig, DINOv3ViTModel, Sam2HieraDetModel

from guidino_cli.errors import ResourceError
from guidino_cli.models.backbones.sam2 import SAM2, hiera_config
from guidino_cli.models.base import Segmenter
from guidino_cli.models.grids import strides_by_axis
from guidino_cli.models.segmenters.registry import HIERA_L, SEGMENTER_INFO, SEGMENTERS, ModelSize
from guidino_cli.registry import create

NUM_CLASSES = 2


@dataclass(frozen=True)
class Cost:
    """Cost of one image.

    Attributes:
        multiply_adds: Of a forward pass, including the backbone if it is a DINOv3 ViT; additions, norms and activations
            are not counted.
        memory_mb: Peak memory of a training step in 10^6 bytes, without interpreter and torch: weights, gradients,
            feature maps.
        seconds: Wall-clock time of that step, forward and backward.
    """

    multiply_adds: int
    memory_mb: float
    seconds: float


def measure_size(name: str) -> ModelSize:
    """Count the parameters of a registered segmenter, without allocating them.

    Raises:
        DependencyError: Its library is not installed.
    """
    with torch.device("meta"):
        segmenter = _segmenter(name)
        backbone = _backbone(name)
    weights = [*segmenter.parameters(), *(() if backbone is None else backbone.parameters())]
    trainable = sum(weight.numel() for weight in weights if weight.requires_grad)
    return ModelSize(trainable, sum(weight.numel() for weight in weights), segmenter.stride)


def measured_size(name: str, side: int) -> tuple[int, ...]:
    """Size of the image that a cost is measured on: a square, or a cube of a quarter of its side."""
    dims = SEGMENTER_INFO[name].dims
    return (side,) * 2 if dims == 2 else (max(1, side // 4),) * dims


def count_multiply_adds(name: str, side: int, *, with_backbone: bool = True) -> int:
    """Multiply-adds of a forward pass of an image of `measured_size`, padded to the segmenter's stride; see `Cost`."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        segmenter, backbone = _segmenter(name).eval(), _backbone(name) if with_backbone else None
        _forward(segmenter, name, side)
        if backbone is not None:
            *depth, height, width = measured_size(name, side)
            # It sees a volume slice by slice.
            backbone.eval()(torch.empty(math.prod(depth), 3, height, width))
    # It counts a multiply-add as two operations.
    return counter.get_total_flops() // 2


def measure_cost(name: str, side: int) -> Cost:
    """Measure a training step of one image in a fresh process on the CPU.

    Raises:
        ResourceError: The process died, probably out of memory.
    """
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_measure, args=(name, side, answers))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise ResourceError(f"{name}: measuring at {side} px ended with code {process.exitcode}; try a smaller --size")
    memory, seconds = answers.get()
    return Cost(count_multiply_adds(name, side), memory, seconds)


def _measure(name: str, side: int, answers: Any) -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        _segmenter(name)
    # Not counted: imports and one-time setup.
    nn.functional.conv2d(torch.rand(1, 3, 8, 8, requires_grad=True), torch.rand(3, 3, 3, 3)).sum().backward()
    before = _peak_bytes()
    began = time.monotonic()
    _step(name, side)
    answers.put(((_peak_bytes() - before) / 1e6, time.monotonic() - began))


def _step(name: str, side: int) -> None:
    # In evaluation mode, since some networks cannot normalize over a batch of one; feature maps are as in training.
    logits = _forward(_segmenter(name).eval(), name, side)
    torch.stack([level.square().mean() for level in logits]).sum().backward()


def _segmenter(name: str) -> Segmenter:
    reference = SEGMENTER_INFO[name].backbone
    dense = {} if reference is None else {"dense_channels": list(reference.channels)}
    segmenter: Segmenter = create("segmenter", name, SEGMENTERS, {}, num_classes=NUM_CLASSES, **dense)
    return segmenter


def _forward(segmenter: Segmenter, name: str, side: int) -> list[Tensor]:
    wanted = measured_size(name, side)
    steps = strides_by_axis(segmenter.stride, len(wanted))
    size = tuple(-(-length // step) * step for length, step in zip(wanted, steps, strict=True))
    reference = SEGMENTER_INFO[name].backbone
    levels = () if reference is None else tuple(zip(reference.channels, reference.strides, strict=True))
    dense = [
        torch.rand(1, channels, *size[:-2], *(max(1, length // stride) for length in size[-2:]))
        for channels, stride in levels
    ]
    if segmenter.reads_guide:
        dense.append(torch.rand(1, NUM_CLASSES - 1, *(max(1, length // 16) for length in size)))
    return segmenter.decode(segmenter.encode(torch.rand(1, 3, *size), dense), size)


def _backbone(name: str) -> nn.Module | None:
    """The reference backbone of a segmenter, frozen except for adapters."""
    reference = SEGMENTER_INFO[name].backbone
    if reference is None:
        return None
    if reference is HIERA_L:
        return SAM2(Sam2HieraDetModel(hiera_config("large")), identity={})
    width = reference.channels[-1]
    config = DINOv3ViTConfig(
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=12,
        num_attention_heads=reference.heads,
        num_register_tokens=4,
    )
    return DINOv3ViTModel(config).requires_grad_(False)


def _peak_bytes() -> int:
    """Peak main memory of this process."""
    status = Path("/proc/self/status")
    if status.is_file():
        # getrusage would include the memory of the parent when it started this process.
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
