"""Interface of pretraining objectives: one loop trains a student by any of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from guidino_cli.ssl.networks import TokenEncoder
from guidino_cli.types import UnlabelledSample


@dataclass(frozen=True)
class PretrainProgress:
    """Position in a run, passed to every call of an objective.

    Attributes:
        step: Finished optimizer steps.
        steps: Optimizer steps of the whole run.
        seed: Seed of the run; views and masks depend on it, the epoch and the image alone.
    """

    step: int
    steps: int
    seed: int

    @property
    def fraction(self) -> float:
        """Finished fraction of the run, in [0, 1]."""
        return self.step / max(1, self.steps)


class ObjectiveOutput(NamedTuple):
    """Loss and statistics of a batch.

    Attributes:
        terms: Every weighted term, and their sum as "loss"; gradients flow through "loss".
        statistics: Further columns of the history, such as an entropy; without gradients.
        features: (N, D), one row per image, without gradients: the loop computes their effective rank and mean cosine
            to detect collapse. None if the objective has no such features.
    """

    terms: dict[str, Tensor]
    statistics: dict[str, Tensor]
    features: Tensor | None = None


class PretrainObjective(nn.Module, ABC):
    """A student together with its teachers and heads; whatever requires a gradient is trained.

    One step of the loop: `views` (no gradients, single precision), `forward` (through accelerate's wrapper, in its
    precision), backward, `before_step`, the optimizer's step, `after_step`.

    Attributes:
        student: The network that is trained, besides any heads.
    """

    student: TokenEncoder

    @abstractmethod
    def views(self, images: UnlabelledSample, *, progress: PretrainProgress) -> Any:
        """Input of `forward` for a batch; pixels are on the device, the other fields of `images` in main memory."""

    @abstractmethod
    def forward(self, views: Any, *, progress: PretrainProgress) -> ObjectiveOutput:
        """Loss of a batch."""

    @abstractmethod
    def exported_encoder(self) -> TokenEncoder:
        """The encoder that becomes the backbone: student or teacher."""

    def before_step(self, *, progress: PretrainProgress) -> None:
        """Change gradients before the optimizer's step, such as those of a layer that is still frozen."""

    def after_step(self, *, progress: PretrainProgress) -> None:
        """Update teachers after the optimizer's step; `progress` counts that step as finished."""

    def own_state(self) -> dict[str, Tensor]:
        """Tensors of a checkpoint; frozen networks that are loaded from elsewhere may be left out."""
        return self.state_dict()

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Restore the tensors of `own_state`."""
        self.load_state_dict(state)

    def warning(self, metrics: dict[str, float], *, progress: PretrainProgress) -> str | None:
        """A warning about suspicious metrics (means since the last row of the history), or None."""
        return None

    def failure(self, metrics: dict[str, float], *, progress: PretrainProgress) -> str | None:
        """Why the run cannot recover and what to change, or None; the loop stops with this message."""
        return None
