"""How a backbone is adapted: LoRA in PEFT's format (the only import of peft), or fine-tuning of all weights."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from guidino_cli.config import FinetuneSettings, LoraSettings
from guidino_cli.errors import ConfigError, WeightsError, unknown_name
from guidino_cli.models.base import Backbone
from guidino_cli.models.layers import DropPath

_DROP_PATH = "drop_path"
"""What transformers calls the place where a half of a block may be left out."""


def enable_full_finetuning(backbone: Backbone, settings: FinetuneSettings) -> None:
    """Have all of a backbone learn that its maps depend on.

    Raises:
        ConfigError: Its blocks cannot be left out, but are to be.
    """
    try:
        set_drop_path(get_transformers_model(backbone), settings.drop_path)
    except ValueError as error:
        raise ConfigError(f"model.finetune.drop_path: {error}; set it to 0") from error
    backbone.unfreeze()


def set_drop_path(network: nn.Module, share: float) -> None:
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


def get_transformers_model(backbone: Backbone) -> Any:
    """The transformers model inside a backbone: its one child that has weights and is not the run's own."""
    children = [child for name, child in backbone.named_children() if name not in backbone.adapter_names]
    (network,) = [child for child in children if any(True for _ in child.parameters())]
    return network


def enable_gradient_checkpointing(backbone: Backbone) -> None:
    """Keep only the input of each block for the backward pass, which computes the rest again: less memory, more time.

    Raises:
        ConfigError: The backbone's family cannot.
    """
    network = get_transformers_model(backbone)
    if not network.supports_gradient_checkpointing:
        ways = "leave it out and lower train.batch_size or data.image_size"
        raise ConfigError(f"train.checkpointing: {type(network).__name__} does not support it; {ways}")
    with warnings.catch_warnings():
        # Its successor does not exist in every transformers 5.
        warnings.simplefilter("ignore", FutureWarning)
        network.gradient_checkpointing_enable({"use_reentrant": False})
    if backbone.is_finetuned:
        return
    # transformers checkpoints a block by the block's own flag, which else stays in evaluation mode with the backbone.
    backbone.enable_adapter(module for module in network.modules() if isinstance(module, GradientCheckpointingLayer))


# What PEFT puts before a tensor's name in a file; injected layers lack it.
_PREFIX = "base_model.model."


def add_lora(backbone: Backbone, settings: LoraSettings) -> None:
    """Put trainable low-rank updates, zero at first, into a backbone; its own weights stay frozen.

    Raises:
        ConfigError: A target or layer that the backbone does not have; the message names those that it has.
    """
    network: nn.Module = get_transformers_model(backbone)
    config = _peft_config(settings, find_target_modules(network, settings))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inject_adapter_in_model(config, network)
    for module in network.modules():
        if isinstance(module, LoraLayer):
            # Beside a base in half precision, the steps of an optimiser would be too small for the adapter.
            for parameter in module.parameters():
                parameter.data = parameter.data.float() if parameter.requires_grad else parameter.data
            # Its own flag as well as its dropout's: DoRA looks at the layer's.
            backbone.enable_adapter([module, *module.lora_dropout.values()])


def find_target_modules(network: nn.Module, settings: LoraSettings) -> list[str]:
    """Full names of the projections to adapt, in the order of the network.

    Raises:
        ConfigError: See `adapt`.
    """
    blocks = _blocks(network)
    if not blocks:
        raise ConfigError(f"model.lora: {type(network).__name__} has no blocks with linear projections to adapt")
    wanted = range(1, len(blocks) + 1) if settings.layers is None else settings.layers
    if not wanted or max(wanted) > len(blocks):
        raise ConfigError(f"model.lora.layers is {settings.layers}, but the backbone uses blocks 1..{len(blocks)}")
    names = [name for number in sorted(set(wanted)) for name in blocks[number - 1]]
    if settings.targets == "all":
        return names
    for target in settings.targets:
        if not any(_is_called(name, target) for name in names):
            raise ConfigError("model.lora.targets: " + unknown_name("projection", target, _last_parts(names)))
    chosen = [name for name in names if any(_is_called(name, target) for target in settings.targets)]
    if not chosen:
        raise ConfigError(f"model.lora.targets is empty, expected all or some of {', '.join(_last_parts(names))}")
    return chosen


def adapter_state_dict(backbone: Backbone) -> dict[str, Tensor]:
    """The adapter's weights under the names that PEFT gives them in a file."""
    own = get_peft_model_state_dict(get_transformers_model(backbone))
    return {_PREFIX + name: value.detach().cpu().contiguous() for name, value in own.items()}


def adapter_config_json(backbone: Backbone, settings: LoraSettings) -> str:
    """The text of `adapter_config.json`; targets are full names, so that a deeper base gets no layers too many."""
    targets = [
        name for name, module in get_transformers_model(backbone).named_modules() if isinstance(module, LoraLayer)
    ]
    config = _peft_config(settings, targets)
    config.base_model_name_or_path, config.inference_mode = backbone.identity["weights"], True
    content = {name: sorted(value) if isinstance(value, set) else value for name, value in config.to_dict().items()}
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def load_adapter(backbone: Backbone, path: Path) -> None:
    """Fill an adapted backbone from `adapter_model.safetensors`: every tensor placed, or the load fails with names.

    Raises:
        WeightsError: Missing or damaged file, missing or unexpected tensors, or other shapes.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: no usable adapter ({error}); copy it again, or train again") from error
    own = adapter_state_dict(backbone)
    wrong = {name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape}
    wrong |= own.keys() ^ tensors.keys()
    if wrong:
        raise WeightsError(
            f"{path}: does not fit the backbone as model.lora adapts it: {len(wrong)} of {len(own)} tensors missing, "
            f"unexpected or of another shape ({min(wrong)})"
        )
    set_peft_model_state_dict(
        get_transformers_model(backbone), {name.removeprefix(_PREFIX): value for name, value in tensors.items()}
    )


def merge_adapter(backbone: Backbone, adapter: Path) -> Any:
    """The transformers model of a backbone that is not adapted, with an adapter's folder merged into it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(get_transformers_model(backbone), str(adapter)).merge_and_unload(
            safe_merge=True
        )


@contextmanager
def disable_adapter(backbone: Backbone) -> Iterator[None]:
    """The backbone without its adapter, as it was pretrained, for as long as the context lasts."""
    layers = [module for module in get_transformers_model(backbone).modules() if isinstance(module, LoraLayer)]
    # PEFT's public switch also changes which weights learn.
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer in layers:
            layer._disable_adapters = False


def _peft_config(settings: LoraSettings, targets: list[str]) -> LoraConfig:
    return LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        bias="none",
        target_modules=targets,
    )


def _blocks(network: nn.Module) -> list[list[str]]:
    """Full names of the linear layers of each repeated block, in order: the innermost module lists hold the blocks."""
    lists = [name for name, module in network.named_modules() if isinstance(module, nn.ModuleList)]
    inner = [name for name in lists if not any(other.startswith(f"{name}.") for other in lists)]
    blocks: dict[str, list[str]] = {}
    for name, module in network.named_modules():
        parent = next((item for item in inner if name.startswith(f"{item}.")), None)
        if parent is not None and isinstance(module, nn.Linear):
            number = name.removeprefix(f"{parent}.").split(".")[0]
            blocks.setdefault(f"{parent}.{number}", []).append(name)
    return list(blocks.values())


def _is_called(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _last_parts(names: list[str]) -> list[str]:
    return sorted({name.rsplit(".", 1)[-1] for name in names})
