"""LoRA adapters in a backbone, in PEFT's file format; the only module that imports peft."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftModel, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor, nn

from guidino_cli.config import LoraSettings
from guidino_cli.errors import ConfigError, WeightsError, file_errors, unknown_name
from guidino_cli.models.base import Backbone
from guidino_cli.models.finetuning import get_transformers_model
from guidino_cli.models.pretrained.strict_loading import require_finite

# Prefix of tensor names in PEFT's files, which injected layers lack.
_PREFIX = "base_model.model."


def add_lora(backbone: Backbone, settings: LoraSettings) -> None:
    """Inject trainable low-rank updates, initially zero, into a backbone; its own weights stay frozen.

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
            # In the half precision of the base, the optimizer's small steps would round to nothing.
            for parameter in module.parameters():
                parameter.data = parameter.data.float() if parameter.requires_grad else parameter.data
            # The layer's own training flag as well as its dropout's: DoRA reads the layer's.
            backbone.enable_adapter([module, *module.lora_dropout.values()])


def find_target_modules(network: nn.Module, settings: LoraSettings) -> list[str]:
    """Full names of the linear layers to adapt, in the order of the network.

    Raises:
        ConfigError: See `add_lora`.
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
        if not any(_matches(name, target) for name in names):
            raise ConfigError("model.lora.targets: " + unknown_name("projection", target, _last_parts(names)))
    chosen = [name for name in names if any(_matches(name, target) for target in settings.targets)]
    if not chosen:
        raise ConfigError(f"model.lora.targets is empty, expected all or some of {', '.join(_last_parts(names))}")
    return chosen


def adapter_state_dict(backbone: Backbone) -> dict[str, Tensor]:
    """The adapter's weights under the names that PEFT gives them in a file."""
    own = get_peft_model_state_dict(get_transformers_model(backbone))
    return {_PREFIX + name: value.detach().cpu().contiguous() for name, value in own.items()}


def adapter_config_json(backbone: Backbone, settings: LoraSettings) -> str:
    """The text of `adapter_config.json`; targets are full names, so that no other layers of a deeper base match."""
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
        WeightsError: Missing or damaged file, missing or unexpected tensors, other shapes, NaN or infinite values.
    """
    with file_errors(path, "no usable adapter", error=WeightsError, hint="copy it again, or train again"):
        tensors = load_file(path)
    own = adapter_state_dict(backbone)
    wrong = {name for name in own.keys() & tensors.keys() if own[name].shape != tensors[name].shape}
    wrong |= own.keys() ^ tensors.keys()
    if wrong:
        raise WeightsError(
            f"{path}: does not fit the backbone as model.lora adapts it: {len(wrong)} of {len(own)} tensors missing, "
            f"unexpected or of another shape ({min(wrong)})"
        )
    require_finite(path, tensors)
    set_peft_model_state_dict(
        get_transformers_model(backbone), {name.removeprefix(_PREFIX): value for name, value in tensors.items()}
    )


def merge_adapter(backbone: Backbone, adapter: Path) -> Any:
    """The transformers model of a backbone without LoRA, with the adapter of a folder merged into its weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return PeftModel.from_pretrained(get_transformers_model(backbone), str(adapter)).merge_and_unload(
            safe_merge=True
        )


@contextmanager
def disable_adapter(backbone: Backbone) -> Iterator[None]:
    """Context in which the backbone computes without its adapter, as pretrained."""
    network = get_transformers_model(backbone)
    layers = [module for module in network.modules() if isinstance(module, LoraLayer)]
    # PEFT's switch also changes which weights are trained.
    trained = {name: parameter.requires_grad for name, parameter in network.named_parameters()}
    try:
        _switch(layers, on=False)
        yield
    finally:
        _switch(layers, on=True)
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(trained[name])


def _switch(layers: list[LoraLayer], *, on: bool) -> None:
    for layer in layers:
        layer.enable_adapters(on)


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
    """Full names of the linear layers of each block, in order; blocks are the items of the innermost module lists."""
    lists = [name for name, module in network.named_modules() if isinstance(module, nn.ModuleList)]
    inner = [name for name in lists if not any(other.startswith(f"{name}.") for other in lists)]
    blocks: dict[str, list[str]] = {}
    for name, module in network.named_modules():
        parent = next((item for item in inner if name.startswith(f"{item}.")), None)
        if parent is not None and isinstance(module, nn.Linear):
            number = name.removeprefix(f"{parent}.").split(".")[0]
            blocks.setdefault(f"{parent}.{number}", []).append(name)
    return list(blocks.values())


def _matches(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _last_parts(names: list[str]) -> list[str]:
    return sorted({name.rsplit(".", 1)[-1] for name in names})
