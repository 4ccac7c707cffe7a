"""Strict loading of weights: every tensor is placed, or the load fails with names."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from guidino_cli.errors import ResourceError, UserError, WeightsError, file_errors, first_line
from guidino_cli.models.pretrained.files import read_shards
from guidino_cli.models.pretrained.hub import weight_files


def hash_weights(module: nn.Module, *, dtype: torch.dtype | None = None) -> str:
    """SHA-256 over the names, shapes and values of a module's weights, independent of the file they came from.

    Args:
        module: Has the weights.
        dtype: Data type of its parameters once they are cast, if they are not yet.
    """
    digest = hashlib.sha256()
    parameters = {name for name, _ in module.named_parameters()}
    for name, tensor in sorted(module.state_dict().items()):
        if dtype is not None and name in parameters:
            tensor = tensor.to(dtype)
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        # A view of the bytes: another copy of 13 GB may not fit. Tensors on a GPU are copied one at a time.
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def require_finite(
    source: str | Path, tensors: Mapping[str, Tensor], *, stored: Mapping[str, Tensor] | None = None
) -> None:
    """Refuse weights with NaN or infinite values; integer tensors are always finite.

    Args:
        source: Origin of the tensors, for the message.
        tensors: By name.
        stored: The same weights under the names that they have in the file, which the message then names.

    Raises:
        WeightsError: With the names of the first three such tensors, in alphabetical order.
    """
    names = _names_not_finite(tensors)
    if names:
        names = _names_not_finite(stored or {}) or names
        listed, total = ", ".join(names[:3]) + (", ..." if len(names) > 3 else ""), len(stored or tensors)
        raise WeightsError(
            f"{source}: {len(names)} of {total} tensors hold NaN or infinite values ({listed}), expected "
            "finite numbers; download the weights again, or train again from a checkpoint before the loss diverged"
        )


def _names_not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    return sorted(name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all()))


def load_strictly(module: nn.Module, path: Path, *, may_miss: tuple[str, ...] = ()) -> None:
    """Load a safetensors file into a module.

    Args:
        module: Receives the weights.
        path: A .safetensors file.
        may_miss: Prefixes of the module's keys that the file may lack.

    Raises:
        WeightsError: Missing file, damaged file, missing or unexpected tensors, other shapes, NaN or infinite values.
    """
    with file_errors(path, "weights cannot be read", error=WeightsError, hint="train or download them again"):
        tensors = load_file(path)
    load_tensors_strictly(module, tensors, source=path, may_miss=may_miss)


def load_tensors_strictly(
    module: nn.Module,
    tensors: dict[str, Tensor],
    *,
    source: str | Path,
    may_miss: tuple[str, ...] = (),
    assign: bool = False,
) -> None:
    """Load a state dict into a module.

    Args:
        module: Receives the tensors.
        tensors: By name.
        source: Origin of the tensors, for messages.
        may_miss: Prefixes of the module's keys that may be missing.
        assign: Replace the module's parameters instead of copying into them, as one on the meta device needs.

    Raises:
        WeightsError: Missing or unexpected tensors, other shapes, NaN or infinite values.
    """
    own = module.state_dict()
    missing = [key for key in own if key not in tensors and not key.startswith(may_miss)]
    unexpected = [key for key in tensors if key not in own]
    shapes = [
        f"{key} {tuple(tensors[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    raise_on_mismatch(source, missing=missing, unexpected=unexpected, shapes=shapes, total=len(own))
    require_finite(source, tensors)
    module.load_state_dict(tensors, strict=False, assign=assign)


def raise_on_mismatch(
    source: str | Path, *, missing: list[str], unexpected: list[str], shapes: list[str], total: int
) -> None:
    """Raise `WeightsError` with the first names of each list, unless all lists are empty."""
    problems = [
        f"{len(names)} {kind} ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if problems:
        raise WeightsError(f"{source}: does not fit the model: {'; '.join(problems)} of {total} tensors")


def silence_transformers() -> None:
    """Disable transformers' progress bars and its report of missing tensors, which become errors instead."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


@contextmanager
def loading_errors(source: str | Path, *, hint: str = "") -> Iterator[None]:
    """Turn errors of torch, safetensors and transformers into `WeightsError`; `hint` ends the message.

    Raises:
        ResourceError: Not enough memory.
        WeightsError: Any other error: with foreign files, these libraries raise many kinds.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or any(phrase in str(error).lower() for phrase in _OUT_OF_MEMORY):
            raise ResourceError(
                f"{source}: not enough memory to load the weights; close other programs, or take a smaller network"
            ) from error
        reason = first_line(error) if isinstance(error, _EXPLAINED) else f"{type(error).__name__}: {first_line(error)}"
        raise WeightsError(f"{source}: cannot be loaded ({reason}){hint}") from error


_EXPLAINED = (OSError, ValueError, RuntimeError, SafetensorError)
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")
# Mask tokens and the like may be missing from a file; a network this much larger than its file is a mistake.
_SLACK = 10_000_000


def require_plausible_size(
    source: str | Path, network_class: Any, config: Any, arguments: Mapping[str, Any], *, count: int
) -> None:
    """Refuse a configuration of a far larger network than the weights fill, before memory is taken for it.

    Args:
        source: Origin of the weights, for messages.
        network_class: Class of the network.
        config: Its configuration.
        arguments: Further arguments of its constructor.
        count: Number of values in the file.

    Raises:
        WeightsError: With both numbers.
    """
    with torch.device("meta"):
        network = network_class(config, **arguments)
    wanted = sum(parameter.numel() for parameter in network.parameters())
    if wanted > 2 * count + _SLACK:
        raise WeightsError(
            f"{source}: config.json describes a network of {wanted:,} parameters, but its files hold {count:,}; "
            "restore the original config.json"
        )


def from_pretrained_strictly(
    network_class: Any,
    *,
    source: str,
    may_drop: tuple[str, ...],
    may_miss: Callable[[str], bool],
    stored: Mapping[str, Tensor] | None = None,
    **options: Any,
) -> tuple[Any, list[str]]:
    """Call `from_pretrained` of transformers and refuse what it would only warn about, and values that are not finite.

    Args:
        network_class: Class of the network.
        source: Origin of the weights, for messages.
        may_drop: Prefixes of tensors that are ignored, such as heads.
        may_miss: Whether a tensor of this name may be missing.
        stored: See `require_finite`.
        options: Further arguments of `from_pretrained`: the tensors as `state_dict` and the `config`. transformers is
            given no folder, in which it would look for adapters, quantisation and code.

    Returns:
        The network and the names of its missing tensors.
    """
    network, report = network_class.from_pretrained(
        None,
        local_files_only=True,
        output_loading_info=True,
        # They are refused below, by name.
        ignore_mismatched_sizes=True,
        **options,
    )
    raise_on_mismatch(
        source,
        missing=[key for key in report["missing_keys"] if not may_miss(key)],
        unexpected=[key for key in report["unexpected_keys"] if not key.startswith(may_drop)],
        shapes=[str(item[0] if isinstance(item, tuple) else item) for item in report["mismatched_keys"]],
        total=len(network.state_dict()),
    )
    require_finite(source, dict(network.named_parameters()), stored=stored)
    return network, report["missing_keys"]


def load_pretrained(
    network_class: Any, config: Any, folder: str, *, heads: tuple[str, ...], fresh: tuple[str, ...] = ()
) -> Any:
    """A transformers network with the weights of a local folder, in training mode and single precision.

    Args:
        network_class: Class of the network.
        config: Its configuration, which the weights must fit.
        folder: Folder in Hugging Face layout.
        heads: Prefixes of tensors in the folder that are ignored.
        fresh: Prefixes of tensors that may be missing from the folder.

    Raises:
        WeightsError: No such folder, a damaged file, or tensors that do not fit.
    """
    silence_transformers()
    tensors = read_shards(_require_weight_files(folder))
    with loading_errors(folder):
        network, _ = from_pretrained_strictly(
            network_class,
            source=folder,
            may_drop=heads,
            may_miss=lambda key: key.startswith(fresh),
            stored=tensors,
            config=config,
            state_dict=tensors,
            dtype=torch.float32,
        )
    return network.train()


def _require_weight_files(folder: str) -> list[Path]:
    files = weight_files(Path(folder)) if (Path(folder) / "config.json").is_file() else []
    if not files:
        raise WeightsError(
            f"{folder}: expected a local folder in Hugging Face layout (config.json and model.safetensors); "
            "download it on a machine with access to the hub, or leave out `weights` to start from random weights"
        )
    return files
