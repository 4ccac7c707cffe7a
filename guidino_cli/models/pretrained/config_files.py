"""Reading `config.json` of foreign weights: known keys with plausible values reach transformers, nothing else does."""

import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from guidino_cli import json_files
from guidino_cli.errors import WeightsError, first_line

# Far above any configuration, far below what would fill the memory.
_MAX_BYTES = 10_000_000
_MAX_INT = 1_000_000
_MAX_BLOCKS = 1_000
_MAX_ITEMS = 64
_BLOCK_COUNTS = {"num_hidden_layers", "depths", "blocks_per_stage"}
_MAY_BE_ZERO = {"num_register_tokens", "patch_padding", "global_attention_blocks", "num_query_pool_stages"}
_PAIRS = {"image_size", "patch_size"}
_PROBABILITIES = {"hidden_dropout_prob", "attention_probs_dropout_prob", "attention_dropout", "drop_path_rate"}
_POSITIVE = {"rope_theta", "layer_norm_eps", "mlp_ratio"}
# What defines the computation of a backbone. Whatever else a file says, such as how attention is computed, is ignored.
_KNOWN_KEYS = frozenset({
    "attention_dropout", "attention_probs_dropout_prob", "blocks_per_stage", "depths", "drop_path_rate",
    "embed_dim_per_stage", "global_attention_blocks", "hidden_act", "hidden_dropout_prob", "hidden_size",
    "hidden_sizes", "image_size", "initializer_range", "intermediate_size", "key_bias", "layer_norm_eps",
    "layer_scale_init_value", "layerscale_value", "mlp_bias", "mlp_ratio", "num_attention_heads",
    "num_attention_heads_per_stage", "num_channels", "num_hidden_layers", "num_query_pool_stages",
    "num_register_tokens", "patch_kernel_size", "patch_padding", "patch_size", "patch_stride", "pos_embed_jitter",
    "pos_embed_rescale", "pos_embed_shift", "proj_bias", "qkv_bias", "query_bias", "query_stride", "rope_theta",
    "use_absolute_position_embeddings", "use_gated_mlp", "use_mask_token", "use_mean_pooling",
    "use_relative_position_bias", "use_shared_relative_position_bias", "use_swiglu_ffn", "value_bias",
    "vision_use_head", "window_positional_embedding_background_size", "window_size_per_stage",
})  # fmt: skip
# Keys that change what the weights mean, or that name code to run.
_REFUSED = {
    "quantization_config": "quantised weights are not supported; get the original ones",
    "auto_map": "the network has code of its own, which is never run; use weights of a standard architecture",
}
_ATTENTION_KEYS = ("attn_implementation", "_attn_implementation", "experts_implementation")


def read_json_object(path: Path) -> dict[str, Any]:
    """Content of a small JSON file.

    Raises:
        WeightsError: Larger than 10 MB, or see `json_files.read_json`.
    """
    return json_files.read_json_object(
        path,
        error=WeightsError,
        hint="expected a folder in Hugging Face layout: restore the original file",
        max_bytes=_MAX_BYTES,
    )


def refuse_foreign_code(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a configuration that would load adapters, quantised weights or code from elsewhere.

    Raises:
        WeightsError: With the name of the key or file.
    """
    path = folder / "config.json"
    adapter = folder / "adapter_config.json"
    if adapter.exists():
        raise WeightsError(f"{adapter}: adapters of PEFT are not applied to backbones; merge them, or remove this file")
    sections = [settings, *(value for value in settings.values() if isinstance(value, dict))]
    for section in sections:
        for key, reason in _REFUSED.items():
            if section.get(key) is not None:
                raise WeightsError(f"{path}: {key} is set: {reason}")
        for key in _ATTENTION_KEYS:
            value = section.get(key)
            if value is not None and (not isinstance(value, str) or not value.isidentifier()):
                raise WeightsError(
                    f"{path}: {key} is {value!r:.80}, which names code on a hub; it is never run: remove this key"
                )


def build_config(
    config_class: Any, settings: Mapping[str, Any], *, source: str | Path, max_blocks: int = _MAX_BLOCKS
) -> Any:
    """A configuration of transformers with the known keys of `settings`, each of the right type and size.

    Args:
        config_class: Class of the configuration.
        settings: Content of a `config.json`, or its section.
        source: Path of the file, for messages.
        max_blocks: Largest number of blocks; more than there are tensors cannot be right.

    Raises:
        WeightsError: With the key, its value and what was expected.
    """
    defaults = config_class()
    names = sorted(_KNOWN_KEYS & {field.name for field in fields(config_class)} & settings.keys())
    known = {
        name: _check_value(source, name, settings[name], getattr(defaults, name), max_blocks=max_blocks)
        for name in names
    }
    try:
        config = config_class(**known)
    except Exception as error:  # transformers' checks raise many kinds.
        raise WeightsError(f"{source}: not a valid {config_class.__name__} ({first_line(error)})") from error
    _require_whole_heads(source, config)
    return config


def _require_whole_heads(source: str | Path, config: Any) -> None:
    """Every head takes an equal part of a token; DINOv3 rotates groups of four values in it."""
    width, heads = getattr(config, "hidden_size", None), getattr(config, "num_attention_heads", None)
    unit = 4 if config.model_type == "dinov3_vit" else 1
    if width is not None and heads is not None and width % (unit * heads):
        raise WeightsError(
            f"{source}: hidden_size is {width} and num_attention_heads {heads}, expected heads of a whole width"
            f"{' that is a multiple of 4' if unit == 4 else ''}; restore the original file"
        )


def _check_value(source: str | Path, name: str, value: Any, default: Any, *, max_blocks: int) -> Any:
    expected = _expectation(name, value, default, max_blocks=min(max_blocks, _MAX_BLOCKS))
    if expected is not None:
        raise WeightsError(f"{source}: {name} is {value!r:.60}, expected {expected}; restore the original file")
    return value[0] if name in _PAIRS and isinstance(value, list) and not isinstance(default, list) else value


def _expectation(name: str, value: Any, default: Any, *, max_blocks: int) -> str | None:
    """The expected kind of a value, or None if the value is valid."""
    if name == "hidden_act":
        from transformers.activations import ACT2FN

        is_known = isinstance(value, str) and value in ACT2FN
        return None if is_known else "the name of an activation such as gelu or silu"
    if name == "num_channels":
        return None if value == 3 and type(value) is int else "3"
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    low, high = int(name not in _MAY_BE_ZERO), max_blocks if name in _BLOCK_COUNTS else _MAX_INT
    if isinstance(default, list | tuple):
        is_valid = isinstance(value, list | tuple) and len(value) <= _MAX_ITEMS
        is_valid = is_valid and (len(value) == len(default) or name == "global_attention_blocks")
        is_valid = is_valid and all(_is_int(item, low, high) for item in value)
        return None if is_valid else f"{len(default)} whole numbers from {low} to {high}"
    if isinstance(default, int) and name != "mlp_ratio":
        if name in _PAIRS and isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
            value = value[0]
        return None if _is_int(value, low, high) else f"a whole number from {low} to {high}"
    if default is None or name.startswith("pos_embed_"):
        return None if value is None or _is_float(value) else "a finite number or null"
    is_valid = _is_float(value) and value >= 0 and (value > 0 or name not in _POSITIVE)
    is_valid = is_valid and (name not in _PROBABILITIES or value < 1)
    return None if is_valid else "a probability below 1" if name in _PROBABILITIES else "a finite positive number"


def _is_int(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def _is_float(value: Any) -> bool:
    return type(value) in {int, float} and abs(value) <= _MAX_INT and math.isfinite(value)
