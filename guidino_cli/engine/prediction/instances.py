"""From volumes to instances: predicted affinities, and the instances that a method makes of them at a threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from guidino_cli.data.instances.affinities import affinities_of_labels, links
from guidino_cli.data.instances.labelling import Method, label_instances
from guidino_cli.data.volumes.grid import Volume
from guidino_cli.data.volumes.network_views import from_network_order, to_network_order
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing, to_stored_grid
from guidino_cli.data.volumes.resampling import resample_nearest
from guidino_cli.data.volumes.stored import StoredArray
from guidino_cli.engine.prediction.accumulation import OnPart
from guidino_cli.engine.prediction.volumes import OnProgress, VolumeMember, VolumePredictor, VolumeSegmentation
from guidino_cli.metrics.overlap import confusion_counts, dice
from guidino_cli.types import ChannelStatistics


@dataclass(frozen=True)
class Labelling:
    """Settings that turn affinities into instances; see `label_instances`."""

    method: Method
    threshold: float
    min_size: int = 0

    def record(self) -> dict[str, Any]:
        """Everything that determines the masks, for the provenance of a prediction."""
        return {"instances": self.method, "threshold": self.threshold, "min_size": self.min_size}


def in_network_order(values: np.ndarray, preprocessing: VolumePreprocessing) -> np.ndarray:
    """(D, H, W) of an array (Z, Y, X): `from_network_order` undone."""
    return values.transpose(preprocessing.axes)


def predict_affinities(
    member: VolumeMember,
    values: StoredArray,
    statistics: Sequence[ChannelStatistics],
    *,
    on_progress: OnProgress = lambda done, total: None,
) -> np.ndarray:
    """Affinities of a stored volume, with axes in the network's order.

    Args:
        member: A run with `model.target: affinities`.
        values: (C, Z, Y, X) as `guidino prepare` stored them.
        statistics: Statistics of all voxels of each channel.
        on_progress: Called after each few slices.

    Returns:
        (3, D, H, W) float32 of a network of patches, (2, D, H, W) of one of slices, whose affinities are along H and W.
    """
    size = to_network_order(values.shape[1:], member.preprocessing)
    affinities: np.ndarray | None = None
    for band in member.segment_bands(values, statistics):
        if affinities is None:
            affinities = np.zeros((len(band.probabilities), *size), dtype=np.float32)
        end = band.top + band.probabilities.shape[1]
        affinities[:, band.top : end] = band.probabilities.cpu().numpy()
        on_progress(end, size[0])
    if affinities is None:
        raise ValueError(f"a volume of {size} voxels has no window")
    return affinities


def label_stored(
    affinities: np.ndarray,
    thresholds: Sequence[float],
    spacing_mm: Sequence[float],
    preprocessing: VolumePreprocessing,
    *,
    method: Method,
    min_size: int,
) -> list[np.ndarray]:
    """Instances (Z, Y, X) at several thresholds, of affinities from `predict_affinities`."""
    spacing = [spacing_mm[axis] for axis in preprocessing.axes]
    if len(affinities) == affinities.ndim - 1:
        found = label_instances(affinities, thresholds, method=method, spacing=spacing, min_size=min_size)
        return [from_network_order(labels, preprocessing) for labels in found]
    # Of pictures, which have one slice.
    plane = label_instances(affinities[:, 0], thresholds, method=method, spacing=spacing[1:], min_size=min_size)
    return [from_network_order(labels[None], preprocessing) for labels in plane]


def affinity_dice(affinities: np.ndarray, labels: np.ndarray) -> float:
    """Mean Dice of the two values of predicted affinities, cut at 0.5: joined and separated neighbours, in [0, 1].

    Args:
        affinities: (3, D, H, W) or (2, D, H, W), see `predict_affinities`.
        labels: True instance numbers (D, H, W).
    """
    first = labels.ndim - len(affinities)
    truth = affinities_of_labels(labels)[first:] > 0.5
    joined, true = [], []
    for axis, (own, wanted) in enumerate(zip(affinities, truth, strict=True), start=first):
        ends, _ = links(labels.ndim, axis)
        joined.append(own[ends].ravel() > 0.5)
        true.append(wanted[ends].ravel())
    predicted, expected = np.concatenate(joined), np.concatenate(true)
    scores = [dice(confusion_counts(*pair)) for pair in ((predicted, expected), (~predicted, ~expected))]
    return float(np.mean([1.0 if np.isnan(score) else score for score in scores]))


class InstancePredictor(VolumePredictor):
    """Segments instances with one run.

    Args:
        member: A run with `model.target: affinities`.
        labelling: How its affinities become instances.
    """

    def __init__(self, member: VolumeMember, labelling: Labelling) -> None:
        super().__init__([member])
        self.labelling = labelling

    def segment_stored(
        self,
        values: StoredArray,
        statistics: Sequence[ChannelStatistics],
        spacing_mm: tuple[float, float, float],
        *,
        keep_guide: bool = True,
    ) -> VolumeSegmentation:
        """Instance numbers (Z, Y, X) on the stored grid; neither guide nor probabilities."""
        affinities = predict_affinities(self.members[0], values, statistics)
        return VolumeSegmentation(self._label(affinities, spacing_mm), None)

    def segment(
        self,
        volume: Volume,
        *,
        keep_guide: bool = False,
        keep_probabilities: bool = False,
        on_progress: OnProgress = lambda done, total: None,
        on_part: OnPart | None = None,
    ) -> VolumeSegmentation:
        """Instance numbers (Z, Y, X) in the grid of the source; neither guide, probabilities nor parts."""
        member = self.members[0]
        stored = to_stored_grid(volume, member.preprocessing.spacing_mm)
        affinities = predict_affinities(member, stored.values, stored.statistics, on_progress=on_progress)
        labels = self._label(affinities, stored.spacing_mm)
        return VolumeSegmentation(resample_nearest(labels, volume.grid.shape), None)

    def _label(self, affinities: np.ndarray, spacing_mm: tuple[float, float, float]) -> np.ndarray:
        how = self.labelling
        (labels,) = label_stored(
            affinities,
            [how.threshold],
            spacing_mm,
            self.members[0].preprocessing,
            method=how.method,
            min_size=how.min_size,
        )
        return labels
