"""Conversion of DINO and ViT state dicts of Meta, timm and Hugging Face to transformers' names and configurations."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from guidino_cli.errors import WeightsError
from guidino_cli.models.pretrained.tensor_names import (
    CONVNEXT_OF_META,
    CONVNEXT_OF_TIMM,
    DINOV2_NAMES,
    DINOV3_NAMES,
    VIT_NAMES,
    VIT_PROJECTIONS,
    rename,
)

_Converter = Callable[[str, dict[str, Tensor]], tuple[str, dict[str, Tensor]]]

_LAYOUTS = (
    "DINOv3, DINOv2 or DINO of Meta (.pth), timm or Hugging Face; a training checkpoint contains more than the "
    "network: save its state dict alone"
)
# Not stored in any tensor: attention heads are 64 wide, those of the 7 billion model 128.
_HEAD_DIM = 64
_HEAD_DIM_BY_WIDTH = {4096: 128}
_PLAIN_WIDTHS = (192, 384, 768, 1024)
"""Of plain ViTs, tiny to large: those of other widths have heads of several sizes."""


@dataclass(frozen=True)
class ConvertedWeights:
    """Tensors under transformers' names, with the architecture inferred from them.

    Attributes:
        layout: Their original naming, for messages.
        model_type: transformers' name of the architecture.
        settings: Keyword arguments of the configuration.
        tensors: Name -> tensor, as `from_pretrained` takes them.
    """

    layout: str
    model_type: str
    settings: dict[str, Any]
    tensors: dict[str, Tensor]


def convert_state_dict(source: str, tensors: dict[str, Tensor]) -> ConvertedWeights:
    """Recognise the naming by its keys, never by the file's name, and rename every tensor.

    A tensor without a rule keeps its name, so that strict loading refuses it.

    Args:
        source: Named in messages.
        tensors: As read from the file.

    Raises:
        WeightsError: Unknown naming, or an architecture that cannot be inferred.
    """
    for keys, layout, converter in _CONVERTERS:
        if all(key in tensors for key in keys):
            model_type, renamed = converter(source, tensors)
            return ConvertedWeights(layout, model_type, _CONFIG_SETTINGS[model_type](source, renamed, tensors), renamed)
    names = ", ".join(sorted(tensors)[:3])
    raise WeightsError(f"{source}: of another architecture ({len(tensors)} tensors: {names}, ...); expected {_LAYOUTS}")


def _dinov3_of_meta(source: str, tensors: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    _require_known_rope(source, tensors.get("rope_embed.periods"))
    # The norm of local crops' class tokens is for training only, and the periods follow from the width of a head.
    dropped = ("rope_embed.periods", "local_cls_norm.weight", "local_cls_norm.bias")
    kept = {name: value for name, value in tensors.items() if name not in dropped}
    masked = any(name.endswith("qkv.bias_mask") for name in kept)
    kept = {name: value for name, value in kept.items() if not name.endswith("qkv.bias_mask")}
    return "dinov3_vit", _split_qkv(rename(kept, DINOV3_NAMES), "layer", key_bias_is_masked=masked)


def _dinov3_of_timm(source: str, tensors: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    return "dinov3_vit", _split_qkv(rename(tensors, DINOV3_NAMES), "layer", key_bias_is_masked=False)


def _dinov2(source: str, tensors: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Meta's and timm's DINOv2: they differ in the names of registers and SwiGLU, and in the position of CLS."""
    registers = next((name for name in ("register_tokens", "reg_token") if name in tensors), None)
    renamed = _split_qkv(rename(tensors, DINOV2_NAMES), "encoder.layer", key_bias_is_masked=False)
    for name in [name for name in renamed if name.endswith("mlp.fc1.weight")]:
        stem = name.removesuffix("fc1.weight")
        if renamed[name].shape[0] == 2 * renamed[stem + "fc2.weight"].shape[1]:
            for part in ("weight", "bias"):
                renamed[f"{stem}weights_in.{part}"] = renamed.pop(f"{stem}fc1.{part}")
                renamed[f"{stem}weights_out.{part}"] = renamed.pop(f"{stem}fc2.{part}")
    if "reg_token" in tensors:
        positions = renamed["embeddings.position_embeddings"]
        # timm has added the class token's position to the token itself.
        zero = positions.new_zeros(1, 1, positions.shape[-1])
        renamed["embeddings.position_embeddings"] = torch.cat([zero, positions], dim=1)
    return "dinov2" if registers is None else "dinov2_with_registers", renamed


def _vit(source: str, tensors: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """A plain ViT of timm, or of Meta's DINO of 2021, under the names of Hugging Face's files; a head is left out."""
    kept = {name: value for name, value in tensors.items() if not name.startswith("head.")}
    split = _split_qkv(rename(kept, VIT_NAMES), "encoder.layer", key_bias_is_masked=False)
    return "vit", rename(split, VIT_PROJECTIONS)


def _convnext_of_meta(source: str, tensors: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    kept = dict(tensors)
    for part in ("weight", "bias"):
        # Meta stores the final norm twice.
        duplicate = kept.pop(f"norms.3.{part}", None)
        if duplicate is not None and not torch.equal(duplicate, kept[f"norm.{part}"]):
            raise WeightsError(f"{source}: norms.3.{part} differs from norm.{part}, expected the same tensor twice")
    return "dinov3_convnext", rename(kept, CONVNEXT_OF_META)


def _convnext_of_timm(source: str, tensors: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    return "dinov3_convnext", rename(tensors, CONVNEXT_OF_TIMM)


def _hugging_face(model_type: str) -> _Converter:
    return lambda source, tensors: (model_type, dict(tensors))


# Distinctive keys, naming, converter; the first entry whose keys are all present is used.
_CONVERTERS: tuple[tuple[tuple[str, ...], str, _Converter], ...] = (
    (
        ("embeddings.register_tokens", "layer.0.layer_scale1.lambda1"),
        "DINOv3, Hugging Face",
        _hugging_face("dinov3_vit"),
    ),
    (
        ("embeddings.register_tokens", "encoder.layer.0.layer_scale1.lambda1"),
        "DINOv2 with registers, Hugging Face",
        _hugging_face("dinov2_with_registers"),
    ),
    (
        ("embeddings.position_embeddings", "encoder.layer.0.layer_scale1.lambda1"),
        "DINOv2, Hugging Face",
        _hugging_face("dinov2"),
    ),
    (("stages.0.downsample_layers.0.weight",), "DINOv3 ConvNeXt, Hugging Face", _hugging_face("dinov3_convnext")),
    (("storage_tokens", "blocks.0.ls1.gamma"), "DINOv3, Meta", _dinov3_of_meta),
    (("reg_token", "blocks.0.gamma_1"), "DINOv3, timm", _dinov3_of_timm),
    (("pos_embed", "cls_token", "mask_token", "blocks.0.ls1.gamma"), "DINOv2, Meta", _dinov2),
    (("pos_embed", "cls_token", "blocks.0.ls1.gamma"), "DINOv2, timm", _dinov2),
    (("pos_embed", "cls_token", "blocks.0.attn.qkv.weight"), "ViT, timm, or DINO, Meta", _vit),
    (("downsample_layers.0.0.weight", "stages.0.0.dwconv.weight"), "DINOv3 ConvNeXt, Meta", _convnext_of_meta),
    (
        ("stem.0.weight", "stages.0.blocks.0.conv_dw.weight", "head.norm.weight"),
        "DINOv3 ConvNeXt, timm",
        _convnext_of_timm,
    ),
)


def _split_qkv(tensors: dict[str, Tensor], parent: str, *, key_bias_is_masked: bool) -> dict[str, Tensor]:
    """Split fused query, key and value; drop the key bias if it is masked out, as DINOv3's is."""
    split: dict[str, Tensor] = {}
    for name, value in tensors.items():
        match = re.fullmatch(r"blocks\.(\d+)\.attn\.qkv\.(weight|bias)", name)
        if match is None:
            needs_batch_axis = name == "embeddings.mask_token" and parent == "layer" and value.dim() == 2
            split[name] = value.unsqueeze(1) if needs_batch_axis else value
            continue
        for letter, part in zip("qkv", value.chunk(3), strict=True):
            if not (letter == "k" and match[2] == "bias" and key_bias_is_masked):
                split[f"{parent}.{match[1]}.attention.{letter}_proj.{match[2]}"] = part
    return split


def _require_known_rope(source: str, periods: Tensor | None) -> None:
    if periods is None:
        raise WeightsError(f"{source}: tensors are named as in Meta's DINOv3, but rope_embed.periods is missing")
    count = periods.numel()
    expected = 100.0 ** (torch.arange(count) / count)
    if not torch.allclose(periods.float(), expected, rtol=0.02):
        raise WeightsError(f"{source}: rope_embed.periods are not those of base 100, which DINOv3 has")


def _depth(tensors: dict[str, Tensor], pattern: str) -> int:
    """One more than the largest number in the names that match."""
    matches = (re.match(pattern, name) for name in tensors)
    return 1 + max((int(match[1]) for match in matches if match), default=-1)


def _num_heads(source: str, width: int) -> int:
    head = _HEAD_DIM_BY_WIDTH.get(width, _HEAD_DIM)
    if width % head:
        raise WeightsError(f"{source}: tokens are {width} wide, expected a multiple of {head} (the head width)")
    return width // head


def _dinov3_settings(source: str, tensors: dict[str, Tensor], original: dict[str, Tensor]) -> dict[str, Any]:
    width = tensors["embeddings.cls_token"].shape[-1]
    periods = original.get("rope_embed.periods")
    gated = "layer.0.mlp.gate_proj.weight" in tensors
    return {
        "hidden_size": width,
        "num_hidden_layers": _depth(tensors, r"layer\.(\d+)\."),
        "num_attention_heads": _num_heads(source, width) if periods is None else width // (4 * periods.numel()),
        "intermediate_size": _rows(source, tensors, "layer.0.mlp.up_proj.weight"),
        "patch_size": _kernel_size(source, tensors, "embeddings.patch_embeddings.weight"),
        "num_register_tokens": tensors["embeddings.register_tokens"].shape[1],
        "use_gated_mlp": gated,
        "hidden_act": "silu" if gated else "gelu",
        "query_bias": "layer.0.attention.q_proj.bias" in tensors,
        "key_bias": "layer.0.attention.k_proj.bias" in tensors,
        "value_bias": "layer.0.attention.v_proj.bias" in tensors,
        "proj_bias": "layer.0.attention.o_proj.bias" in tensors,
        "mlp_bias": "layer.0.mlp.up_proj.bias" in tensors,
    }


def _dinov2_settings(source: str, tensors: dict[str, Tensor], original: dict[str, Tensor]) -> dict[str, Any]:
    width = tensors["embeddings.cls_token"].shape[-1]
    patch = _kernel_size(source, tensors, "embeddings.patch_embeddings.projection.weight")
    gated = "encoder.layer.0.mlp.weights_in.weight" in tensors
    settings = {
        "hidden_size": width,
        "num_hidden_layers": _depth(tensors, r"encoder\.layer\.(\d+)\."),
        "num_attention_heads": _num_heads(source, width),
        "mlp_ratio": 4 if gated else _rows(source, tensors, "encoder.layer.0.mlp.fc1.weight") // width,
        "patch_size": patch,
        "image_size": patch * math.isqrt(tensors["embeddings.position_embeddings"].shape[1] - 1),
        "use_swiglu_ffn": gated,
        "layer_norm_eps": 1e-6,
    }
    registers = tensors.get("embeddings.register_tokens")
    return settings if registers is None else {**settings, "num_register_tokens": registers.shape[1]}


def _vit_settings(source: str, tensors: dict[str, Tensor], original: dict[str, Tensor]) -> dict[str, Any]:
    width = tensors["embeddings.cls_token"].shape[-1]
    if width not in _PLAIN_WIDTHS:
        known = ", ".join(map(str, _PLAIN_WIDTHS))
        raise WeightsError(
            f"{source}: a ViT with tokens {width} wide, expected {known}, where heads are known to be 64 wide; take a "
            "folder in Hugging Face layout, whose config.json states their number"
        )
    patch = _kernel_size(source, tensors, "embeddings.patch_embeddings.projection.weight")
    return {
        "hidden_size": width,
        "num_hidden_layers": _depth(tensors, r"encoder\.layer\.(\d+)\."),
        "num_attention_heads": width // _HEAD_DIM,
        "intermediate_size": _rows(source, tensors, "encoder.layer.0.intermediate.dense.weight"),
        "patch_size": patch,
        "image_size": patch * math.isqrt(tensors["embeddings.position_embeddings"].shape[1] - 1),
        "qkv_bias": "blocks.0.attn.qkv.bias" in original,
        "layer_norm_eps": 1e-6,
    }


def _convnext_settings(source: str, tensors: dict[str, Tensor], original: dict[str, Tensor]) -> dict[str, Any]:
    stages = range(_depth(tensors, r"stages\.(\d)\."))
    return {
        "hidden_sizes": [_rows(source, tensors, f"stages.{i}.downsample_layers.{min(i, 1)}.weight") for i in stages],
        "depths": [_depth(tensors, rf"stages\.{i}\.layers\.(\d+)\.") for i in stages],
    }


def _rows(source: str, tensors: dict[str, Tensor], name: str) -> int:
    return _require(source, tensors, name).shape[0]


def _kernel_size(source: str, tensors: dict[str, Tensor], name: str) -> int:
    return _require(source, tensors, name).shape[-1]


def _require(source: str, tensors: dict[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise WeightsError(f"{source}: does not fit the model: 1 missing ({name})")
    return tensors[name]


_CONFIG_SETTINGS = {
    "dinov3_vit": _dinov3_settings,
    "dinov2": _dinov2_settings,
    "dinov2_with_registers": _dinov2_settings,
    "dinov3_convnext": _convnext_settings,
    "vit": _vit_settings,
}
