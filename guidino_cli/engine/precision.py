"""In which numbers training computes."""

import torch

from guidino_cli.errors import ConfigError
from guidino_cli.types import Prediction


def training_precision(wanted: str, device: str | None) -> str:
    """Resolve "auto": bf16 or fp16 on CUDA; on a CPU bf16 if it has units for it, without which it is slower."""
    without_cuda = device == "cpu" or not torch.cuda.is_available()
    if wanted == "fp16" and without_cuda:
        raise ConfigError("train.precision is fp16, which needs a CUDA device; use no, bf16 or auto")
    if wanted != "auto":
        return wanted
    if without_cuda:
        return "bf16" if cpu_has_bf16() else "no"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 itself: AMX, or AVX-512's instructions for it."""
    # torch has no public name for this; both are in every version since 2.6.
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def in_full(prediction: Prediction) -> Prediction:
    """A prediction whose loss can be summed over many pixels: in single precision."""
    guide = prediction.guide
    return Prediction([logits.float() for logits in prediction.logits], None if guide is None else guide.float())
