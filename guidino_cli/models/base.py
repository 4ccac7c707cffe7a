"""Interfaces of the parts of a model: `Segmenter`, `Backbone` and `Guide`."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from guidino_cli.errors import ConfigError
from guidino_cli.models.backbones.normalizer import InputNormalizer


class Segmenter(nn.Module, ABC):
    """A segmentation network split into encoder and decoder, so that a guide can act between them.

    Attributes:
        dims: Axes of space of the images it takes: 2, or 3 for volumes.
        stride: Image sizes must be multiples of it, of all axes alike or of each; `Model` pads to it.
        uses_backbone: Whether `encode` reads the dense features of a backbone.
        reads_image: Whether `encode` reads the image; if not, a guide at the input would have no effect.
        guided_at: Places where a guide can act; a network that cannot be split at its bottleneck takes one at its
            input only.
        reads_guide: Whether `encode` is given the guide's maps themselves, after the dense features of a backbone if it
            reads them, and nothing is gated: "logits" is then the only place where a guide can act.
        level_weights: Weights in the loss of the logits that `decode` gives, finest first, where the authors' are not
            1, 1/2, 1/4, ...
        output_layers: Names of the modules whose outputs are the logits, at most resized and added up afterwards: with
            weights of 0 in them all logits are 0.
    """

    dims: int = 2
    stride: int | tuple[int, ...]
    uses_backbone: bool = False
    reads_image: bool = True
    reads_guide: bool = False
    guided_at: frozenset[str] = frozenset({"input", "bottleneck", "features"})
    level_weights: tuple[float, ...] | None = None
    output_layers: tuple[str, ...] = ("head",)

    def zero_output_layers(self) -> None:
        """Make all logits 0, for a network that starts from another prediction; its gradients are not all 0."""
        for name in self.output_layers:
            for parameter in self.get_submodule(name).parameters():
                nn.init.zeros_(parameter)

    @abstractmethod
    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Feature maps, finest first; the last one is the bottleneck.

        Args:
            image: (B, C, H, W), or (B, C, Z, H, W) with three axes.
            dense: Maps of the backbone (B, D, h, w), or those of its slices, (B, D, Z, h, w); empty without one. With
                `reads_guide` the last one is the guide (B, G, h, w).
        """

    @abstractmethod
    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        """Logits (B, K, ...), finest first, the first at the image's size; the others are for deep supervision."""


class Backbone(nn.Module, ABC):
    """A pretrained network that turns an image into dense features.

    `forward` takes (B, 1 or 3, H, W) in [0, 1] of any size and normalises it itself. It returns maps (B, D, h, w),
    shallow to deep, whose grids cover the image exactly: cell (i, j) is centred on pixel
    ((i + 0.5) H / h, (j + 0.5) W / w).

    Attributes:
        channels: D of the deepest map.
        level_channels: D of each map that `forward` returns, in its order.
        stride: Pixels per cell of the deepest map.
        identity: Source of the weights, and their SHA-256.
        is_frozen: No gradients, always in evaluation mode.
        is_adapted: The pretrained weights are frozen, an adapter inside is trained.
        is_finetuned: All weights that contribute to the maps are trained.
        adapter_names: Names of child modules that are randomly initialised and saved with the run, as the segmenter
            is: adapters other than LoRA.
        pending_dtype: What the weights are to be cast to before they are used, while they are in the precision of
            their file and still mapped from it; None if they are ready.
    """

    channels: int
    level_channels: list[int]
    stride: int
    identity: dict[str, str]
    is_frozen: bool = False
    is_adapted: bool = False
    is_finetuned: bool = False
    adapter_names: tuple[str, ...] = ()
    pending_dtype: torch.dtype | None = None
    _adapter_modules: tuple[nn.Module, ...] = ()

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Dense features of an image."""

    def freeze(self) -> None:
        """Stop gradients and pin evaluation mode: in train mode DINOv3 rescales its position codes at random."""
        self.is_frozen, self.is_finetuned = True, False
        self.requires_grad_(False)
        self.eval()

    def unfreeze(self) -> None:
        """Train every weight that contributes to the maps; all modules follow `train`, DINOv3's position codes too.

        Weights become float32: in half precision the optimizer's small steps would round to nothing.
        """
        self.is_frozen, self.is_finetuned = False, True
        self.float().requires_grad_(True)
        for parameter in self.unused_parameters():
            parameter.requires_grad_(False)
        self.train(self.training)

    def expect_standardized(self) -> None:
        """Take z-scores (mean 0, deviation 1) from now on, which are resized but not normalised again.

        Raises:
            ConfigError: The backbone normalises in another way.
        """
        normalizers = [module for module in self.children() if isinstance(module, InputNormalizer)]
        if not normalizers:
            raise ConfigError(f"{type(self).__name__} takes images in [0, 1] only: use another data.intensity")
        for normalizer in normalizers:
            normalizer.is_standardized = True

    def unused_parameters(self) -> list[nn.Parameter]:
        """Weights that do not contribute to the maps, such as the mask token of pretraining."""
        return []

    def enable_adapter(self, modules: Iterable[nn.Module]) -> None:
        """Let gradients through to an adapter; these modules alone, not their children, follow `train`."""
        self.is_frozen, self.is_adapted = False, True
        self._adapter_modules = (*self._adapter_modules, *modules)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Backbone":
        """Set the mode: a frozen backbone stays in evaluation mode, an adapted one too except for its adapter.

        A fine-tuned one follows like any network.
        """
        super().train(mode and not self.is_frozen and not self.is_adapted)
        self.training = mode and not self.is_frozen
        for module in self._adapter_modules:
            module.training = self.training
        return self


def is_lora_parameter(name: str) -> bool:
    """Whether a parameter belongs to LoRA: PEFT calls them lora_A, lora_B and lora_magnitude_vector."""
    return any(part.startswith("lora_") for part in name.split("."))


class Guide(nn.Module, ABC):
    """Turns a dense feature map (B, D, h, w) into guide maps (B, G, h, w) in [0, 1]."""

    @abstractmethod
    def forward(self, dense: Tensor) -> Tensor:
        """Guide maps of a dense feature map."""
