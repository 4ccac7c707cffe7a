"""Device and precision of a computation."""

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
