"""The parts a model is made of, and how a configuration becomes a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidino_cli.errors import ConfigError
from guidino_cli.registry import create

if TYPE_CHECKING:
    from guidino_cli.config import ModelSettings
    from guidino_cli.models.composed import Model

SEGMENTERS = {
    "unet": "guidino_cli.models.segmenters.unet:UNet",
    "nnwnet": "guidino_cli.models.segmenters.nnwnet:NNWNet",
}
BACKBONES = {
    "dinov3": "guidino_cli.models.backbones.dino:load_dino",
    "dinov2": "guidino_cli.models.backbones.dino:load_dino",
    "embedded": "guidino_cli.models.backbones.embedded:load_embedded",
    "random": "guidino_cli.models.backbones.dino:random_dino",
}
GUIDES = {"tokenbook": "guidino_cli.models.guides.tokenbook:TokenBook"}


def build_model(settings: ModelSettings, *, num_classes: int, offline: bool = False) -> Model:
    """Make the model of a configuration; a backbone's pretrained weights are loaded, everything else is fresh.

    Raises:
        ConfigError: A part or option does not exist.
        WeightsError: The backbone's weights are missing, gated or do not fit.
    """
    from guidino_cli.models.composed import Model

    segmenter = create(
        "segmenter", settings.segmenter.name, SEGMENTERS, settings.segmenter.options, num_classes=num_classes
    )
    if settings.backbone is None:
        return Model(segmenter)
    if settings.guide is None and not segmenter.uses_backbone:
        raise ConfigError(
            f"segmenter {settings.segmenter.name} does not read a backbone: set model.guide, or remove model.backbone"
        )
    backbone = build_backbone(settings.backbone.name, settings.backbone.options, offline=offline)
    if settings.guide is None:
        return Model(segmenter, backbone=backbone)
    guide = create("guide", settings.guide.name, GUIDES, settings.guide.options, channels=backbone.channels)
    return Model(
        segmenter, backbone=backbone, guide=guide, guide_at=settings.guide.at, residual=settings.guide.residual
    )


def build_backbone(name: str, options: dict, *, offline: bool = False):  # type: ignore[no-untyped-def]
    """Load one backbone by its registered name; see `build_model` for the errors."""
    given = {} if name in {"random", "embedded"} else {"family": name, "offline": offline}
    return create("backbone", name, BACKBONES, options, **given)
