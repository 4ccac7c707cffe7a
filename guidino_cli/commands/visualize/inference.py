"""Guide, prediction and guide scores of each image, and the spool on disk that holds them until they are drawn."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from guidino_cli.config import RunConfig
from guidino_cli.data.images import read_image
from guidino_cli.data.preprocess import network_size
from guidino_cli.engine.guides.scores import MapScore, MapScoreAccumulator
from guidino_cli.engine.guides.tokens import analyse_tokens
from guidino_cli.engine.prediction.predictor import Predictor, Segmentation
from guidino_cli.errors import DataError, PartialError
from guidino_cli.metrics.overlap import mean_dice
from guidino_cli.models.composed import Model
from guidino_cli.plots.panels import thumbnail, thumbnail_labels, thumbnail_map
from guidino_cli.plots.views import GuideMap, GuideView, TokenView
from guidino_cli.progress import join_first, log_info, pluralize, track

if TYPE_CHECKING:
    from guidino_cli.evaluation.image_masks import ImageMasks

STORED_SIDE = 640
"""Longer side, in pixels, of the maps stored for an image: more than a panel shows."""
T = TypeVar("T")
FOREGROUND, ANY_CLASS = "foreground", "any class"


@dataclass(frozen=True)
class GuidedRun:
    """A run whose guide is drawn.

    Attributes:
        model: With a guide, in evaluation mode.
        config: The run's settings.
        title: Title of its guide in figures.
        make_context: Makes the context in which the model runs, such as one that disables the adapter.
        precision: To predict in, see `prediction_precision`.
    """

    model: Model
    config: RunConfig
    title: str = "guide"
    make_context: Callable[[], AbstractContextManager[Any]] = nullcontext
    precision: str = "no"

    def segment_file(self, path: Path) -> Segmentation:
        """Segment an image as `predict` does, and keep its guide.

        Raises:
            DataError: The file cannot be read.
        """
        with self.make_context():
            predictor = Predictor.from_config(self.model, self.config, precision=self.precision)
            return predictor.segment_file(path, keep_probabilities=False)


@dataclass(frozen=True)
class GuideResult:
    """Guide and prediction of one image.

    Attributes:
        path: The image.
        view: Data of its figure, except the image itself and the IoU at the chosen thresholds.
        scores: One per map, then "any class" where there are several.
        other_scores: The same for the guide it is compared with; empty without one.
    """

    path: Path
    view: GuideView
    scores: list[MapScore]
    other_scores: list[MapScore]

    def complete_view(self, thresholds: Sequence[float]) -> GuideView:
        """The view with its image and the IoU at these thresholds."""
        image = thumbnail(read_image(self.path)[0], longest=2 * STORED_SIDE)
        maps = [
            replace(item, iou=tuple(score.iou_at(value) for value in thresholds))
            for item, score in zip(self.view.maps, self.scores, strict=False)
        ]
        return replace(self.view, image=image, maps=maps)


class GuideVisualizer:
    """Computes guides image by image and accumulates their scores, in constant memory.

    Args:
        run: The run whose guide is drawn.
        classes: Its class names, the background first.
        other: A guide to compare with.
        at: Pixel (x, y) whose patch is compared with the others.
        with_tokens: Analyse the backbone's tokens too.
        scale: Enlarges the image for the tokens.
    """

    def __init__(
        self,
        run: GuidedRun,
        *,
        classes: Sequence[str],
        other: GuidedRun | None = None,
        at: tuple[int, int] | None = None,
        with_tokens: bool = False,
        scale: float = 1.0,
    ) -> None:
        self.run, self.other, self.classes = run, other, classes
        self.at, self.with_tokens, self.scale = at, with_tokens, scale
        self.accumulators: list[MapScoreAccumulator] = []
        self.other_accumulators: list[MapScoreAccumulator] = []
        self.max_difference = 0.0

    def process(self, path: Path, masks: ImageMasks | None) -> GuideResult:
        """Compute and score the guide of one image.

        Raises:
            DataError: The image or its truth cannot be read.
        """
        result = self.run.segment_file(path)
        guide = _guide_array(result)
        other = None if self.other is None else _guide_array(self.other.segment_file(path))
        truth = None if masks is None else masks.read(path, size_hw=result.labels.shape)
        tokens = self._analyse_tokens(path, result.pixels) if self.with_tokens else ()
        names = guide_map_names(len(guide), self.classes)
        targets = [_target(truth, index, count=len(guide), classes=self.classes) for index in range(len(guide))]
        self.accumulators = self.accumulators or make_accumulators(names)
        scores = _score_maps(self.accumulators, guide, targets, truth)
        other_scores: list[MapScore] = []
        if other is not None:
            self.other_accumulators = self.other_accumulators or make_accumulators(names)
            other_scores = _score_maps(self.other_accumulators, other, targets, truth)
            self.max_difference = max(self.max_difference, float(np.abs(guide - other).max()))
        maps = [
            GuideMap(
                name,
                thumbnail_map(guide[index], longest=STORED_SIDE),
                _shrink_target(targets[index]),
                scores[index].auroc,
                other=None if other is None else thumbnail_map(other[index], longest=STORED_SIDE),
                other_auroc=other_scores[index].auroc if other_scores else float("nan"),
            )
            for index, name in enumerate(names)
        ]
        view = GuideView(
            path.name,
            (result.labels.shape[0], result.labels.shape[1]),
            np.zeros((1, 1, 3), dtype=np.uint8),
            thumbnail_labels(result.labels, longest=2 * STORED_SIDE),
            maps,
            truth=None if truth is None else thumbnail_labels(truth, longest=2 * STORED_SIDE),
            dice=None if truth is None else mean_dice(result.labels, truth, num_classes=len(self.classes)),
            gate_iou=scores[-1].iou_at(0.5),
            tokens=tokens,
        )
        return GuideResult(path, view, scores, other_scores)

    def _analyse_tokens(self, path: Path, pixels: np.ndarray) -> tuple[TokenView, ...]:
        """Tokens of the run's backbone on the run's own grid, after those of the guide it is compared with."""
        views, at = [], self.at
        for run in (self.other, self.run):
            if run is None or run.model.backbone is None:
                continue
            data = run.config.data
            input_hw = network_size((pixels.shape[0], pixels.shape[1]), resize=data.resize, image_size=data.image_size)
            try:
                with run.make_context():
                    found = analyse_tokens(run.model.backbone, pixels, at=at, scale=self.scale, input_hw=input_hw)
            except DataError as error:
                raise DataError(f"{path}: {error}") from error
            title = "" if self.other is None else run.title
            views.append(TokenView(found.components, found.similarity, found.patch, found.explained, title))
            # Both are compared with the same place, even where their salient patches differ.
            at = at or _patch_centre(found.patch, found.similarity.shape, pixels.shape)
        return tuple(views)


def guide_map_names(count: int, classes: Sequence[str]) -> list[str]:
    """Names of a run's guide maps: the foreground classes, "foreground" for one map of several, or else numbers."""
    if count == 1 and len(classes) != 2:
        return [FOREGROUND]
    return list(classes[1:]) if count == len(classes) - 1 else [f"map {number + 1}" for number in range(count)]


class ResultSpool(Generic[T]):
    """Results on disk, in the order in which they were added.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []

    def add(self, name: str, result: T) -> None:
        """Write one result."""
        self._path(len(self.names)).write_bytes(zlib.compress(pickle.dumps(result), 1))
        self.names.append(name)

    def __iter__(self) -> Iterator[tuple[str, T]]:
        for number, name in enumerate(self.names):
            # Safe to unpickle: this process wrote it into a temporary folder of its own.
            yield name, pickle.loads(zlib.decompress(self._path(number).read_bytes()))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number}.pickle.z"


def without_adapter(model: Model) -> Callable[[], AbstractContextManager[Any]]:
    """Makes contexts in which the adapter of a model's backbone is disabled.

    Raises:
        ValueError: The model has no backbone.
    """
    from guidino_cli.models.lora import disable_adapter

    if model.backbone is None:
        raise ValueError("an adapter without a backbone")
    return partial(disable_adapter, model.backbone)


def _guide_array(result: Segmentation) -> np.ndarray:
    if result.guide is None:
        raise ValueError("the model has a guide but returned none")
    return result.guide.numpy()


def _target(truth: np.ndarray | None, index: int, *, count: int, classes: Sequence[str]) -> np.ndarray | None:
    """The region that a map should mark: its class where each class has a map, else everything but the background."""
    if truth is None:
        return None
    return np.asarray(truth == index + 1) if count == len(classes) - 1 else np.asarray(truth > 0)


def _shrink_target(target: np.ndarray | None) -> np.ndarray | None:
    return None if target is None else thumbnail_labels(target, longest=2 * STORED_SIDE) > 0


def make_accumulators(names: Sequence[str]) -> list[MapScoreAccumulator]:
    """One per map and, where there are several, one of their maximum, "any class"."""
    return [MapScoreAccumulator(name) for name in ([*names, ANY_CLASS] if len(names) > 1 else names)]


def _score_maps(
    accumulators: Sequence[MapScoreAccumulator],
    guide: np.ndarray,
    targets: Sequence[np.ndarray | None],
    truth: np.ndarray | None,
) -> list[MapScore]:
    """Scores of each map and, where there are several, of their maximum, which is the map that gates."""
    values = [*guide, guide.max(axis=0)] if len(guide) > 1 else list(guide)
    regions = [*targets, None if truth is None else truth > 0]
    return [item.score(value, region) for item, value, region in zip(accumulators, values, regions, strict=False)]


def _patch_centre(patch: tuple[int, int], grid: tuple[int, ...], size: tuple[int, ...]) -> tuple[int, int]:
    """Column and row of the pixel in the middle of a patch."""
    return int((patch[1] + 0.5) * size[1] / grid[1]), int((patch[0] + 0.5) * size[0] / grid[0])


@dataclass(frozen=True)
class VisualizationTask:
    """Input and output of a drawing command.

    Attributes:
        files: Images.
        out: Folder of the figures.
        truth: Folder or file of true masks, or None.
        spacing_mm: Width of a pixel, for scale bars.
    """

    files: Sequence[Path]
    out: Path
    truth: Path | None
    spacing_mm: float | None


def for_each_image(files: dict[str, Path], description: str, act: Callable[[str, Path], None]) -> list[str]:
    """Call `act` with each name and path; returns the messages of the images that cannot be read."""
    failed = []
    for name, path in track(files.items(), total=len(files), description=description):
        try:
            act(name, path)
        except DataError as error:
            failed.append(str(error))
            log_info(f"guidino: {error}")
    return failed


def nothing_drawn_error(files: Sequence[Path], failed: Sequence[str]) -> DataError:
    """The error for a task in which every image failed."""
    return DataError(
        f"none of {len(files)} images could be drawn: {join_first(failed, '; ')}" if failed[1:] else failed[0]
    )


def report_outcome(
    task: VisualizationTask, written: Sequence[str], failed: Sequence[str], *, kind: str, more: Sequence[str]
) -> None:
    """Print what was written.

    Raises:
        PartialError: Some images failed.
    """
    extra = f"; beside them {', '.join(more)}" if more else ""
    print(f"{pluralize(len(written), 'picture')} in {task.out} (NAME_{kind}.png){extra}")
    if failed:
        raise PartialError(
            f"{len(failed)} of {pluralize(len(task.files), 'image')} could not be drawn: {join_first(failed, '; ')}"
        )
