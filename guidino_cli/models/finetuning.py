"""Train all weights of a backbone, with stochastic depth and gradient checkpointing."""

from typing import Any

from torch import nn

from guidino_cli.config import FinetuneSettings
from guidino_cli.errors import ConfigError
from guidino_cli.models.base import Backbone
from guidino_cli.models.layers import DropPath

_DROP_PATH = "drop_path"
"""transformers' name of the module that may skip one half of a block."""


def enable_full_finetuning(backbone: Backbone, settings: FinetuneSettings) -> None:
    """Train all weights of a backbone that contribute to its maps.

    Raises:
        ConfigError: A drop_path above 0 for a backbone that does not support it.
    """
    network = get_transformers_model(backbone)
    try:
        set_drop_path(network, settings.drop_path)
    except ValueError as error:
        raise ConfigError(f"model.finetune.drop_path: {error}; set it to 0") from error
    if not settings.rope_rescale and getattr(network.config, "pos_embed_rescale", None) is not None:
        network.config.pos_embed_rescale = None
    if settings.layer_norm_eps is not None:
        _set_layer_norm_eps(network, settings.layer_norm_eps)
    backbone.unfreeze()


def _set_layer_norm_eps(network: Any, eps: float) -> None:
    network.config.layer_norm_eps = eps
    for module in network.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = eps


def set_drop_path(network: nn.Module, probability: float) -> None:
    """Have each half of each block of a transformers network skipped for a share of the images, in training.

    Raises:
        ValueError: The network has no such modules, and the probability is not 0.
    """
    places = [name for name, _ in network.named_modules() if name.rpartition(".")[2] == _DROP_PATH]
    if probability and not places:
        raise ValueError(f"{type(network).__name__} does not support stochastic depth")
    for name in places:
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, DropPath(probability))


def get_transformers_model(backbone: Backbone) -> Any:
    """The transformers model inside a backbone: its one child that has weights and is no adapter of a run."""
    children = [child for name, child in backbone.named_children() if name not in backbone.adapter_names]
    (network,) = [child for child in children if any(True for _ in child.parameters())]
    return network


def enable_gradient_checkpointing(backbone: Backbone) -> None:
    """Keep only the input of each block for the backward pass, which recomputes the rest: less memory, more time.

    Raises:
        ConfigError: The backbone's family does not support it.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    network = get_transformers_model(backbone)
    if not network.supports_gradient_checkpointing:
        raise ConfigError(
            f"train.checkpointing: {type(network).__name__} does not support it; leave it out and lower "
            "train.batch_size or data.image_size"
        )
    checkpoint_blocks(network)
    if backbone.is_finetuned:
        return
    # transformers reads the block's own training flag, which would otherwise stay in evaluation mode.
    backbone.enable_adapter(module for module in network.modules() if isinstance(module, GradientCheckpointingLayer))


def checkpoint_blocks(network: Any) -> None:
    """Turn on gradient checkpointing of a transformers model, under the name that its version has for it."""
    kwargs = {"use_reentrant": False}
    if hasattr(network, "activation_checkpointing_enable"):
        network.activation_checkpointing_enable(activation_checkpointing_kwargs=kwargs)
    else:
        # The first versions of transformers 5 have only this name, version 6 has only the other.
        network.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)
