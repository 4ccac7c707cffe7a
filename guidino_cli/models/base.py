"""What a segmenter, a backbone and a guide promise, so that any of them fits any other."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from torch import Tensor, nn


class Segmenter(nn.Module, ABC):
    """A segmentation network cut in two, so that a guide can act between the halves.

    Attributes:
        stride: Image sizes must be multiples of it; `Model` pads to it.
        uses_backbone: Whether `encode` reads the dense maps of a backbone.
        reads_image: Whether `encode` reads the image; if not, a guide at the input would gate nothing.
        guided_at: Where a guide can act: a network that cannot be cut at its bottleneck takes one at its input only.
    """

    stride: int
    uses_backbone: bool = False
    reads_image: bool = True
    guided_at: frozenset[str] = frozenset({"input", "bottleneck", "features"})

    @abstractmethod
    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        """Feature maps, finest first; the last one is the bottleneck."""

    @abstractmethod
    def decode(self, features: list[Tensor], size_hw: tuple[int, int]) -> list[Tensor]:
        """Class scores (B, K, ...), finest first, the first at `size_hw`; later ones are deep supervision."""


class Backbone(nn.Module, ABC):
    """A pretrained network that turns an image into dense maps.

    `forward` takes (B, 1 or 3, H, W) in [0, 1] of any size and normalises it itself. It returns maps (B, D, h, w),
    shallow to deep, whose grids cover the image exactly: cell (i, j) is centred on pixel
    ((i + 0.5) H / h, (j + 0.5) W / w).

    Attributes:
        channels: D of the deepest map.
        level_channels: D of each map that `forward` returns, in its order.
        stride: Pixels per cell of the deepest map.
        identity: Where the weights came from, and their SHA-256.
        is_frozen: No gradients, and evaluation mode for ever.
        is_adapted: Its own weights stay as they were, an adapter inside learns.
        is_whole: All of its weights learn that its maps depend on.
        own: Names of parts of it that are fresh and a run's own, as the segmenter is: adapters other than LoRA's.
    """

    channels: int
    level_channels: list[int]
    stride: int
    identity: dict[str, str]
    is_frozen: bool = False
    is_adapted: bool = False
    is_whole: bool = False
    own: tuple[str, ...] = ()
    _following: tuple[nn.Module, ...] = ()

    @abstractmethod
    def forward(self, image: Tensor) -> list[Tensor]:
        """Dense maps of an image."""

    def freeze(self) -> None:
        """Stop gradients and pin evaluation mode: in train mode DINOv3 rescales its position codes at random."""
        self.is_frozen, self.is_whole = True, False
        self.requires_grad_(False)
        self.eval()

    def let_learn_whole(self) -> None:
        """Let every weight learn that has a part in the maps; all modules follow `train`, DINOv3's position codes too.

        In full precision: beside weights in half, the steps of an optimiser would be lost.
        """
        self.is_frozen, self.is_whole = False, True
        self.float().requires_grad_(True)
        for parameter in self.idle():
            parameter.requires_grad_(False)
        self.train(self.training)

    def idle(self) -> list[nn.Parameter]:
        """Weights without a part in the maps, such as the mask token of pretraining."""
        return []

    def let_learn(self, modules: Iterable[nn.Module]) -> None:
        """Let gradients through to an adapter, and these modules alone (not what is in them) follow `train`."""
        self.is_frozen, self.is_adapted = False, True
        self._following = (*self._following, *modules)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Backbone":
        """Set the mode; a frozen backbone stays in evaluation mode, of an adapted one all but the adapter does.

        One that learns whole follows like any network.
        """
        super().train(mode and not self.is_frozen and not self.is_adapted)
        self.training = mode and not self.is_frozen
        for module in self._following:
            module.training = self.training
        return self


def is_lora_parameter(name: str) -> bool:
    """Whether a tensor of a model belongs to an adapter: PEFT calls them lora_A, lora_B and lora_magnitude_vector."""
    return any(part.startswith("lora_") for part in name.split("."))


class Guide(nn.Module, ABC):
    """Turns a dense map (B, D, h, w) into guide maps (B, G, h, w) in [0, 1]."""

    @abstractmethod
    def forward(self, dense: Tensor) -> Tensor:
        """Guide maps of a dense map."""
