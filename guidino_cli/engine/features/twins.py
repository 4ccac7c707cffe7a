"""Random twins of backbones as folders of weights, for commands that load a backbone by its name."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

from guidino_cli.engine.features.vectors import random_twin
from guidino_cli.files import atomic_folder, write_text
from guidino_cli.json_files import read_record
from guidino_cli.models import build_backbone
from guidino_cli.models.backbones.spec import describe_backbone
from guidino_cli.models.base import Backbone
from guidino_cli.models.finetuning import get_transformers_model
from guidino_cli.models.pretrained.loading import ARCHITECTURES
from guidino_cli.models.pretrained.saving import write_preprocessor_config

_RECORD_FILE = "twin.json"


@dataclass(frozen=True)
class RandomTwin:
    """A network with the shape of a backbone and random weights, on disk.

    Attributes:
        name: Registered backbone that loads it.
        layers: Blocks that the backbone itself returns by default.
        sha256: SHA-256 of the random weights.
    """

    name: str
    layers: list[int]
    sha256: str


def write_random_twin(name: str, options: Mapping[str, Any], folder: Path, *, seed: int, offline: bool) -> RandomTwin:
    """Write the random twin of a backbone in Hugging Face layout, or find that it is there.

    Its weights are those of `random_twin` with the same seed. Mean and deviation of images are the backbone's.

    Raises:
        ConfigError: The backbone cannot be rebuilt from its description.
        WeightsError: Its own weights cannot be loaded.
    """
    if (folder / _RECORD_FILE).is_file():
        return read_record(folder / _RECORD_FILE, RandomTwin, hint=f"remove {folder}")
    import transformers

    transformers.utils.logging.disable_progress_bar()
    layers = default_layers(name, options, offline=offline)
    # With all blocks: the configuration counts those, too, that are dropped after the deepest one in use.
    whole: Backbone = build_backbone(name, {**options, "layers": None}, offline=offline, frozen=True)
    twin = random_twin(whole, seed=seed)
    spec = describe_backbone(twin)
    network = get_transformers_model(twin)
    family = ARCHITECTURES[network.config.model_type].family
    record = RandomTwin(family, layers, twin.identity["sha256"])
    with atomic_folder(folder) as temporary:
        network.save_pretrained(temporary)
        write_preprocessor_config(temporary, spec.mean, spec.std)
        write_text(temporary / _RECORD_FILE, json.dumps(asdict(record)) + "\n")
    return record


def default_layers(name: str, options: Mapping[str, Any], *, offline: bool) -> list[int]:
    """Blocks, counted from 1, that a backbone returns by default; none of one that has no choice."""
    backbone: Backbone = build_backbone(name, dict(options), offline=offline, frozen=True)
    return list(getattr(backbone, "layers", []))


def spread_layers(layers: list[int], deepest: int) -> list[int]:
    """Blocks of one network at the same relative depths in another: [3, 6, 9, 12] up to block 6 are [2, 3, 5, 6]."""
    return [ceil(layer * deepest / max(layers)) for layer in layers]
