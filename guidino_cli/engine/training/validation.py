"""How good a model is on the validation cases, which choose the best epoch."""

from collections.abc import Callable, Iterator, Sequence

from accelerate import Accelerator
from accelerate.utils import gather_object

from guidino_cli.config import RunConfig
from guidino_cli.data.images import read_label_map
from guidino_cli.engine.feature_cache.cache import FeatureCache
from guidino_cli.engine.prediction.inference import Window, segment_file
from guidino_cli.engine.training.sharded_backbone import wait_for_sharded_backbone
from guidino_cli.errors import DataError, UserError
from guidino_cli.metrics.overlap import mean_dice
from guidino_cli.models.composed import Model
from guidino_cli.types import Case, width_by_height


class Validation:
    """Mean Dice over cases and foreground classes, in the grid of the source images, without mirroring.

    It computes as `guidino predict` does, in the same precision, whatever the training steps compute in.

    Args:
        cases: Labelled cases, shared out among the processes.
        config: Of the run.
        num_classes: K, background included.
        accelerator: Brings the processes together.
        cache: Where the dense maps of a frozen backbone are kept.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        config: RunConfig,
        *,
        num_classes: int,
        accelerator: Accelerator,
        cache: FeatureCache | None,
    ) -> None:
        self._cases, self._config, self._num_classes = cases, config, num_classes
        self._accelerator, self._cache = accelerator, cache

    def dice(self, model: Model, *, stop: Callable[[], bool] = lambda: False) -> float | None:
        """The score, the same on every process, or None if one of them was asked to stop or could not go on.

        Args:
            model: Without any wrapper; it is left in evaluation mode.
            stop: Asked before each case.

        Raises:
            DataError: A file of this process cannot be read, or a case has no mask.
        """
        model.eval()
        scores: list[float | None] = []
        error: UserError | None = None
        with self._accelerator.split_between_processes(list(self._cases)) as cases:
            try:
                scores += [None if stop() else self.case_dice(model, case) for case in cases]
            except UserError as refused:
                # The others wait for this process below.
                error = refused
        wait_for_sharded_backbone(model.backbone)
        # Not `gather_for_metrics`: it would cut the list by the remainder of the training loader.
        gathered = list(_numbers(gather_object(scores)))
        if error is not None:
            raise error
        return sum(gathered) / len(gathered) if len(gathered) == len(self._cases) else None

    def case_dice(self, model: Model, case: Case) -> float:
        """The score of one case."""
        if case.mask is None:
            raise DataError(f"{case.image}: has no mask, so it cannot validate")
        settings = self._config.predict
        window = Window(self._config.data.image_size, settings.overlap, False, settings.batch_size)
        labels = segment_file(model, case.image, self._config.data, window, cache=self._cache).labels
        truth = read_label_map(case.mask)
        if truth.shape != labels.shape:
            found, wanted = width_by_height(truth.shape), width_by_height(labels.shape)
            raise DataError(
                f"{case.mask}: is {found} px (width x height), its image {case.image} is {wanted}; run "
                "`guidino prepare` again"
            )
        return mean_dice(labels, truth, num_classes=self._num_classes)


def _numbers(scores: Sequence[float | None]) -> Iterator[float]:
    yield from (score for score in scores if score is not None)
