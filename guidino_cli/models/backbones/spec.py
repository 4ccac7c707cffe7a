"""How a backbone is built, as plain values: a run that keeps its backbone's weights needs the original ones no more."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidino_cli.errors import ConfigError, WeightsError
from guidino_cli.models.backbones.convnext import ConvNeXt
from guidino_cli.models.backbones.dino import as_backbone
from guidino_cli.models.backbones.vit import ViT
from guidino_cli.models.base import Backbone
from guidino_cli.models.lora import get_transformers_model
from guidino_cli.models.pretrained.loading import ARCHITECTURES, LoadedNetwork


@dataclass(frozen=True)
class BackboneSpec:
    """All of a backbone but its weights.

    Attributes:
        config: Of the transformers model, as its `config.json` has it.
        identity: Of the weights that it began with.
        layers: See `ViT` and `ConvNeXt`; these three likewise.
        norm: See there.
        scale: See there.
        mean: Per channel, of images in [0, 1].
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
    """The blueprint of a backbone, ready for JSON; `ConfigError` for one that has none: SAM 2 never learns whole."""
    if not isinstance(backbone, ViT | ConvNeXt):
        raise ConfigError(
            f"train.dense_cache: maps of {type(backbone).__name__} cannot be kept on disk; leave it at memory"
        )
    config = json.loads(get_transformers_model(backbone).config.to_json_string(use_diff=False))
    # The folder of somebody's weights is nobody's business; how transformers was told to compute, neither.
    config = {name: value for name, value in config.items() if not name.startswith("_")}
    mean, std = (values.flatten().tolist() for values in (backbone.eye.mean, backbone.eye.std))
    return BackboneSpec(
        config, backbone.identity, list(backbone.layers), backbone.norm, backbone.eye.scale, mean, std
    )  # fmt: skip


def build_from_spec(blueprint: BackboneSpec) -> ViT | ConvNeXt:
    """A frozen backbone with random weights, for others to be loaded over them.

    Raises:
        WeightsError: The blueprint cannot be followed: written by hand, damaged, or of another transformers.
    """
    import transformers

    try:
        kind = ARCHITECTURES[blueprint.config["model_type"]]
        network_class = getattr(transformers, kind.network)
        config = network_class.config_class.from_dict(blueprint.config)
        network = network_class(config, **dict(kind.arguments)).eval()
        loaded = LoadedNetwork(network, blueprint.identity, tuple(blueprint.mean), tuple(blueprint.std), Path())
        return as_backbone(loaded, layers=blueprint.layers, norm=blueprint.norm, scale=blueprint.scale)
    except Exception as error:  # transformers' checks raise many kinds
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        raise WeightsError(
            f"the run's backbone cannot be built again as run.json describes it ({type(error).__name__}: {reason}); "
            "use the versions of guidino and transformers that are named there"
        ) from error
