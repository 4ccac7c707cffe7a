"""What a pretraining objective promises, so that one loop teaches a student by any of them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from guidino_cli.ssl.networks import TokenEncoder
from guidino_cli.types import UnlabelledSample


@dataclass(frozen=True)
class PretrainProgress:
    """Where a run stands while an objective is asked for something.

    Attributes:
        step: Steps of the optimiser that are finished.
        steps: How many the run has in all.
        seed: Of the run; views and masks depend on it, the epoch and the image alone.
    """

    step: int
    steps: int
    seed: int

    @property
    def share(self) -> float:
        """Of the run that is done, in [0, 1]."""
        return self.step / max(1, self.steps)


class ObjectiveOutput(NamedTuple):
    """What an objective says of a batch.

    Attributes:
        terms: Every term times its weight, and their sum as "loss"; gradients flow through "loss".
        figures: What else is worth a column of the history, such as an entropy; without gradients.
        features: (N, D), one row an image, without gradients: of their effective rank and mean cosine the loop tells
            whether the student is about to say the same of all images. None where there is nothing of the kind.
    """

    terms: dict[str, Tensor]
    figures: dict[str, Tensor]
    features: Tensor | None = None


class PretrainObjective(nn.Module, ABC):
    """A student with all that teaches it; what requires a gradient is trained.

    One step of the loop: `views` (no gradients, single precision), `forward` (through whatever accelerate wraps around
    the module, in its precision), backward, `before_step`, the optimiser's step, `after_step`.

    Attributes:
        student: What learns, besides any heads.
    """

    student: TokenEncoder

    @abstractmethod
    def views(self, images: UnlabelledSample, *, at: PretrainProgress) -> Any:
        """What `forward` is shown of a batch: made where its pixels are; its other numbers are in main memory."""

    @abstractmethod
    def forward(self, views: Any, *, at: PretrainProgress) -> ObjectiveOutput:
        """The loss of a batch."""

    @abstractmethod
    def result(self) -> nn.Module:
        """The transformers network that the run is made for: student or teacher."""

    def before_step(self, *, at: PretrainProgress) -> None:
        """Change gradients, such as those of a layer that is still frozen."""

    def after_step(self, *, at: PretrainProgress) -> None:
        """Follow the student, as a teacher does that is its moving average; `at` counts the step that was made."""

    def own_state(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint; a frozen network that is read from elsewhere need not be among them."""
        return self.state_dict()

    def load_own_state(self, state: dict[str, Tensor]) -> None:
        """Be as at the moment of `own_state`."""
        self.load_state_dict(state)

    def warning(self, figures: dict[str, float], *, at: PretrainProgress) -> str | None:
        """A line about figures (means since the last look) that should worry a user, or None."""
        return None

    def failure(self, figures: dict[str, float], *, at: PretrainProgress) -> str | None:
        """Why a run cannot come to anything any more and what to change, or None; the loop stops with it."""
        return None
