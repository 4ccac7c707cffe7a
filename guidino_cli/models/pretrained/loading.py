"""From a source of weights to a transformers network: strictly, in the precision asked for, without a second copy."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn

from guidino_cli.errors import WeightsError
from guidino_cli.models.pretrained.catalogue import infer_licence
from guidino_cli.models.pretrained.conversion import convert_state_dict
from guidino_cli.models.pretrained.files import check_file, read_tensors
from guidino_cli.models.pretrained.hub import WEIGHTS_HINT, fetch_weights, weight_files
from guidino_cli.models.pretrained.strict_loading import hash_weights, raise_on_mismatch

Dtype = Literal["auto", "float32", "bfloat16"]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
# Above this many parameters float32 would not fit beside a segmenter on one GPU of 80 GB.
_LARGE = 2_000_000_000


@dataclass(frozen=True)
class BackboneArchitecture:
    """An architecture of transformers that can be a backbone.

    Attributes:
        family: Registered backbone that takes it.
        network: Name of its class.
        statistics: Mean and standard deviation that its images are normalised with, where the folder does not say.
        arguments: Extra arguments of its constructor.
        settings: Settings to change in its configuration.
        may_drop: Prefixes of tensors that a file may hold for other purposes: heads, a text tower.
    """

    family: str
    network: str
    statistics: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET
    arguments: tuple[tuple[str, Any], ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()
    may_drop: tuple[str, ...] = ()


_HEADS = ("classifier.", "cls_classifier.", "distillation_classifier.", "pooler.", "lm_head.", "decoder.", "layernorm.")
_TEXT = ("text_", "visual_projection", "logit_", "head.", "vision_model.head.")
_NO_POOLER = (("add_pooling_layer", False),)
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
    "siglip": BackboneArchitecture("vit", "SiglipVisionModel", _HALF, (), (("vision_use_head", False),), _TEXT),
    "siglip_vision_model": BackboneArchitecture(
        "vit", "SiglipVisionModel", _HALF, (), (("vision_use_head", False),), _TEXT
    ),
}


@dataclass(frozen=True)
class LoadedNetwork:
    """A network with its weights, in evaluation mode.

    Attributes:
        network: A transformers model.
        identity: Where the weights came from, their SHA-256 and their licence.
        mean: Per channel, of images in [0, 1].
        std: Per channel.
        path: The folder or file that was read.
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
        family: Registered backbone that the weights must be for; None takes any known.
        offline: Never ask the hub.
        dtype: "auto" is float32, and bfloat16 for more than two billion parameters.

    Raises:
        WeightsError: With the reason and what to do.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    # It would print a table of what is missing; what matters of it becomes an error below.
    transformers.utils.logging.set_verbosity_error()
    path = fetch_weights(source, offline=offline).path
    settings = _settings(path) if path.is_dir() else {}
    if path.is_dir() and "model_type" in settings:
        network, kind = _from_folder(path, source, str(settings["model_type"]), family, dtype)
        mean, std = _statistics(path, kind)
    else:
        # timm's repositories have a configuration of their own beside the file.
        file = path / "model.safetensors" if path.is_dir() else path
        network, kind = _from_file(file, source, family, dtype)
        mean, std = _timm_statistics(settings, kind)
    licence = infer_licence(network.config.model_type, source)
    identity = {"weights": source, "sha256": hash_weights(network), "licence": licence}
    return LoadedNetwork(network, identity, mean, std, path)


def _from_folder(
    folder: Path, source: str, model_type: str, family: str | None, dtype: Dtype
) -> tuple[Any, BackboneArchitecture]:
    kind = _kind(source, model_type, family)
    files = weight_files(folder)
    if not files:
        raise WeightsError(f"{source}: no model.safetensors beside config.json; {WEIGHTS_HINT}")
    for file in files:
        check_file(file)
    return _loaded(kind, source, folder, dtype=dtype, total_bytes=sum(file.stat().st_size for file in files)), kind


def _from_file(file: Path, source: str, family: str | None, dtype: Dtype) -> tuple[Any, BackboneArchitecture]:
    """Convert first; transformers then places the tensors as it does those of a folder."""
    import transformers

    converted = convert_state_dict(source, read_tensors(file))
    kind = _kind(source, converted.model_type, family)
    config_class = getattr(transformers, kind.network).config_class
    config = config_class(**converted.settings)
    total = sum(4 * value.numel() for value in converted.tensors.values())
    return _loaded(
        kind, source, None, dtype=dtype, total_bytes=total, config=config, state_dict=converted.tensors
    ), kind  # fmt: skip


def _loaded(
    kind: BackboneArchitecture, source: str, folder: Path | None, *, dtype: Dtype, total_bytes: int, **given: Any
) -> Any:
    """Let transformers place the tensors, one after the other, then refuse what it would only warn about."""
    import transformers

    network_class = getattr(transformers, kind.network)
    try:
        if kind.settings and "config" not in given:
            given["config"] = network_class.config_class.from_pretrained(folder, local_files_only=True)
        for name, value in kind.settings:
            setattr(given["config"], name, value)
        network, report = network_class.from_pretrained(
            folder,
            local_files_only=True,
            output_loading_info=True,
            # They are refused below, by name.
            ignore_mismatched_sizes=True,
            dtype=_torch_dtype(dtype, parameters=total_bytes // 4),
            **given,
            **dict(kind.arguments),
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{source}: cannot be loaded ({reason}); {WEIGHTS_HINT}") from error
    raise_on_mismatch(
        source,
        missing=[key for key in report["missing_keys"] if "mask_token" not in key],
        unexpected=[key for key in report["unexpected_keys"] if not key.startswith(kind.may_drop or ("\0",))],
        shapes=[str(item[0] if isinstance(item, tuple) else item) for item in report["mismatched_keys"]],
        total=len(network.state_dict()),
    )
    _zero_absent(network, report["missing_keys"])
    return network.eval()


def _torch_dtype(dtype: Dtype, *, parameters: int) -> torch.dtype:
    # transformers 5 would keep the file's half precision, and then refuse or degrade full-precision images.
    if dtype == "auto":
        return torch.bfloat16 if parameters > _LARGE else torch.float32
    if dtype not in {"float32", "bfloat16"}:
        raise ValueError(f"dtype is {dtype!r}, expected auto, float32 or bfloat16")
    return torch.float32 if dtype == "float32" else torch.bfloat16


def _zero_absent(network: nn.Module, names: list[str]) -> None:
    """A mask token that a file lacks is never used; at zero it keeps the SHA-256 the same on every load."""
    parameters = dict(network.named_parameters())
    for name in names:
        with torch.no_grad():
            parameters[name].zero_()


def _kind(source: str, model_type: str, family: str | None) -> BackboneArchitecture:
    kind = ARCHITECTURES.get(model_type)
    if kind is None or (family is not None and kind.family != family):
        fits = [name for name, item in ARCHITECTURES.items() if family in {None, item.family}]
        other = f"; backbone '{kind.family}' reads them" if kind is not None else ""
        raise WeightsError(
            f"{source}: weights of model_type '{model_type}', expected one for backbone '{family}' "
            f"({', '.join(fits)}){other}"
        )
    return kind


def _settings(folder: Path) -> dict[str, Any]:
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if "architecture" not in settings:  # as timm's have
            settings["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{folder}: no readable config.json ({error}); expected a Hugging Face model folder; or give the file alone"
        ) from error
    return dict(settings)


def _statistics(folder: Path, kind: BackboneArchitecture) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that `preprocessor_config.json` gives, or those of the architecture's authors."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return kind.statistics
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said.get("do_normalize") is False:
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        return _three(said.get("image_mean", kind.statistics[0])), _three(said.get("image_std", kind.statistics[1]))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: not readable ({error}); put the original back, or remove it") from error


def _timm_statistics(
    settings: dict[str, Any], kind: BackboneArchitecture
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    said = settings.get("pretrained_cfg", {})
    return _three(said.get("mean", kind.statistics[0])), _three(said.get("std", kind.statistics[1]))


def _three(values: Any) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3:
        raise ValueError(f"{len(numbers)} channel statistics, expected 3")
    return numbers
