"""Guide, prediction and guide scores of volumes, on the grid on which the network sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np

from guidino_cli.commands.visualize.inference import ANY_CLASS, guide_map_names, make_accumulators
from guidino_cli.commands.visualize.volume_inputs import VolumeInput
from guidino_cli.config import RunConfig
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing, to_stored_grid
from guidino_cli.data.volumes.reading import read_volume
from guidino_cli.data.volumes.resampling import resample_labels
from guidino_cli.data.volumes.stored import StoredArray, open_array
from guidino_cli.engine.guides.scores import MapScore, MapScoreAccumulator
from guidino_cli.engine.prediction.volumes import VolumePredictor
from guidino_cli.errors import DataError
from guidino_cli.evaluation.image_masks import ImageMasks
from guidino_cli.metrics.overlap import mean_dice
from guidino_cli.models.composed import Model
from guidino_cli.plots.planes import cut_planes, project_planes
from guidino_cli.plots.volume_guide import VolumeGuideMap, VolumeGuideView
from guidino_cli.plots.volumes import VolumeView, rescale_position, view_volume
from guidino_cli.types import ChannelStatistics


@dataclass(frozen=True)
class VolumeGuideResult:
    """Guide and prediction of one volume.

    Attributes:
        path: Its first file.
        view: Data of its figure.
        scores: One per map, then "any class" where there are several.
        other_scores: Empty: guides of volumes are not compared.
    """

    path: Path
    view: VolumeGuideView
    scores: list[MapScore]
    other_scores: Sequence[MapScore] = ()


class VolumeReading(NamedTuple):
    """Settings for reading volumes.

    Attributes:
        orientation: Directions of the axes, such as "RAS", of volumes whose header states none.
        ignore_headers: Take channels voxel by voxel, whatever their headers say about their place.
    """

    orientation: str | None = None
    ignore_headers: bool = False


class _Stored(NamedTuple):
    values: StoredArray
    statistics: tuple[ChannelStatistics, ...]
    spacing_mm: tuple[float, float, float]
    truth: np.ndarray | None


class VolumeGuideVisualizer:
    """Computes guides volume by volume and accumulates their scores.

    Args:
        model: Guided, in evaluation mode.
        config: Settings of its run.
        preprocessing: Of the run's data.
        classes: Class names, the background first.
        reading: How files are read.
        precision: To predict in, see `prediction_precision`.
    """

    def __init__(
        self,
        model: Model,
        config: RunConfig,
        preprocessing: VolumePreprocessing,
        *,
        classes: Sequence[str],
        reading: VolumeReading,
        precision: str = "no",
    ) -> None:
        self.preprocessing, self.classes, self.reading = preprocessing, classes, reading
        self.predictor = VolumePredictor.from_config(model, config, preprocessing, precision=precision)
        self.accumulators: list[MapScoreAccumulator] = []

    def process(self, item: VolumeInput, masks: ImageMasks | None) -> VolumeGuideResult:
        """Compute and score the guide of one volume; truth is that of `masks`, else that of the prepared case.

        Raises:
            DataError: The volume or its truth cannot be read.
        """
        if item.problem:
            raise DataError(item.problem)
        stored = self._read(item, masks)
        found = self.predictor.segment_stored(stored.values, stored.statistics, stored.spacing_mm)
        if found.guide is None:
            raise ValueError("the model has a guide but returned none")
        names = guide_map_names(len(found.guide), self.classes)
        self.accumulators = self.accumulators or make_accumulators(names)
        view = self._view(item, stored, found.labels)
        maps, scores = self._score(found.guide, stored.truth, view)
        millilitres = prod(stored.spacing_mm) / 1000
        truth = stored.truth
        return VolumeGuideResult(
            item.path,
            VolumeGuideView(
                view,
                maps,
                None if truth is None else mean_dice(found.labels, truth, num_classes=len(self.classes)),
                np.count_nonzero(found.labels) * millilitres,
                None if truth is None else np.count_nonzero(truth) * millilitres,
            ),
            scores,
        )

    def _read(self, item: VolumeInput, masks: ImageMasks | None) -> _Stored:
        if item.stored is not None and masks is None:
            own = item.stored
            truth = None if own.labels is None else np.asarray(open_array(own.labels)[:])
            if truth is not None and item.ignore_label is not None:
                # As in the masks of images, voxels that do not count are background.
                truth = np.where(truth == item.ignore_label, 0, truth)
            return _Stored(open_array(own.image), own.statistics, own.spacing_mm, truth)
        volume = read_volume(
            item.sources,
            channels=len(self.preprocessing.channels),
            orientation=self.reading.orientation,
            ignore_headers=self.reading.ignore_headers,
            onto=self.preprocessing.onto,
        )
        stored = to_stored_grid(volume, self.preprocessing.spacing_mm)
        labels = None if masks is None else masks.read_volume(item.path, volume.grid)
        if labels is not None:
            depth, height, width = stored.values.shape[1:]
            labels = resample_labels(labels, (depth, height, width), long_axis=stored.long_axis)
        return _Stored(stored.values, stored.statistics, stored.spacing_mm, labels)

    def _view(self, item: VolumeInput, stored: _Stored, labels: np.ndarray) -> VolumeView:
        shown = self.preprocessing.intensities[0].for_pictures

        def normalize(slices: np.ndarray) -> np.ndarray:
            return np.asarray(shown.normalize(slices[0], stored.statistics[0])[0])

        return view_volume(
            item.name, stored.values, stored.spacing_mm, truth=stored.truth, labels=labels, normalize=normalize
        )

    def _score(
        self, guide: np.ndarray, truth: np.ndarray | None, view: VolumeView
    ) -> tuple[list[VolumeGuideMap], list[MapScore]]:
        """Each map and, where there are several, their maximum, which gates."""
        maps, scores = [], []
        for index, accumulator in enumerate(self.accumulators):
            is_any = accumulator.name == ANY_CLASS
            values = guide.max(axis=0) if is_any else guide[index]
            per_class = not is_any and len(guide) == len(self.classes) - 1
            target = None if truth is None else truth == index + 1 if per_class else truth > 0
            score = accumulator.score_volume(values, target)
            cuts = cut_planes(values, rescale_position(view.position, view.shape, values.shape))
            maps.append(
                VolumeGuideMap(
                    f"{ANY_CLASS}, the gate" if is_any else accumulator.name,
                    cuts,
                    project_planes(values),
                    score.low,
                    score.high,
                    None if target is None else cut_planes(target, view.position),
                    None if target is None else project_planes(target),
                    score.auroc,
                    score.iou_at(0.5),
                )
            )
            scores.append(score)
        return maps, scores
