"""Which device to compute on."""

import torch

from guidino_cli.errors import ConfigError


def pick_device(name: str | None) -> torch.device:
    """The named device, or the best one present.

    Raises:
        ConfigError: The device is not there.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        # torch answers an unknown name with the whole list of its devices, most of which nobody has.
        reason = (
            str(error).splitlines()[0].partition("Expected one of")[0].partition(". ")[0].strip()
            or "no such device type"
        )
        raise ConfigError(
            f"--device {name}: cannot be used ({reason}); expected cpu, cuda, cuda:0 or mps; leave it out for the best"
        ) from error
    return device


def require_used(name: str | None, used: torch.device) -> None:
    """`ConfigError` if the named device is not there, or not the one that accelerate uses."""
    if name is None:
        return
    wanted = pick_device(name)
    if wanted.type != used.type or wanted.index not in {None, used.index}:
        raise ConfigError(
            f"--device {name}: training would use {used}; choose a card with CUDA_VISIBLE_DEVICES instead"
        )
