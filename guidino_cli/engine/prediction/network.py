"""`Network`: what prediction calls, a `Model` or the same network compiled by another engine."""

from typing import Protocol

from torch import Tensor

from guidino_cli.models.composed import GetOrCompute
from guidino_cli.types import Prediction


class Network(Protocol):
    """A network in evaluation mode.

    Attributes:
        mean: A tensor on the device where images are wanted.
    """

    mean: Tensor

    @property
    def has_guide(self) -> bool:
        """Whether its predictions have a guide."""
        ...

    def __call__(self, image: Tensor, *, get_or_compute: GetOrCompute | None = None) -> Prediction:
        """Segment a batch of windows; see `Model.forward`."""
        ...
