"""Any network of segmentation_models_pytorch, by the names of its architecture and its encoder."""

import copy
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from guidino_cli.errors import ConfigError, unknown_name
from guidino_cli.models.base import Segmenter
from guidino_cli.models.layers import import_optional

_HINT = "torchvision must be the build for your torch (https://pytorch.org/get-started)"
_SPELLING = "smp:ARCHITECTURE:ENCODER, such as smp:Unet:resnet34"


class SMP(Segmenter):
    """smp's encoder, decoder and head, cut between encoder and decoder; all weights start at random.

    DPT is left out, since its encoder returns tokens as well as maps. Weights that the architecture leaves unused, such
    as the last stages of PSPNet's encoder, do not learn.

    Args:
        num_classes: K, background included.
        in_channels: C.
        variant: "ARCHITECTURE:ENCODER", what follows the first colon of `smp:Unet:resnet34`; that is smp's own default.
        arguments: Further arguments of smp's class, such as decoder_channels, or of timm's for an encoder `tu-...`.
    """

    net: Any
    output_layers = ("net.segmentation_head.0",)

    def __init__(
        self,
        *,
        num_classes: int,
        in_channels: int = 3,
        variant: str = "Unet:resnet34",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.name, given = f"smp:{variant}", dict(arguments or {})
        architecture, encoder = _names(variant)
        library = import_optional(
            "segmentation_models_pytorch", extra="smp", needed_by=f"segmenter {self.name}", hint=_HINT
        )
        kind = _architecture(library, architecture)
        _require_encoder(library, encoder)
        try:
            net = kind(
                encoder_name=encoder, encoder_weights=None, in_channels=in_channels, classes=num_classes, **given
            )
        # timm knows no such network, or the two do not go together.
        except (KeyError, RuntimeError) as error:
            raise ConfigError(f"segmenter {self.name}: {' '.join(str(error).split())}") from error
        self.net = net
        # PAN halves its deepest map three times more, and cannot below one cell.
        self.stride = int(net.encoder.output_stride) * (8 if architecture == "PAN" else 1)
        self._rest_unused_weights(in_channels, side=int(given.get("img_size", max(64, 2 * self.stride))))

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """The image itself, then maps at 1/2, 1/4, ... of it; of some encoders the second has no channels.

        Raises:
            ConfigError: The encoder takes images of another size only.
        """
        try:
            return list(self.net.encoder(image))
        # timm's way to say that windows or positions are of one size.
        except AssertionError as error:
            height, width = image.shape[-2:]
            raise ConfigError(
                f"segmenter {self.name} cannot take images of {height} x {width} ({error}); make that data.image_size, "
                f"or set model.segmenter.options.arguments={{img_size: {max(height, width)}}}"
            ) from error

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Class scores at image size."""
        return [self.net.segmentation_head(self.net.decoder(features))]

    def _rest_unused_weights(self, in_channels: int, *, side: int) -> None:
        """Freeze weights that no gradient reaches, because several processes would wait for it."""
        trial: nn.Module = copy.deepcopy(self.net).to("meta")
        try:
            trial(torch.empty(2, in_channels, side, side, device="meta")).sum().backward()
        except AssertionError:
            # An encoder for one size of images: `encode` says which.
            return
        reached = {name for name, weight in trial.named_parameters() if weight.grad is not None}
        for name, weight in self.net.named_parameters():
            weight.requires_grad_(name in reached)


def _names(variant: str) -> tuple[str, str]:
    architecture, _, encoder = variant.partition(":")
    if not architecture or not encoder or ":" in encoder:
        raise ValueError(f"'{variant}' names no architecture and encoder: write {_SPELLING}")
    return architecture, encoder


def _architecture(library: Any, name: str) -> Any:
    known = {kind.__name__: kind for kind in library.MODEL_ARCHITECTURES_MAPPING.values() if kind.__name__ != "DPT"}
    if name not in known:
        raise ConfigError("segmenter smp: " + unknown_name("architecture", name, known))
    return known[name]


def _require_encoder(library: Any, name: str) -> None:
    """Refuse an encoder that smp does not have; those of timm, `tu-...`, are timm's to know."""
    known = library.encoders.get_encoder_names()
    if not name.startswith("tu-") and name not in known:
        near = get_close_matches(name, known, n=5, cutoff=0.0)
        raise ConfigError(
            f"segmenter smp: unknown encoder '{name}'; did you mean '{near[0]}'? "
            f"(near it: {', '.join(sorted(near))}; {len(known)} in all, and tu-NAME for any of timm's)"
        )
