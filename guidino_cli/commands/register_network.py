"""Backbones and trained networks of `guidino register`, as their folders and options describe them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from guidino_cli.data.volumes.intensities import Limits
from guidino_cli.engine.features.vectors import random_twin
from guidino_cli.errors import ConfigError, file_errors
from guidino_cli.files import file_sha256
from guidino_cli.models import build_backbone
from guidino_cli.models.base import Backbone
from guidino_cli.models.pretrained.hub import WEIGHTS_OPTION_HINT, replace_hint
from guidino_cli.options.registration import RegisterOptions, RegisterTrainOptions
from guidino_cli.registration.extraction import RegistrationFeatures
from guidino_cli.registration.method import FieldFinder, make_network_finder
from guidino_cli.registration.network_files import NetworkFacts, NetworkFolder
from guidino_cli.registration.pca_files import read_pca

_RESTORE_HINT = "the network learned with them: put them there again, or run it once with access to the hub"
IMAGES_FOR_PCA = 64
"""Images from whose tokens a shared PCA is fitted, evenly spaced among all."""


@dataclass(frozen=True)
class BackboneSource:
    """Where a backbone comes from.

    Attributes:
        name: Such as "guidino-tiny".
        weights: Folder or hub id; None for its own.
        layer: Block whose tokens count; None for its own choice.
        random_seed: Of random weights that replace its own; None keeps them.
    """

    name: str
    weights: str | None
    layer: int | None
    random_seed: int | None = None

    @classmethod
    def of(cls, options: RegisterOptions | RegisterTrainOptions) -> "BackboneSource":
        """That of the options, with the default name for None."""
        name = options.backbone or ("dinov3" if options.weights else "guidino-tiny")
        return cls(name, options.weights, options.layer, options.random_weights)


def load_backbone(
    source: BackboneSource, device: torch.device, *, offline: bool, hint: str = WEIGHTS_OPTION_HINT
) -> Backbone:
    """A frozen backbone; `hint` is what to do if its weights are not found.

    Raises:
        ConfigError: It cannot be built with random weights.
        WeightsError: Its weights cannot be loaded.
    """
    given = {"weights": source.weights, "layers": None if source.layer is None else [source.layer]}
    chosen = {key: value for key, value in given.items() if value is not None}
    with replace_hint(hint):
        backbone: Backbone = build_backbone(source.name, chosen, offline=offline, frozen=True)
    if source.random_seed is not None:
        backbone = _with_random_weights(backbone, source, source.random_seed)
    backbone.freeze()
    return backbone.to(device)


def _with_random_weights(backbone: Backbone, source: BackboneSource, seed: int) -> Backbone:
    try:
        twin = random_twin(backbone, seed=seed)
    except ConfigError as error:
        raise ConfigError(f"--random-weights: backbone {source.name} cannot be built with random weights") from error
    twin.identity["weights"] += f", in the shape of {source.weights or source.name}"
    return twin


def load_network_method(
    folder: Path, device: torch.device, *, offline: bool
) -> tuple[FieldFinder, Limits | None, dict[str, Any]]:
    """What a trained network makes of a pair, the window of grey values that it learned with, and its settings.

    Raises:
        ConfigError: No network, one whose training is not finished, or of a backbone that has changed.
        DataError: A file of it is damaged.
        DependencyError: MONAI is not installed.
        WeightsError: Its backbone cannot be loaded.
    """
    run = NetworkFolder(folder)
    facts = run.read_facts()
    network = run.load_network(facts.shape, device)
    with file_errors(run.facts_file, "is damaged", hint="train again with --overwrite"):
        extractor, window = _restore_features(run, facts, device, offline=offline)
        names = ("features", "backbone", "backbone_sha256", "loss", "smoothness", "seed")
        settings = {"network": str(folder), "network_sha256": file_sha256(run.weights)}
        settings |= {name: facts.settings[name] for name in names} | {
            "cell": facts.shape.cell,
            "diffeomorphic": facts.shape.integration > 0,
            "steps": facts.settings["steps"],
            "window": window,
        }
    return make_network_finder(extractor, network), window, settings


def _restore_features(
    run: NetworkFolder, facts: NetworkFacts, device: torch.device, *, offline: bool
) -> tuple[RegistrationFeatures, Limits | None]:
    settings = facts.settings
    low_high = settings["window"]
    window = None if low_high is None else (float(low_high[0]), float(low_high[1]))
    if settings["backbone_sha256"] is None:
        return RegistrationFeatures(settings["features"], device=device, window=window), window
    source = BackboneSource(
        settings["backbone"], settings["weights"], settings["layer"], settings.get("random_weights")
    )
    backbone = load_backbone(source, device, offline=offline, hint=_RESTORE_HINT)
    digest = backbone.identity["sha256"]
    if digest != settings["backbone_sha256"]:
        raise ConfigError(
            f"{run.path}: learned with tokens of backbone {settings['backbone_sha256'][:12]}, "
            f"{settings['backbone']} is {digest[:12]} now; train again"
        )
    extractor = RegistrationFeatures(
        settings["features"],
        device=device,
        backbone=backbone,
        px=settings["px"],
        window=window,
    )
    return extractor.with_pca(read_pca(run.pca, backbone_sha256=digest)), window
