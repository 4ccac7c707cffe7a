"""Registries of a model's parts, and `build_model`: from settings to a model."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from guidino_cli.errors import ConfigError
from guidino_cli.models.segmenters.registry import SEGMENTERS
from guidino_cli.registry import create, find

if TYPE_CHECKING:
    from guidino_cli.config import ComponentSettings, GuideSettings, ModelSettings
    from guidino_cli.models.backbones.spec import BackboneSpec
    from guidino_cli.models.composed import Model
    from guidino_cli.models.logit_prior import LogitPrior

BACKBONES = {
    "dinov3": "guidino_cli.models.backbones.dino:load_dino",
    "dinov2": "guidino_cli.models.backbones.dino:load_dino",
    "vit": "guidino_cli.models.backbones.dino:load_vit",
    "embedded": "guidino_cli.models.backbones.embedded:load_embedded",
    "sam2": "guidino_cli.models.backbones.sam2:load_sam2",
    "guidino-tiny": "guidino_cli.models.backbones.tiny:load_tiny",
    "random": "guidino_cli.models.backbones.dino:random_dino",
}
GUIDES = {
    "tokenbook": "guidino_cli.models.guides:TokenBook",
    "ridge": "guidino_cli.models.ridge:RidgeGuide",
}
CLOSED_FORM_GUIDES = {"ridge": "guidino_cli.models.calibrated_ridge:CalibratedRidgeGuide"}
"""Guides that `model.guide.fit: closed-form` solves."""


def build_model(
    settings: ModelSettings,
    *,
    num_classes: int,
    in_channels: int = 3,
    dims: float = 2,
    slab: int = 1,
    is_standardized: bool = False,
    offline: bool = False,
    backbone_spec: BackboneSpec | None = None,
    is_sharded: bool = False,
) -> Model:
    """Build a model: a backbone's pretrained weights are loaded, everything else is randomly initialised.

    The segmenter's initial weights depend on torch's seed alone, not on the backbone or guide.

    Args:
        settings: The parts.
        num_classes: K, background included.
        in_channels: C of the images; of 3, grey images of one channel are taken too.
        dims: 2 for images and slices, 2.5 for neighbouring slices as channels, 3 for volumes.
        slab: Neighbouring slices among the channels, each with all channels of its own, in their order.
        is_standardized: Images come as z-scores instead of in [0, 1]; see `Model`.
        offline: Never ask the hub.
        backbone_spec: Build the backbone from this spec with random weights, which the caller replaces.
        is_sharded: The caller shards the backbone before its first use; see `keep_mapped` of `load_network`.

    Raises:
        ConfigError: A part or option does not exist, or the parts do not fit each other.
        WeightsError: The backbone's weights are missing, gated or do not fit.
    """
    import torch

    from guidino_cli.models.composed import Model

    _require_compatible(settings, dims=dims)
    seen = _backbone_channels(settings, in_channels=in_channels, slab=slab)
    part = settings.segmenter
    kind = find("segmenter", part.name, SEGMENTERS)
    maps = num_classes - 1 if settings.guide is not None and settings.guide.per_class else 1
    _require_fitting_maps(settings, maps=maps, num_classes=num_classes)
    given: dict[str, Any] = {"num_classes": num_classes}
    given |= _channels_of(kind, in_channels + _shown_channels(settings, maps))
    image: dict[str, Any] = {
        "in_channels": in_channels,
        "backbone_channels": seen,
        "is_standardized": is_standardized,
        "reduction": settings.reduction,
    }
    if settings.backbone is None:
        _require_buildable(part, **given)
        segmenter = create("segmenter", part.name, SEGMENTERS, part.options, **given)
        return Model(segmenter, **image)
    with torch.random.fork_rng(devices=[]):
        # Some loaders draw weights only to replace them.
        if backbone_spec is not None:
            from guidino_cli.models.backbones.spec import build_from_spec

            backbone = build_from_spec(backbone_spec)
        else:
            name, options = settings.backbone.name, settings.backbone.options
            frozen = settings.finetune is None and settings.lora is None
            backbone = build_backbone(name, options, offline=offline, frozen=frozen, keep_mapped=is_sharded)
        if settings.finetune is not None:
            from guidino_cli.models.finetuning import enable_full_finetuning

            enable_full_finetuning(backbone, settings.finetune)
        if settings.lora is not None:
            # Importing peft takes seconds.
            from guidino_cli.models.lora import add_lora

            add_lora(backbone, settings.lora)
    if kind.uses_backbone:
        given["dense_channels"] = backbone.level_channels
    _require_buildable(part, **given)
    segmenter = create("segmenter", part.name, SEGMENTERS, part.options, **given)
    if settings.guide is None:
        return Model(segmenter, backbone=backbone, **image)
    kinds = CLOSED_FORM_GUIDES if settings.guide.fit == "closed-form" else GUIDES
    guide = create("guide", settings.guide.name, kinds, settings.guide.options, channels=backbone.channels, maps=maps)
    at, residual = settings.guide.at, settings.guide.residual
    prior = None
    if at in {"logits", "channels"} and not kind.reads_guide:
        prior = _make_prior(settings.guide, maps=maps, channels=backbone.channels)
        if at == "logits":
            segmenter.zero_output_layers()
    return Model(segmenter, backbone=backbone, guide=guide, guide_at=at, residual=residual, prior=prior, **image)


def _make_prior(guide: GuideSettings, *, maps: int, channels: int) -> LogitPrior:
    from guidino_cli.models.logit_prior import LogitPrior

    return LogitPrior(
        maps=maps,
        channels=channels,
        tokens=guide.tokens,
        adds=guide.at == "logits",
        shows=_shows_guide(guide),
        has_noise=guide.fit == "closed-form",
    )


def _shows_guide(guide: GuideSettings) -> bool:
    """Whether the guide's logit is among the channels of the segmenter's input: alone or with the tokens."""
    return guide.at == "channels" or (guide.at == "logits" and guide.tokens > 0)


def _shown_channels(settings: ModelSettings, maps: int) -> int:
    """Channels of the segmenter's input that are made of guide and tokens."""
    guide = settings.guide
    return 0 if guide is None else guide.tokens + (maps if _shows_guide(guide) else 0)


def _require_fitting_maps(settings: ModelSettings, *, maps: int, num_classes: int) -> None:
    """`ConfigError` unless a guide whose maps belong to the logits has one for each foreground class."""
    guide = settings.guide
    if guide is None or guide.at != "logits" or maps == num_classes - 1:
        return
    reads = find("segmenter", settings.segmenter.name, SEGMENTERS).reads_guide
    who = f"segmenter {settings.segmenter.name} reads" if reads else "model.guide.at=logits needs"
    raise ConfigError(
        f"{who} one map of the guide for each of {num_classes - 1} foreground classes: set model.guide.per_class=true"
    )


def find_stride(settings: ModelSettings, *, num_classes: int) -> int:
    """The number that sizes of images must be multiples of: `find_strides` of a two-dimensional network."""
    return find_strides(settings, num_classes=num_classes)[0]


def find_strides(settings: ModelSettings, *, num_classes: int) -> tuple[int, ...]:
    """Numbers that the size along each axis must be a multiple of, without building the model or looking for weights.

    Raises:
        ConfigError: The segmenter or one of its options does not exist.
    """
    from guidino_cli.models.grids import strides_by_axis

    part = settings.segmenter
    kind = find("segmenter", part.name, SEGMENTERS)
    stride = getattr(kind, "stride", None)
    if stride is None:
        # It follows from the options of networks that see the image themselves.
        from guidino_cli.models.budget import build_without_memory

        options = {name: value for name, value in part.options.items() if name != "weights"}
        network: Any = build_without_memory(
            lambda: create("segmenter", part.name, SEGMENTERS, options, num_classes=num_classes)
        )
        stride = network.stride
    return tuple(settings.reduction * step for step in strides_by_axis(stride, kind.dims))


def default_backbone_channels(in_channels: int, *, slab: int = 1) -> tuple[int, int, int]:
    """The three channels of an image that a backbone of three channels sees, unless `model.backbone_channels` says so.

    Of one channel, that one three times; of two, the first and twice the second; of more, the first three. Of a slab
    of slices with one channel each, the three slices in the middle; with more, the channels of the middle slice.

    Args:
        in_channels: All channels of the image.
        slab: Neighbouring slices among them, each with all channels of its own.
    """
    channels = in_channels // slab
    if channels == 1 and slab >= 3:
        middle = slab // 2
        return middle - 1, middle, middle + 1
    first = slab // 2 * channels
    last = channels - 1
    return first, first + min(1, last), first + min(2, last)


def _backbone_channels(settings: ModelSettings, *, in_channels: int, slab: int) -> tuple[int, ...] | None:
    """The channels that a backbone sees; None where it takes the image as it is."""
    chosen = settings.backbone_channels
    if chosen is not None:
        if max(chosen) >= in_channels:
            found = f"{in_channels} channels, 0..{in_channels - 1}" if in_channels > 1 else "one channel, 0"
            raise ConfigError(f"model.backbone_channels is {list(chosen)}, but the images have {found}")
        return tuple(chosen)
    whole = in_channels == 1 or default_backbone_channels(in_channels, slab=slab) == tuple(range(in_channels))
    return None if whole else default_backbone_channels(in_channels, slab=slab)


def _channels_of(kind: Any, in_channels: int) -> dict[str, int]:
    """The argument for the number of image channels of a segmenter, if it reads an image with other than 3."""
    if in_channels == 3 or "in_channels" not in inspect.signature(kind).parameters:
        return {}
    return {"in_channels": in_channels}


def _require_compatible(settings: ModelSettings, *, dims: float) -> None:
    """Refuse parts that do not fit each other, before any weights are looked for."""
    name = settings.segmenter.name
    kind = find("segmenter", name, SEGMENTERS)
    if kind.dims == 3 and dims != 3:
        raise ConfigError(
            f"segmenter {name} segments volumes, but data.dims is {dims:g}: set data.dims=3, or choose a network for "
            "images (guidino models)"
        )
    if kind.dims == 2 and dims == 3:
        raise ConfigError(
            f"segmenter {name} segments images and slices, but data.dims is 3: set data.dims=2, or choose a network "
            "for volumes (guidino models)"
        )
    if settings.guide is None and kind.reads_guide:
        raise ConfigError(
            f"segmenter {name} makes its mask of a guide: set model.guide, such as {{name: ridge, at: logits, "
            "per_class: true}, and model.backbone"
        )
    if settings.backbone is None and kind.uses_backbone:
        raise ConfigError(
            f"segmenter {name} sees images through a backbone only: set model.backbone, such as {{name: dinov3}}"
        )
    if settings.backbone is not None and settings.guide is None and not kind.uses_backbone:
        raise ConfigError(f"segmenter {name} does not read a backbone: set model.guide, or remove model.backbone")
    if settings.guide is not None and settings.guide.at == "input" and not kind.reads_image:
        raise ConfigError(
            f"model.guide.at is input, but segmenter {name} reads the backbone only: use bottleneck or features"
        )
    if settings.reduction > 1 and dims == 3:
        raise ConfigError("model.reduction is for images and slices, but data.dims is 3: set model.reduction=1")
    if settings.guide is not None:
        _require_showable(settings.guide, name, kind)
    is_prior = settings.guide is not None and settings.guide.at in {"logits", "channels"} and not kind.reads_guide
    if settings.guide is not None and settings.guide.at not in kind.guided_at and not is_prior:
        possible = " or ".join(sorted(kind.guided_at))
        raise ConfigError(
            f"model.guide.at is {settings.guide.at}, but segmenter {name} cannot be cut there: use {possible}"
        )


def _require_showable(guide: GuideSettings, name: str, kind: Any) -> None:
    """`ConfigError` if guide or tokens are to be channels of an input that has none for them."""
    wanted = "model.guide.at=channels" if guide.at == "channels" else f"model.guide.tokens={guide.tokens}"
    if guide.at != "channels" and not guide.tokens:
        return
    if kind.reads_guide or "in_channels" not in inspect.signature(kind).parameters:
        instead = "model.guide.at=logits" if guide.at == "channels" else "model.guide.tokens=0"
        raise ConfigError(f"{wanted} adds channels to the input, but segmenter {name} takes none: set {instead}")


def _require_buildable(part: ComponentSettings, **given: object) -> None:
    """`ConfigError` for options that ask for a network larger than the memory, before any of it is allocated."""
    options = {name: value for name, value in part.options.items() if name != "weights"}
    if not options:
        return
    from guidino_cli.models.budget import NetworkTooLargeError, build_without_memory

    def build() -> Any:
        return create("segmenter", part.name, SEGMENTERS, options, **given)

    try:
        build_without_memory(build)
    except NetworkTooLargeError as error:
        raise ConfigError(f"segmenter {part.name} with options {options}: {error}") from error


def build_backbone(  # type: ignore[no-untyped-def]
    name: str, options: dict, *, offline: bool = False, frozen: bool = False, keep_mapped: bool = False
):
    """Load one backbone by its registered name; see `build_model` for the errors.

    Args:
        name: Key of `BACKBONES`.
        options: Keyword arguments of its loader.
        offline: Never ask the hub.
        frozen: It will neither be adapted nor saved as a transformers model, so it may be built without transformers.
        keep_mapped: See `load_network`.
    """
    # A loader is given those of these arguments that it has.
    supplied = {"family": name, "offline": offline, "frozen": frozen, "keep_mapped": keep_mapped}
    accepted = inspect.signature(find("backbone", name, BACKBONES)).parameters
    given = {key: value for key, value in supplied.items() if key in accepted}
    return create("backbone", name, BACKBONES, options, **given)
