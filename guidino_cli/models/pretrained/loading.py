"""Loading a transformers network from a folder, file or hub id: strictly, without a second copy in memory."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from guidino_cli.errors import WeightsError
from guidino_cli.models.pretrained.catalogue import expand_name, identify_weights, infer_licence
from guidino_cli.models.pretrained.config_files import build_config, read_json_object, refuse_foreign_code
from guidino_cli.models.pretrained.conversion import convert_state_dict
from guidino_cli.models.pretrained.files import read_shards, read_tensors
from guidino_cli.models.pretrained.hub import WEIGHTS_HINT, fetch_weights, weight_files
from guidino_cli.models.pretrained.statistics import (
    IMAGENET,
    PREPROCESSOR_FILE,
    Statistics,
    infer_statistics,
    read_statistics,
    read_timm_statistics,
    require_statistics,
)
from guidino_cli.models.pretrained.strict_loading import (
    from_pretrained_strictly,
    hash_weights,
    loading_errors,
    require_plausible_size,
    silence_transformers,
)

Dtype = Literal["auto", "float32", "bfloat16"]

# With more parameters, float32 would not fit on one GPU of 80 GB together with a segmenter.
_BFLOAT16_PARAMETERS = 2_000_000_000


@dataclass(frozen=True)
class BackboneArchitecture:
    """An architecture of transformers that can serve as a backbone.

    Attributes:
        family: Registered backbone that loads it.
        network: Name of its class in transformers.
        statistics: Mean and standard deviation of its input, unless the folder has its own; None if they differ between
            published weights, so that the folder must state them.
        arguments: Further arguments of its constructor.
        settings: Changed settings of its configuration.
        may_drop: Prefixes of tensors that are ignored: heads, a text encoder.
    """

    family: str
    network: str
    statistics: Statistics | None = IMAGENET
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
    "vit": BackboneArchitecture("vit", "ViTModel", None, _NO_POOLER, (), _HEADS),
    "deit": BackboneArchitecture("vit", "DeiTModel", None, _NO_POOLER, (), _HEADS),
    "beit": BackboneArchitecture("vit", "BeitModel", None, _NO_POOLER, (), _HEADS),
    "vit_msn": BackboneArchitecture("vit", "ViTMSNModel", None, (), (), _HEADS),
    "clip": BackboneArchitecture("vit", "CLIPVisionModel", None, (), (), _TEXT),
    "clip_vision_model": BackboneArchitecture("vit", "CLIPVisionModel", None, (), (), _TEXT),
    "siglip": BackboneArchitecture("vit", "SiglipVisionModel", None, (), _NO_HEAD, _TEXT),
    "siglip_vision_model": BackboneArchitecture("vit", "SiglipVisionModel", None, (), _NO_HEAD, _TEXT),
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
        pending_dtype: See `Backbone`.
    """

    network: Any
    identity: dict[str, str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    path: Path
    pending_dtype: torch.dtype | None = None


def load_network(
    source: str,
    *,
    family: str | None,
    offline: bool,
    dtype: Dtype = "auto",
    statistics: Statistics | None = None,
    keep_mapped: bool = False,
) -> LoadedNetwork:
    """Load a pretrained network: local folder or file first, then the cache, then the hub unless offline.

    Args:
        source: Folder in Hugging Face layout, a file of Meta's, timm's or Hugging Face's, a hub id, or a name that
            `guidino weights list` shows.
        family: Registered backbone that the weights must fit; None accepts any.
        offline: Never contact the hub.
        dtype: "auto" is float32, or bfloat16 for more than two billion parameters.
        statistics: Mean and standard deviation of its images, instead of those that come with the weights.
        keep_mapped: Leave the weights in the precision of their file, if that is one, so that processes share the
            memory into which it is mapped; who uses the network casts them to `LoadedNetwork.pending_dtype` first.

    Raises:
        WeightsError: With the reason and what to do.
        ResourceError: Not enough memory.
    """
    silence_transformers()
    source = expand_name(source)
    path = fetch_weights(source, offline=offline).path
    config = _read_config(path) if path.is_dir() else {}
    if path.is_dir() and "model_type" in config:
        loaded = _from_folder(path, source, config, family, dtype, keep_mapped)
    else:
        # timm's repositories have a configuration of their own beside the file.
        file = path / "model.safetensors" if path.is_dir() else path
        loaded = _from_file(file, source, family, dtype, keep_mapped)
    network, found = loaded
    mean, std = statistics or require_statistics(source, found())
    licence = infer_licence(network.config.model_type, source)
    wanted = network.config.dtype
    pending = None if next(network.parameters()).dtype == wanted else wanted
    identity = {"weights": source, "sha256": hash_weights(network, dtype=pending), "licence": licence}
    return LoadedNetwork(network, identity, mean, std, path, pending)


# A network, and a function that reads its statistics: they are refused only where the caller does not state them.
_Loaded = tuple[Any, Callable[[], Statistics | None]]


def _from_folder(
    folder: Path, source: str, config: dict[str, Any], family: str | None, dtype: Dtype, keep_mapped: bool
) -> _Loaded:
    import transformers

    architecture = _find_architecture(source, config["model_type"], family)
    refuse_foreign_code(folder, config)
    files = weight_files(folder)
    if not files:
        raise WeightsError(f"{source}: no model.safetensors beside config.json; {WEIGHTS_HINT}")
    with loading_errors(source):
        stored = read_shards(files)
    config_class = getattr(transformers, architecture.network).config_class
    settings = config
    if config["model_type"] != config_class.model_type:
        # CLIP and SigLIP hold a text encoder besides.
        settings = config.get("vision_config") or {}
        if not isinstance(settings, dict):
            raise WeightsError(f"{folder / 'config.json'}: vision_config is {settings!r:.40}, expected an object")
    # Position tables and registers aside, every block has at least one tensor.
    built = build_config(config_class, settings, source=folder / "config.json", max_blocks=len(stored))
    network = _load(architecture, source, built, stored, dtype=dtype, keep_mapped=keep_mapped)
    width = getattr(built, "hidden_size", 0)

    usual = _usual_statistics(architecture, source)

    def statistics() -> Statistics:
        default = infer_statistics(source, model_type=config["model_type"], width=width, stored=None, default=usual)
        return read_statistics(folder, source=source, default=default)

    return network, statistics


def _from_file(file: Path, source: str, family: str | None, dtype: Dtype, keep_mapped: bool) -> _Loaded:
    """Convert the tensors, then let transformers place them like those of a folder."""
    import transformers

    with loading_errors(source):
        stored = read_tensors(file)
        converted = convert_state_dict(source, stored)
    architecture = _find_architecture(source, converted.model_type, family)
    config_class = getattr(transformers, architecture.network).config_class
    config = build_config(config_class, converted.settings, source=source, max_blocks=len(stored))
    tensors = converted.tensors
    network = _load(architecture, source, config, tensors, dtype=dtype, keep_mapped=keep_mapped, stored=stored)
    width = getattr(config, "hidden_size", 0)

    usual, model_type = _usual_statistics(architecture, source), converted.model_type

    def statistics() -> Statistics | None:
        beside = _statistics_beside(file, source)
        return beside or infer_statistics(source, model_type=model_type, width=width, stored=stored, default=usual)

    return network, statistics


def _usual_statistics(architecture: BackboneArchitecture, source: str) -> Statistics | None:
    """Those of an architecture, but None of weights that are known to have others, which only their folder states."""
    known = identify_weights(source)
    return None if known is not None and known.statistics is None else architecture.statistics


def _statistics_beside(file: Path, source: str) -> Statistics | None:
    """Statistics that a hub folder (Hugging Face's or timm's) states for a file in it; None for a single file."""
    if not file.name.startswith(("model.", "pytorch_model.")):
        return None
    if (file.parent / PREPROCESSOR_FILE).exists():
        return read_statistics(file.parent, source=source, default=None)
    config = file.parent / "config.json"
    return read_timm_statistics(config, read_json_object(config)) if config.is_file() else None


def _load(
    architecture: BackboneArchitecture,
    source: str,
    config: Any,
    tensors: dict[str, Tensor],
    *,
    dtype: Dtype,
    keep_mapped: bool,
    stored: dict[str, Tensor] | None = None,
) -> Any:
    """Let transformers place the tensors one after the other; evaluation mode, wanted precision in `config`."""
    import transformers

    network_class = getattr(transformers, architecture.network)
    arguments = dict(architecture.arguments)
    for name, value in architecture.settings:
        setattr(config, name, value)
    count = sum(value.numel() for value in tensors.values())
    wanted = _torch_dtype(dtype, parameters=count)
    # transformers copies what it casts.
    placed = _common_dtype(tensors.values()) or wanted if keep_mapped else wanted
    with loading_errors(source, hint=f"; {WEIGHTS_HINT}"):
        require_plausible_size(source, network_class, config, arguments, count=count)
        network, missing = from_pretrained_strictly(
            network_class,
            source=source,
            may_drop=architecture.may_drop,
            may_miss=lambda key: "mask_token" in key,
            stored=stored or tensors,
            dtype=placed,
            config=config,
            state_dict=tensors,
            **arguments,
        )
    _zero_missing(network, missing)
    network.config.dtype = wanted
    return network.eval()


def _common_dtype(tensors: Iterable[Tensor]) -> torch.dtype | None:
    """The common dtype of all non-integer tensors; None if they differ."""
    found = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return found.pop() if len(found) == 1 else None


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
        expected = "one of" if family is None else f"one for backbone '{family}':"
        raise WeightsError(
            f"{source}: weights of model_type '{model_type}', expected {expected} {', '.join(fits)}{other}"
        )
    return architecture


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    settings = read_json_object(path)
    is_timm = "architecture" in settings and "model_type" not in settings
    if not is_timm and not isinstance(settings.get("model_type"), str):
        raise WeightsError(f"{path}: names no model_type; expected a Hugging Face model folder, or pass the file alone")
    return settings
