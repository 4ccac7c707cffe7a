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
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {name}: cannot be used ({reason}); leave it out or use --device cpu") from error
    return device
