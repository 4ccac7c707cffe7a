"""Load weights strictly, and tell one set of weights from another by a hash."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from guidino_cli.errors import WeightsError


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over the names, shapes and values of a module's weights, independent of the file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        # A view of the bytes: one more copy of 13 GB would not fit everywhere. A GPU's come over one at a time.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def load_strictly(module: nn.Module, path: Path, *, may_miss: tuple[str, ...] = ()) -> None:
    """Load safetensors into a module: every tensor placed, or the load fails with names.

    Args:
        module: Receives the weights.
        path: A .safetensors file.
        may_miss: Prefixes of the module's keys that the file need not hold.

    Raises:
        WeightsError: Missing file, damaged file, missing or unexpected tensors, or other shapes.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: no usable weights ({error}); train or download them again") from error
    fit_strictly(module, tensors, source=path, may_miss=may_miss)


def fit_strictly(
    module: nn.Module, tensors: dict[str, Tensor], *, source: Path, may_miss: tuple[str, ...] = ()
) -> None:
    """Put tensors into a module, every one of them; `source` is where they came from, for the message."""
    own = module.state_dict()
    missing = [key for key in own if key not in tensors and not key.startswith(may_miss)]
    unexpected = [key for key in tensors if key not in own]
    shapes = [
        f"{key} {tuple(tensors[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    refuse_gaps(source, missing=missing, unexpected=unexpected, shapes=shapes, total=len(own))
    module.load_state_dict(tensors, strict=False)


def refuse_gaps(
    source: str | Path, *, missing: list[str], unexpected: list[str], shapes: list[str], total: int
) -> None:
    """`WeightsError` with the first names of each kind, unless all lists are empty."""
    problems = [
        f"{len(names)} {kind} ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if problems:
        raise WeightsError(f"{source}: does not fit the model: {'; '.join(problems)} of {total} tensors")
