"""Load weights strictly, fingerprint them, and start parts of a segmenter from pretrained weights."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from guidino_cli.errors import WeightsError
from guidino_cli.models.pretrained.files import check_file
from guidino_cli.models.pretrained.hub import weight_files


def hash_weights(module: nn.Module) -> str:
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
    load_tensors_strictly(module, tensors, source=path, may_miss=may_miss)


def load_tensors_strictly(
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
    raise_on_mismatch(source, missing=missing, unexpected=unexpected, shapes=shapes, total=len(own))
    module.load_state_dict(tensors, strict=False)


def raise_on_mismatch(
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


def load_pretrained(
    network_class: Any, config: Any, folder: str, *, heads: tuple[str, ...], fresh: tuple[str, ...] = ()
) -> Any:
    """A network of transformers with the weights of a folder: every tensor placed, or the load fails with names.

    Args:
        network_class: Class of the network.
        config: Its configuration, which the weights must fit.
        folder: Folder in Hugging Face layout.
        heads: Prefixes of tensors that the folder may hold for other purposes.
        fresh: Prefixes of tensors that the folder need not hold.

    Raises:
        WeightsError: No such folder, a damaged file, or tensors that do not fit.
    """
    import transformers

    # It would print a table of what is missing; what matters of it becomes an error below.
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    for file in _files(folder):
        check_file(file)
    try:
        network, report = network_class.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{folder}: cannot be loaded ({reason})") from error
    raise_on_mismatch(
        folder,
        missing=[key for key in report["missing_keys"] if not key.startswith(fresh or ("\0",))],
        unexpected=[key for key in report["unexpected_keys"] if not key.startswith(heads)],
        shapes=[str(item[0] if isinstance(item, tuple) else item) for item in report["mismatched_keys"]],
        total=len(network.state_dict()),
    )
    return network.train()


def _files(folder: str) -> list[Path]:
    files = weight_files(Path(folder)) if (Path(folder) / "config.json").is_file() else []
    if not files:
        raise WeightsError(
            f"{folder}: expected a local folder in Hugging Face layout (config.json and model.safetensors); "
            "download it where the hub is reached, or leave `weights` out to start at random"
        )
    return files
