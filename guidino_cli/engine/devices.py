"""Device and precision of a computation."""

from contextlib import AbstractContextManager, nullcontext

import torch

from guidino_cli.engine.cpu_features import emulates_bf16
from guidino_cli.errors import ConfigError
from guidino_cli.types import Prediction


def pick_device(name: str | None) -> torch.device:
    """The named device, or the best one present.

    Raises:
        ConfigError: The device does not exist.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        # For an unknown name torch lists all device types it knows.
        reason = (
            str(error).splitlines()[0].partition("Expected one of")[0].partition(". ")[0].strip()
            or "no such device type"
        )
        raise ConfigError(
            f"--device {name}: cannot be used ({reason}); expected cpu, cuda, cuda:0 or mps; leave it out for the best"
        ) from error
    return device


def require_device_in_use(name: str | None, used: torch.device) -> None:
    """`ConfigError` if the named device does not exist, or is not the one that accelerate uses."""
    if name is None:
        return
    wanted = pick_device(name)
    # A single process is on "cuda", without a number: the current card.
    index = torch.cuda.current_device() if used.type == "cuda" and used.index is None else used.index
    if wanted.type != used.type or wanted.index not in {None, index}:
        raise ConfigError(
            f"--device {name}: training would use {used}; choose a card with CUDA_VISIBLE_DEVICES instead"
        )


def resolve_precision(wanted: str, device: str | None) -> str:
    """Resolve "auto": bf16 or fp16 on CUDA, full precision on a CPU.

    bf16 is five times slower on a CPU without instructions for it. With them it is fast, but only used on request.

    Gradients of an untrained GuiDINO-W in bf16 differ by two thirds of their norm from those in full precision. This is
    due to the network, not to bf16: in full precision they change as much when the image changes by the rounding error
    of bf16 (1 part in 256), since batch normalization divides by the spread of a few values at first. With fixed
    statistics the difference is 3 %; after 25 steps it is 2 %, while another batch differs by 170 %. The TokenBook
    always computes in full precision.
    """
    without_cuda = device == "cpu" or not torch.cuda.is_available()
    if wanted == "fp16" and without_cuda:
        raise ConfigError("train.precision is fp16, which needs a CUDA device; use no, bf16 or auto")
    if wanted != "auto":
        return wanted
    if without_cuda:
        return "no"
    # Before Ampere torch emulates bf16, slowly.
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def resolve_prediction_precision(wanted: str, *, validated: str | None, device: torch.device) -> str:
    """Precision of validation and prediction: "no", "bf16" or "fp16".

    Args:
        wanted: `predict.precision`. "auto" is `validated`, or full where the device has none such: bf16 on a CPU that
            would emulate it or on a GPU before Ampere, fp16 without a GPU.
        validated: What the run is trained and validated in; None for runs that record none: those were validated in
            full precision.
        device: Device of the model.

    Raises:
        ConfigError: fp16 is requested of another device than a GPU.
    """
    if wanted == "fp16" and device.type != "cuda":
        raise ConfigError("predict.precision is fp16, which needs a CUDA device; use no, bf16 or auto")
    if wanted != "auto":
        return wanted
    if validated == "fp16" and device.type == "cuda":
        return "fp16"
    return "bf16" if validated == "bf16" and _has_bf16(device) else "no"


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and not emulates_bf16()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Mixed precision by name; "no" changes nothing."""
    if precision == "no":
        return nullcontext()
    return torch.autocast(device.type, dtype={"bf16": torch.bfloat16, "fp16": torch.float16}[precision])


def use_fast_kernels(device: torch.device, precision: str) -> None:
    """Let a GPU choose its kernels for speed; a CPU is left as it is.

    The first time cuDNN sees a shape it tries its kernels and keeps the fastest (`torch.backends.cudnn.benchmark`).
    That pays here: batches of training have one shape, and windows of prediction few. Not with `train.deterministic`,
    since the choice may differ between runs.

    In full precision, torch multiplies matrices in float32 but convolves in TF32, on cards that have it. Products are
    set to TF32 as well (`torch.set_float32_matmul_precision`). With bf16 or fp16 they are not: what is still float32
    there, such as losses and the TokenBook, is so on purpose.
    """
    if device.type != "cuda":
        return
    if not torch.are_deterministic_algorithms_enabled():
        torch.backends.cudnn.benchmark = True
    if precision == "no":
        torch.set_float32_matmul_precision("high")


def bf16_emulation_warning(wanted: str, device: str | None) -> str | None:
    """A warning if bf16 is requested on a CPU known to have no instructions for it, else None."""
    if wanted != "bf16" or (device != "cpu" and torch.cuda.is_available()):
        return None
    if not emulates_bf16():
        return None
    return "train.precision is bf16, but this CPU has no instructions for it and emulates it slowly; use no or auto"


def to_float32(prediction: Prediction) -> Prediction:
    """Convert logits and guide to single precision, in which losses can be summed over many pixels."""
    guide = prediction.guide
    return Prediction([logits.float() for logits in prediction.logits], None if guide is None else guide.float())
