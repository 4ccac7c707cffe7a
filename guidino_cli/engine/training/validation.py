"""Mean Dice of a model on the validation cases, which select the best epoch."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from accelerate import Accelerator

from guidino_cli.config import RunConfig
from guidino_cli.data.cases import read_stored_truth, read_truth
from guidino_cli.data.readers import read
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing
from guidino_cli.data.volumes.stored import StoredArray, open_array
from guidino_cli.distributed import all_gather_object
from guidino_cli.engine.devices import resolve_prediction_precision
from guidino_cli.engine.feature_cache.cache import FeatureCache
from guidino_cli.engine.prediction.background import prefetch
from guidino_cli.engine.prediction.instances import affinity_dice, in_network_order, predict_affinities
from guidino_cli.engine.prediction.predictor import DecodedImage, Predictor
from guidino_cli.engine.prediction.volumes import VolumeMember, VolumePredictor
from guidino_cli.engine.training.sharded_backbone import wait_for_sharded_backbone
from guidino_cli.errors import DataError, UserError
from guidino_cli.metrics.overlap import mean_dice
from guidino_cli.models.composed import Model
from guidino_cli.types import Case, StoredVolume, width_by_height

_UNSCORED = 4
"""Masks that may wait for their score."""


class _ReadCase(NamedTuple):
    """A case from its files: a decoded image or an opened volume, its labels, and which of them do not count."""

    content: DecodedImage | StoredArray
    truth: np.ndarray
    ignored: np.ndarray | None


class Validation:
    """Mean Dice over cases and foreground classes, in the grid of the source images, without mirroring.

    Computed as by `guidino predict`, in the same precision. That of a volume is over all its voxels on the stored grid;
    scores on the source's grid are for `guidino evaluate`. With `model.target: affinities` it is the mean Dice of
    joined and of separated neighbours. While the device computes one case, a thread reads the next and another scores
    the one before.

    Args:
        cases: Labelled cases, split between the processes.
        config: Settings of the run.
        num_classes: K, background included.
        accelerator: Splits the cases and gathers the scores.
        cache: Features of a frozen backbone.
        volumes: How volumes are preprocessed; None for images.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        config: RunConfig,
        *,
        num_classes: int,
        accelerator: Accelerator,
        cache: FeatureCache | None,
        volumes: VolumePreprocessing | None = None,
    ) -> None:
        self._volumes = volumes
        self._cases, self._config, self._num_classes = cases, config, num_classes
        self._accelerator, self._cache = accelerator, cache
        self._precision = resolve_prediction_precision(
            config.predict.precision, validated=accelerator.mixed_precision, device=accelerator.device
        )

    def mean_dice(self, model: Model, *, should_stop: Callable[[], bool] = lambda: False) -> float | None:
        """Mean Dice, the same on every process, or None if validation was stopped or failed on one of them.

        Args:
            model: Without any wrapper; it is left in evaluation mode.
            should_stop: Called before each case.

        Raises:
            DataError: A file of this process cannot be read, or a case has no mask.
        """
        model.eval()
        scores: list[float] = []
        error: UserError | None = None
        with self._accelerator.split_between_processes(list(self._cases)) as cases:
            try:
                scores += self._scores(model, cases, should_stop)
            except UserError as raised:
                # The other processes wait below.
                error = raised
        wait_for_sharded_backbone(model.backbone)
        # Not `gather_for_metrics`: it would cut the list by the remainder of the training loader.
        finished = [score for part in all_gather_object(scores) for score in part]
        if error is not None:
            raise error
        return sum(finished) / len(finished) if len(finished) == len(self._cases) else None

    def _scores(self, model: Model, cases: Sequence[Case], should_stop: Callable[[], bool]) -> Iterator[float]:
        """Mean Dice of each case over the foreground classes, until it is to stop."""
        waiting: deque[Future[float]] = deque()
        # Labels of volumes are large.
        depth = 2 if self._volumes is None else 1
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="score") as pool:
            for case, reading in prefetch(cases, self._read, depth=depth):
                if should_stop():
                    break
                content, truth, ignored = reading.result()
                if self._config.model.target == "affinities":
                    score = self._affinity_score(model, case, content, truth)
                else:
                    labels = self._segment(model, case, content)
                    _require_same_size(case, truth, labels)
                    score = partial(mean_dice, labels, truth, num_classes=self._num_classes, ignored=ignored)
                waiting.append(pool.submit(score))
                while len(waiting) > _UNSCORED:
                    yield waiting.popleft().result()
            yield from (score.result() for score in waiting)

    def _read(self, case: Case) -> _ReadCase:
        """Read the input of `_segment` and the truth of a case; called in another thread."""
        if case.mask is None:
            raise DataError(f"{case.image}: has no mask, so it cannot be used for validation")
        if self._is_stored(case):
            volume = _stored(case)
            values = open_array(volume.image)
            truth, ignored = read_stored_truth(case)
            if truth.shape != tuple(values.shape[1:]):
                found, wanted = (" x ".join(map(str, shape)) for shape in (truth.shape, values.shape[1:]))
                raise DataError(
                    f"{volume.labels}: has {found} voxels, its image {volume.image} {wanted}; run `guidino prepare` "
                    "again"
                )
            return _ReadCase(values, truth, ignored)
        image = DecodedImage(*read(case.image))
        return _ReadCase(image, *read_truth(case))

    def _segment(self, model: Model, case: Case, content: DecodedImage | StoredArray) -> np.ndarray:
        """Labels in the grid of the image, or on the stored grid of a volume."""
        if isinstance(content, DecodedImage):
            predictor = Predictor.from_config(model, self._config, mirror=False, precision=self._precision)
            (result,) = predictor.segment([content], cache=self._cache, keep_probabilities=False, keep_guide=False)
            return result.labels
        if self._volumes is None:
            raise ValueError(f"case {case.id} is a volume, the run's cases are images")
        of_volumes = VolumePredictor.from_config(
            model, self._config, self._volumes, mirror=False, precision=self._precision
        )
        volume = _stored(case)
        return of_volumes.segment_stored(content, volume.statistics, volume.spacing_mm, keep_guide=False).labels

    def _affinity_score(
        self, model: Model, case: Case, content: DecodedImage | StoredArray, truth: np.ndarray
    ) -> Callable[[], float]:
        """Scores the affinities of a volume, which are computed now."""
        if isinstance(content, DecodedImage) or self._volumes is None:
            raise ValueError(f"case {case.id} is no volume, as instances are")
        member = VolumeMember.from_config(model, self._config, self._volumes, precision=self._precision)
        affinities = predict_affinities(member, content, _stored(case).statistics)
        return partial(affinity_dice, affinities, in_network_order(truth, self._volumes))

    def _is_stored(self, case: Case) -> bool:
        return case.volume is not None and self._volumes is not None


def _stored(case: Case) -> StoredVolume:
    if case.volume is None:
        raise ValueError(f"case {case.id} is no volume")
    return case.volume


def _require_same_size(case: Case, truth: np.ndarray, labels: np.ndarray) -> None:
    if truth.shape != labels.shape:
        found, wanted = width_by_height(truth.shape), width_by_height(labels.shape)
        raise DataError(
            f"{case.mask}: is {found} px (width x height), its image {case.image} is {wanted}; run "
            "`guidino prepare` again"
        )
