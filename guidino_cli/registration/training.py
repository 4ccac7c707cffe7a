"""Train a network that registers: a pair drawn at random in each step, no labels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from guidino_cli.options.registration import NetworkLoss
from guidino_cli.registration.extraction import RegistrationFeatures
from guidino_cli.registration.network import RegistrationNetwork, compute_loss, make_dissimilarity
from guidino_cli.registration.training_images import CompactCache, TrainingImages


@dataclass(frozen=True)
class NetworkTraining:
    """How a network learns.

    Attributes:
        loss: Local correlation of grey values, or the squared difference of the features that the network sees.
        smoothness: Weight of the squared slopes of the field.
        learning_rate: Of Adam.
        seed: Of the weights at first, and of the pairs.
    """

    loss: NetworkLoss
    smoothness: float
    learning_rate: float
    seed: int


@dataclass(frozen=True)
class StepLoss:
    """Numbers of a step.

    Attributes:
        loss: What is minimised.
        dissimilarity: Of warped and fixed image.
        roughness: Of the field, without its weight.
    """

    loss: float
    dissimilarity: float
    roughness: float


class NetworkTrainer:
    """Steps of Adam on pairs of images.

    The pair of a step follows from seed and step alone, so that a resumed training repeats an uninterrupted one.

    Args:
        network: Freshly made, on its device.
        extractor: Makes its features; with a PCA if it has a backbone.
        images: To learn from.
        settings: Of the training.

    Attributes:
        network: What learns.
        step: Steps that are done.
        settings: Of the training.
        cache: Features of the images.
    """

    def __init__(
        self,
        network: RegistrationNetwork,
        extractor: RegistrationFeatures,
        images: TrainingImages,
        *,
        settings: NetworkTraining,
    ) -> None:
        self.network, self.step = network, 0
        self.settings, self._extractor, self._images = settings, extractor, images
        self._optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
        self._dissimilarity = make_dissimilarity(settings.loss, network.shape.dims)
        self.cache = CompactCache(images, extractor.compress)

    def advance(self) -> StepLoss:
        """Make the next step.

        Raises:
            DataError: An image can no longer be read.
            FloatingPointError: The field or the loss is not finite; nothing has changed since the step before.
        """
        generator = np.random.default_rng((self.settings.seed, self.step))
        compact = [self.cache.get(number) for number in self._images.draw(generator)]
        fixed, moving = (self._extractor.expand(item)[None] for item in compact)
        spacing = compact[0].spacing
        (first, grid), (second, _) = (self.network.average(item, spacing) for item in (fixed, moving))
        field = self.network(first, second)
        if self.settings.loss == "lncc":
            greys = (self._extractor.grey(item)[None] for item in compact)
            first, second = (self.network.average(grey, spacing)[0] for grey in greys)
        parts = compute_loss(
            field, first, second, self._dissimilarity, sides=grid.sides, smoothness=self.settings.smoothness
        )
        if not bool(parts.total.isfinite()):
            raise FloatingPointError(f"the loss is {float(parts.total)}")
        self._optimizer.zero_grad()
        parts.total.backward()
        self._optimizer.step()
        self.step += 1
        return StepLoss(*(float(part.detach()) for part in (parts.total, parts.dissimilarity, parts.roughness)))

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values with which `load_state_dict` goes on."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the last step of a saved state.

        Raises:
            KeyError: An entry is missing.
            RuntimeError: It is of another network.
        """
        self.network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
