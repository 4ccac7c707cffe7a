"""Mean Dice of a model on the validation cases, which select the best epoch."""

from collections.abc import Callable, Sequence

from accelerate import Accelerator

from guidino_cli.config import RunConfig
from guidino_cli.data.cases import read_stored_truth, read_truth
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing
from guidino_cli.data.volumes.stored import open_array
from guidino_cli.distributed import all_gather_object
from guidino_cli.engine.feature_cache.cache import FeatureCache
from guidino_cli.engine.prediction.predictor import Predictor
from guidino_cli.engine.prediction.volumes import VolumePredictor
from guidino_cli.engine.training.sharded_backbone import wait_for_sharded_backbone
from guidino_cli.errors import DataError, UserError
from guidino_cli.metrics.overlap import mean_dice
from guidino_cli.models.composed import Model
from guidino_cli.types import Case, StoredVolume, width_by_height


class Validation:
    """Mean Dice over cases and foreground classes, in the grid of the source images, without mirroring.

    Computed as by `guidino predict`, in the same precision, whatever the precision of training. That of a volume is
    over all its voxels on the stored grid; scores on the source's grid are for `guidino evaluate`.

    Args:
        cases: Labelled cases, split between the processes.
        config: Of the run.
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

    def mean_dice(self, model: Model, *, should_stop: Callable[[], bool] = lambda: False) -> float | None:
        """Mean Dice, the same on every process, or None if validation was stopped or failed on one of them.

        Args:
            model: Without any wrapper; it is left in evaluation mode.
            should_stop: Called before each case.

        Raises:
            DataError: A file of this process cannot be read, or a case has no mask.
        """
        model.eval()
        scores: list[float | None] = []
        error: UserError | None = None
        with self._accelerator.split_between_processes(list(self._cases)) as cases:
            try:
                scores += [None if should_stop() else self.case_dice(model, case) for case in cases]
            except UserError as raised:
                # The other processes wait below.
                error = raised
        wait_for_sharded_backbone(model.backbone)
        # Not `gather_for_metrics`: it would cut the list by the remainder of the training loader.
        finished: list[float] = [score for part in all_gather_object(scores) for score in part if score is not None]
        if error is not None:
            raise error
        return sum(finished) / len(finished) if len(finished) == len(self._cases) else None

    def case_dice(self, model: Model, case: Case) -> float:
        """Mean Dice of one case over the foreground classes, without pixels of the ignore label."""
        if case.mask is None:
            raise DataError(f"{case.image}: has no mask, so it cannot be used for validation")
        if case.volume is not None and self._volumes is not None:
            return self._volume_dice(model, case, case.volume, self._volumes)
        predictor = Predictor.from_config(model, self._config, mirror=False)
        labels = predictor.segment_file(case.image, cache=self._cache).labels
        truth, ignored = read_truth(case)
        if truth.shape != labels.shape:
            found, wanted = width_by_height(truth.shape), width_by_height(labels.shape)
            raise DataError(
                f"{case.mask}: is {found} px (width x height), its image {case.image} is {wanted}; run "
                "`guidino prepare` again"
            )
        return mean_dice(labels, truth, num_classes=self._num_classes, ignored=ignored)

    def _volume_dice(self, model: Model, case: Case, volume: StoredVolume, preprocessing: VolumePreprocessing) -> float:
        """The same of a volume, on the stored grid."""
        truth, ignored = read_stored_truth(case)
        values = open_array(volume.image)
        if truth.shape != tuple(values.shape[1:]):
            found, wanted = (" x ".join(map(str, shape)) for shape in (truth.shape, values.shape[1:]))
            raise DataError(
                f"{volume.labels}: has {found} voxels, its image {volume.image} {wanted}; run `guidino prepare` again"
            )
        predictor = VolumePredictor.from_config(model, self._config, preprocessing, mirror=False)
        labels = predictor.segment_stored(values, volume.statistics, volume.spacing_mm, keep_guide=False).labels
        return mean_dice(labels, truth, num_classes=self._num_classes, ignored=ignored)
