"""What a registration is worth: overlap and borders of labels before and after, likeness, and how smooth it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, nan

import numpy as np

from guidino_cli.metrics.overlap import confusion_counts, dice
from guidino_cli.metrics.surface import average_surface_distance, hausdorff95, surface_distances
from guidino_cli.registration.fields import jacobian_determinants


@dataclass(frozen=True)
class LabelScore:
    """Agreement of one label of the moving image with the fixed one's.

    Attributes:
        dice: 0 if only one of them has the label.
        hd95: 95th percentile of the distances between both borders, in the unit of the spacing; the diagonal of the
            image if only one of them has the label.
        asd: Mean distance from the border of the moving label to the fixed one's; likewise.
    """

    dice: float
    hd95: float
    asd: float


@dataclass(frozen=True)
class FieldScore:
    """How a displacement field moves and deforms.

    Attributes:
        folding: Share of pixels whose Jacobian determinant is not positive.
        std_log_jacobian: Standard deviation of the logarithm of the positive determinants; 0 for a translation.
        mean_displacement: Mean length, in the unit of the spacing.
        largest_displacement: Likewise.
    """

    folding: float
    std_log_jacobian: float
    mean_displacement: float
    largest_displacement: float


def list_labels(fixed: np.ndarray, moving: np.ndarray) -> list[int]:
    """All labels but 0 of two label maps, in order."""
    return sorted({int(value) for labels in (fixed, moving) for value in np.unique(labels)} - {0})


def score_label(moving: np.ndarray, fixed: np.ndarray, spacing: Sequence[float]) -> LabelScore:
    """Compare two masks, of which at least one is not empty.

    Args:
        moving: Booleans of any dimension.
        fixed: Of the same shape.
        spacing: Size of a pixel along each axis.
    """
    if not (moving.any() and fixed.any()):
        diagonal = hypot(*(size * step for size, step in zip(fixed.shape, spacing, strict=True)))
        return LabelScore(0.0, diagonal, diagonal)
    distances = surface_distances(moving, fixed, spacing)
    overlap = dice(confusion_counts(moving, fixed))
    return LabelScore(overlap, hausdorff95(distances), average_surface_distance(distances))


def score_field(field: np.ndarray, spacing: Sequence[float]) -> FieldScore:
    """Measure a displacement field (n, *S) in pixels."""
    determinants = jacobian_determinants(field)
    positive = determinants[determinants > 0]
    steps = np.array(spacing).reshape(-1, *[1] * (field.ndim - 1))
    lengths = np.sqrt(np.square(field * steps).sum(axis=0))
    return FieldScore(
        1 - positive.size / determinants.size,
        float(np.log(positive).std()) if positive.size else nan,
        float(lengths.mean()),
        float(lengths.max()),
    )


def correlate_images(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson correlation of two images of the same shape, in [-1, 1]; NaN if one of them is constant."""
    one, other = (values.astype(np.float64) - values.mean(dtype=np.float64) for values in (first, second))
    scale = float(np.sqrt(np.square(one).sum() * np.square(other).sum()))
    return float((one * other).sum()) / scale if scale > 0 else nan
