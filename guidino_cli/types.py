"""The things that travel between the rooms: cases and samples on the data side, predictions on the model side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor


@dataclass(frozen=True)
class Case:
    """One image and, where it is labelled, its mask.

    Attributes:
        id: Unique within a data set; also the stem of everything written for the case.
        image: Image file.
        mask: Class-index PNG written by `guidino prepare`, or None for an unlabelled image.
        split: "train", "val" or "test".
        fold: Cross-validation fold of a training case, or None without folds.
        group: What must not be torn apart by a split (a patient, a video, a stack); the case's own id by default.
        size_hw: Height and width in pixels, after EXIF rotation.
        foreground: Share of pixels whose class is not 0, in [0, 1]; None without a mask.
        fields: What else is known (scanner, site, kind of lesion), by column; for groups and strata of a report.
    """

    id: str
    image: Path
    mask: Path | None
    split: str
    fold: int | None
    group: str
    size_hw: tuple[int, int]
    foreground: float | None
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Geometry:
    """What is needed to take a result back to the grid of its source image.

    Attributes:
        source: Name of the image file, for messages.
        size_hw: Height and width of the source in pixels, after EXIF rotation.
    """

    source: str
    size_hw: tuple[int, int]


def width_by_height(shape: Sequence[int]) -> str:
    """The size of an image or mask (H, W, ...) as people say it: `565x584`, width first."""
    return f"{shape[1]}x{shape[0]}"


class Sample(NamedTuple):
    """One training example, or a batch of them once collated.

    Attributes:
        image: (C, H, W) float32 in [0, 1].
        mask: (H, W) int64 class indices.
        case_index: Position of the case in its list.
    """

    image: Tensor
    mask: Tensor
    case_index: Tensor


class Prediction(NamedTuple):
    """Model output for one batch.

    Attributes:
        logits: Class scores, finest first; `logits[0]` is (B, K, H, W) at image size.
        guide: Guide map in [0, 1], (B, G, h, w), whose grid covers the image exactly, or None without a guide.
    """

    logits: list[Tensor]
    guide: Tensor | None = None


class UnlabelledSample(NamedTuple):
    """One unlabelled image, or a batch of them once collated.

    Attributes:
        pixels: (C, S, S) uint8, the whole image squeezed to a square, so that images of all shapes fit one batch.
        aspect: Width over height of the source, for crops that are to have a shape of its own.
        image_index: Position of the image in its list.
        epoch: In which pass over the list it is shown; with `image_index`, it names a showing once and for all.
    """

    pixels: Tensor
    aspect: Tensor
    image_index: Tensor
    epoch: Tensor
