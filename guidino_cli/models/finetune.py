"""How a pretrained backbone learns: all of its weights, with blocks left out at random, and in little memory."""

import warnings
from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from guidino_cli.config import FinetuneSettings
from guidino_cli.errors import ConfigError
from guidino_cli.models.base import Backbone
from guidino_cli.models.layers import DropPath

_DROP_PATH = "drop_path"
"""What transformers calls the place where a half of a block may be left out."""


def train_whole(backbone: Backbone, settings: FinetuneSettings) -> None:
    """Have all of a backbone learn that its maps depend on.

    Raises:
        ConfigError: Its blocks cannot be left out, but are to be.
    """
    try:
        leave_out_halves(pretrained(backbone), settings.drop_path)
    except ValueError as error:
        raise ConfigError(f"model.finetune.drop_path: {error}; set it to 0") from error
    backbone.let_learn_whole()


def leave_out_halves(network: nn.Module, share: float) -> None:
    """Have each half of each block of a transformers network left out for a share of the images, in training.

    Raises:
        ValueError: It has no blocks that may be left out, and the share is not 0.
    """
    places = [name for name, _ in network.named_modules() if name.rpartition(".")[2] == _DROP_PATH]
    if share and not places:
        raise ValueError(f"{type(network).__name__} has no blocks that may be left out")
    for name in places:
        parent, _, last = name.rpartition(".")
        setattr(network.get_submodule(parent), last, DropPath(share))


def pretrained(backbone: Backbone) -> Any:
    """The transformers model inside a backbone: its one child that has weights and is not the run's own."""
    children = [child for name, child in backbone.named_children() if name not in backbone.own]
    (network,) = [child for child in children if any(True for _ in child.parameters())]
    return network


def checkpoint_blocks(backbone: Backbone) -> None:
    """Keep only the input of each block for the backward pass, which computes the rest again: less memory, more time.

    Raises:
        ConfigError: The backbone's family cannot.
    """
    network = pretrained(backbone)
    if not network.supports_gradient_checkpointing:
        ways = "leave it out and lower train.batch_size or data.image_size"
        raise ConfigError(f"train.checkpointing: {type(network).__name__} does not support it; {ways}")
    with warnings.catch_warnings():
        # Its successor does not exist in every transformers 5.
        warnings.simplefilter("ignore", FutureWarning)
        network.gradient_checkpointing_enable({"use_reentrant": False})
    if backbone.is_whole:
        return
    # transformers checkpoints a block by the block's own flag, which else stays in evaluation mode with the backbone.
    backbone.let_learn(module for module in network.modules() if isinstance(module, GradientCheckpointingLayer))
