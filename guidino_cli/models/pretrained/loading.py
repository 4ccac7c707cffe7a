"""Loading a transformers network from a folder, file or hub id: strictly, without a second copy in memory."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from guidino_cli.errors import WeightsError
from guidino_cli.models.pretrained.catalogue import infer_licence
from guidino_cli.models.pretrained.conversion import convert_state_dict
from guidino_cli.models.pretrained.files import check_file, read_tensors
from guidino_cli.models.pretrained.hub import WEIGHTS_HINT, fetch_weights, weight_files
from guidino_cli.models.pretrained.strict_loading import (
    from_pretrained_strictly,
    hash_weights,
    loading_errors,
    silence_transformers,
)

Dtype = Literal["auto", "float32", "bfloat16"]

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation per channel."""
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
# With more parameters, float32 would not fit beside a segmenter on one GPU of 80 GB.
_BFLOAT16_PARAMETERS = 2_000_000_000


@dataclass(frozen=True)
class BackboneArchitecture:
    """An architecture of transformers that can serve as a backbone.

    Attributes:
        family: Registered backbone that loads it.
        network: Name of its class in transformers.
        statistics: Mean and standard deviation of its input, unless the folder has its own.
        arguments: Further arguments of its constructor.
        settings: Changed settings of its configuration.
        may_drop: Prefixes of tensors that are ignored: heads, a text encoder.
    """

    family: str
    network: str
    statistics: Statistics = IMAGENET
    arguments: tuple[tuple[str, Any], ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()
    may_drop: tuple[str, ...] = ()


_HEADS = (
    "classifier.",
    "cls_classifier.",
    "distillation_classifier.",
    "pooler.",
    "lm_head.",
    "decoder.",
    "layernorm.",
)
_TEXT = ("text_", "visual_projection", "logit_", "head.", "vision_model.head.")
_NO_POOLER = (("add_pooling_layer", False),)
_NO_HEAD = (("vision_use_head", False),)
ARCHITECTURES = {
    "dinov3_vit": BackboneArchitecture("dinov3", "DINOv3ViTModel"),
    "dinov3_convnext": BackboneArchitecture("dinov3", "DINOv3ConvNextModel"),
    "dinov2": BackboneArchitecture("dinov2", "Dinov2Model"),
    "dinov2_with_registers": BackboneArchitecture("dinov2", "Dinov2WithRegistersModel"),
    "vit": BackboneArchitecture("vit", "ViTModel", _HALF, _NO_POOLER, (), _HEADS),
    "deit": BackboneArchitecture("vit", "DeiTModel", IMAGENET, _NO_POOLER, (), _HEADS),
    "beit": BackboneArchitecture("vit", "BeitModel", _HALF, _NO_POOLER, (), _HEADS),
    "vit_msn": BackboneArchitecture("vit", "ViTMSNModel", IMAGENET, (), (), _HEADS),
    "clip": BackboneArchitecture("vit", "CLIPVisionModel", _CLIP, (), (), _TEXT),
    "clip_vision_model": BackboneArchitecture("vit", "CLIPVisionModel", _CLIP, (), (), _TEXT),
    "siglip": BackboneArchitecture("vit", "SiglipVisionModel", _HALF, (), _NO_HEAD, _TEXT),
    "siglip_vision_model": BackboneArchitecture("vit", "SiglipVisionModel", _HALF, (), _NO_HEAD, _TEXT),
}


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its weights, in evaluation mode.

    Attributes:
        network: A transformers model.
        identity: Source of the weights, their SHA-256 and their licence.
        mean: Per channel, for images in [0, 1].
        std: Per channel.
        path: Folder or file that was read.
    """

    network: Any
    identity: dict[str, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    path: Path


def load_network(source: str, *, family: str | None, offline: bool, dtype: Dtype = "auto") -> LoadedNetwork:
    """Load a pretrained network: local folder or file first, then the cache, then the hub unless offline.

    Args:
        source: Folder in Hugging Face layout, a file of Meta's, timm's or Hugging Face's, or a hub id.
        family: Registered backbone that the weights must fit; None accepts any.
        offline: Never contact the hub.
        dtype: "auto" is float32, or bfloat16 for more than two billion parameters.

    Raises:
        WeightsError: With the reason and what to do.
    """
    silence_transformers()
    path = fetch_weights(source, offline=offline).path
    config = _read_config(path) if path.is_dir() else {}
    if path.is_dir() and "model_type" in config:
        network, architecture = _from_folder(path, source, str(config["model_type"]), family, dtype)
        mean, std = _read_statistics(path, architecture)
    else:
        # timm's repositories have a configuration of their own beside the file.
        file = path / "model.safetensors" if path.is_dir() else path
        network, architecture = _from_file(file, source, family, dtype)
        mean, std = _read_timm_statistics(config, architecture)
    licence = infer_licence(network.config.model_type, source)
    identity = {"weights": source, "sha256": hash_weights(network), "licence": licence}
    return LoadedNetwork(network, identity, mean, std, path)


def _from_folder(
    folder: Path, source: str, model_type: str, family: str | None, dtype: Dtype
) -> tuple[Any, BackboneArchitecture]:
    architecture = _find_architecture(source, model_type, family)
    files = weight_files(folder)
    if not files:
        raise WeightsError(f"{source}: no model.safetensors beside config.json; {WEIGHTS_HINT}")
    for file in files:
        check_file(file)
    total = sum(file.stat().st_size for file in files)
    return _load(architecture, source, folder, dtype=dtype, total_bytes=total), architecture


def _from_file(file: Path, source: str, family: str | None, dtype: Dtype) -> tuple[Any, BackboneArchitecture]:
    """Convert the tensors, then let transformers place them like those of a folder."""
    import transformers

    stored = read_tensors(file)
    converted = convert_state_dict(source, stored)
    architecture = _find_architecture(source, converted.model_type, family)
    config_class = getattr(transformers, architecture.network).config_class
    config = config_class(**converted.settings)
    total = sum(4 * value.numel() for value in converted.tensors.values())
    options = {"config": config, "state_dict": converted.tensors}
    return _load(architecture, source, None, dtype=dtype, total_bytes=total, stored=stored, **options), architecture


def _load(
    architecture: BackboneArchitecture,
    source: str,
    folder: Path | None,
    *,
    dtype: Dtype,
    total_bytes: int,
    **options: Any,
) -> Any:
    """Let transformers place the tensors one after the other; evaluation mode."""
    import transformers

    network_class = getattr(transformers, architecture.network)
    with loading_errors(source, hint=f"; {WEIGHTS_HINT}"):
        if architecture.settings and "config" not in options:
            options["config"] = network_class.config_class.from_pretrained(folder, local_files_only=True)
        for name, value in architecture.settings:
            setattr(options["config"], name, value)
        network, missing = from_pretrained_strictly(
            network_class,
            folder,
            source=source,
            may_drop=architecture.may_drop,
            may_miss=lambda key: "mask_token" in key,
            dtype=_torch_dtype(dtype, parameters=total_bytes // 4),
            **options,
            **dict(architecture.arguments),
        )
    _zero_missing(network, missing)
    return network.eval()


def _torch_dtype(dtype: Dtype, *, parameters: int) -> torch.dtype:
    # transformers 5 would keep the file's half precision, and then refuse or degrade full-precision images.
    if dtype == "auto":
        return torch.bfloat16 if parameters > _BFLOAT16_PARAMETERS else torch.float32
    if dtype not in {"float32", "bfloat16"}:
        raise ValueError(f"dtype is {dtype!r}, expected auto, float32 or bfloat16")
    return torch.float32 if dtype == "float32" else torch.bfloat16


def _zero_missing(network: nn.Module, names: list[str]) -> None:
    """Set missing mask tokens to zero: they are never used, and random ones would change the SHA-256 on every load."""
    parameters = dict(network.named_parameters())
    for name in names:
        with torch.no_grad():
            parameters[name].zero_()


def _find_architecture(source: str, model_type: str, family: str | None) -> BackboneArchitecture:
    architecture = ARCHITECTURES.get(model_type)
    if architecture is None or (family is not None and architecture.family != family):
        fits = [name for name, item in ARCHITECTURES.items() if family in {None, item.family}]
        other = f"; backbone '{architecture.family}' reads them" if architecture is not None else ""
        raise WeightsError(
            f"{source}: weights of model_type '{model_type}', expected one for backbone '{family}' "
            f"({', '.join(fits)}){other}"
        )
    return architecture


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if "architecture" not in settings:  # as timm's have
            settings["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{folder}: no readable config.json ({error}); expected a Hugging Face model folder, or pass the file alone"
        ) from error
    return dict(settings)


def _read_statistics(folder: Path, architecture: BackboneArchitecture) -> Statistics:
    """Mean and standard deviation of `preprocessor_config.json`, or those of the architecture's authors."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return architecture.statistics
    mean, std = architecture.statistics
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if settings.get("do_normalize") is False:
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        return _to_channels(settings.get("image_mean", mean)), _to_channels(settings.get("image_std", std))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: not readable ({error}); restore the original, or remove it") from error


def _read_timm_statistics(config: dict[str, Any], architecture: BackboneArchitecture) -> Statistics:
    mean, std = architecture.statistics
    settings = config.get("pretrained_cfg", {})
    return _to_channels(settings.get("mean", mean)), _to_channels(settings.get("std", std))


def _to_channels(values: Any) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3:
        raise ValueError(f"{len(numbers)} values, expected one per channel (3)")
    return numbers
