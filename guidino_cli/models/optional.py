"""Networks of libraries that only some people install: import them when asked for, or say which extra is missing."""

from importlib import import_module
from typing import Any

from torch import nn

from guidino_cli.errors import DependencyError
from guidino_cli.models.layers import CellNorm


def optional(module: str, *, extra: str, needed_by: str, hint: str = "") -> Any:
    """A module of an optional package.

    Args:
        module: Its dotted name.
        extra: What to install: `pip install 'guidino[extra]'`.
        needed_by: What was asked for, for the message.
        hint: What else may be wrong.

    Raises:
        DependencyError: The package, or one that it needs, is missing or cannot be used.
    """
    try:
        return import_module(module)
    # torchvision ends with a RuntimeError where it was built for another torch.
    except (ImportError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        ways = f"pip install 'guidino[{extra}]'{'; ' + hint if hint else ''}"
        raise DependencyError(f"{needed_by} needs {module.split('.')[0]} ({reason}): {ways}") from error


def monai_nets(needed_by: str) -> Any:
    """The module `monai.networks.nets`; `DependencyError` without MONAI or einops, which its transformers need."""
    optional("einops", extra="monai", needed_by=f"segmenter {needed_by}")
    return optional("monai.networks.nets", extra="monai", needed_by=f"segmenter {needed_by}")


def take_single_cells(net: nn.Module) -> nn.Module:
    """The same network with each fresh instance normalisation replaced by a `CellNorm`: names and values stay."""
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.InstanceNorm2d:
                setattr(parent, name, CellNorm(child.num_features, eps=child.eps, affine=child.affine))
    return net
