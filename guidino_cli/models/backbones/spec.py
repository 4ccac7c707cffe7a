"""Architecture of a backbone as plain values, so that a run with its own backbone weights needs no others."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidino_cli.errors import ConfigError, WeightsError
from guidino_cli.models.backbones.convnext import ConvNeXt
from guidino_cli.models.backbones.dino import as_backbone
from guidino_cli.models.backbones.vit import ViT
from guidino_cli.models.base import Backbone
from guidino_cli.models.finetuning import get_transformers_model
from guidino_cli.models.pretrained.config_files import build_config
from guidino_cli.models.pretrained.loading import ARCHITECTURES, LoadedNetwork


@dataclass(frozen=True)
class BackboneSpec:
    """Everything of a backbone except its weights.

    Attributes:
        config: Configuration of the transformers model, as in its `config.json`.
        identity: Source of its initial weights.
        layers: See `ViT` and `ConvNeXt`.
        norm: See `ViT` and `ConvNeXt`.
        scale: See `ViT` and `ConvNeXt`.
        mean: Per channel, for images in [0, 1].
        std: Per channel.
    """

    config: dict[str, Any]
    identity: dict[str, str]
    layers: list[int]
    norm: bool
    scale: float
    mean: list[float]
    std: list[float]


def describe_backbone(backbone: Backbone) -> BackboneSpec:
    """The spec of a backbone, ready for JSON; `ConfigError` for SAM 2, which is never fully fine-tuned."""
    if not isinstance(backbone, ViT | ConvNeXt):
        raise ConfigError(
            f"train.dense_cache: maps of {type(backbone).__name__} cannot be kept on disk; leave it at memory"
        )
    config = json.loads(get_transformers_model(backbone).config.to_json_string(use_diff=False))
    # Local paths are private, and how transformers computes is not part of the architecture.
    config = {name: value for name, value in config.items() if not name.startswith("_")}
    mean, std = (values.flatten().tolist() for values in (backbone.normalizer.mean, backbone.normalizer.std))
    return BackboneSpec(
        config, backbone.identity, list(backbone.layers), backbone.norm, backbone.normalizer.scale, mean, std
    )  # fmt: skip


def build_from_spec(spec: BackboneSpec) -> ViT | ConvNeXt:
    """A frozen backbone with random weights, to load a state dict into.

    Raises:
        WeightsError: The spec is damaged, edited by hand, or of another version of transformers.
    """
    import transformers

    try:
        architecture = ARCHITECTURES[spec.config["model_type"]]
        network_class = getattr(transformers, architecture.network)
        config = build_config(network_class.config_class, spec.config, source="run.json")
        for name, value in architecture.settings:
            setattr(config, name, value)
        network = network_class(config, **dict(architecture.arguments)).eval()
        loaded = LoadedNetwork(network, spec.identity, tuple(spec.mean), tuple(spec.std), Path())
        return as_backbone(loaded, layers=spec.layers, norm=spec.norm, scale=spec.scale)
    except Exception as error:  # transformers' checks raise many kinds
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise WeightsError(
            f"the run's backbone cannot be rebuilt as run.json describes it ({type(error).__name__}: {reason}); "
            "use the versions of guidino and transformers recorded there"
        ) from error
