"""Compute guide, prediction and scores of each image; results are spooled to disk."""

import pickle
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from guidino_cli.commands.inputs import join_first
from guidino_cli.config import RunConfig
from guidino_cli.data.images import read_image
from guidino_cli.data.preprocess import network_size
from guidino_cli.engine.guides.scores import MapScore, MapScoreAccumulator
from guidino_cli.engine.guides.tokens import analyse_tokens
from guidino_cli.engine.prediction.inference import Window, segment_file
from guidino_cli.errors import DataError, PartialError
from guidino_cli.evaluation.masks import ImageMasks
from guidino_cli.metrics.overlap import mean_dice
from guidino_cli.models.composed import Model
from guidino_cli.plots.panels import thumbnail, thumbnail_labels, thumbnail_map
from guidino_cli.plots.views import GuideMap, GuideView, TokenView
from guidino_cli.progress import log_info, pluralize, track

STORED_SIDE = 640
"""Pixels of the longer side of what is kept of an image: more than a panel shows."""
FOREGROUND, ANY_CLASS = "foreground", "any class"


@dataclass(frozen=True)
class GuidedRun:
    """A model and how it looks at images.

    Attributes:
        model: With a guide, in evaluation mode.
        config: Of its run.
        around: Made anew for each look, such as "without the adapter".
        title: Of its guide in pictures.
    """

    model: Model
    config: RunConfig
    title: str = "guide"
    around: Callable[[], AbstractContextManager[Any]] = nullcontext

    @property
    def window(self) -> Window:
        """Windows as `predict` uses them."""
        data, predict = self.config.data, self.config.predict
        return Window(data.image_size, predict.overlap, predict.mirror, predict.batch_size, predict.mirror_backbone)


@dataclass(frozen=True)
class GuideResult:
    """What was seen in one image.

    Attributes:
        path: The image.
        view: For its figure, the image itself left out and the IoU curves still to be chosen.
        scores: One a map, and "any class" where there are several.
        before: The same of the other guide, if two are compared.
    """

    path: Path
    view: GuideView
    scores: list[MapScore]
    before: list[MapScore]

    def drawn(self, thresholds: Sequence[float]) -> GuideView:
        """The view with its image and the IoU at these thresholds."""
        image = thumbnail(read_image(self.path)[0], longest=2 * STORED_SIDE)
        maps = [
            replace(item, iou=tuple(score.iou_at(value) for value in thresholds))
            for item, score in zip(self.view.maps, self.scores, strict=False)
        ]
        return replace(self.view, image=image, maps=maps)


class GuideVisualizer:
    """Looks at one image after the other and adds up scores; its memory does not grow.

    Args:
        eye: The run that is looked at.
        classes: Its class names, the background first.
        other: A guide to compare with.
        at: Pixel whose patch is compared with the others.
        with_tokens: Look at the tokens too.
        scale: Of the image shown for tokens.
    """

    def __init__(
        self,
        eye: GuidedRun,
        *,
        classes: Sequence[str],
        other: GuidedRun | None = None,
        at: tuple[int, int] | None = None,
        with_tokens: bool = False,
        scale: float = 1.0,
    ) -> None:
        self.eye, self.other, self.classes = eye, other, classes
        self.at, self.with_tokens, self.scale = at, with_tokens, scale
        self.tallies: list[MapScoreAccumulator] = []
        self.tallies_before: list[MapScoreAccumulator] = []
        self.difference = 0.0

    def look(self, path: Path, truths: ImageMasks | None) -> GuideResult:
        """Look at one image.

        Raises:
            DataError: The image or its truth cannot be read.
        """
        with self.eye.around():
            result = segment_file(self.eye.model, path, self.eye.config.data, self.eye.window)
        guide = _guide(result.guide)
        before = None if self.other is None else self._before(path)
        truth = None if truths is None else truths.read(path, size_hw=result.labels.shape)
        tokens = self._tokens(path, result.pixels) if self.with_tokens else ()
        names = guide_map_names(len(guide), self.classes)
        targets = [_target(truth, index, count=len(guide), classes=self.classes) for index in range(len(guide))]
        self.tallies = self.tallies or _tallies(names)
        scores = _scored(self.tallies, guide, targets, truth)
        before_scores: list[MapScore] = []
        if before is not None:
            self.tallies_before = self.tallies_before or _tallies(names)
            before_scores = _scored(self.tallies_before, before, targets, truth)
            self.difference = max(self.difference, float(np.abs(guide - before).max()))
        maps = [
            GuideMap(
                name,
                thumbnail_map(guide[index], longest=STORED_SIDE),
                _small(targets[index]),
                scores[index].auroc,
                before=None if before is None else thumbnail_map(before[index], longest=STORED_SIDE),
                before_auroc=before_scores[index].auroc if before_scores else float("nan"),
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
        return GuideResult(path, view, scores, before_scores)

    def _before(self, path: Path) -> np.ndarray:
        if self.other is None:
            raise ValueError("no other guide")
        with self.other.around():
            return _guide(segment_file(self.other.model, path, self.other.config.data, self.other.window).guide)

    def _tokens(self, path: Path, pixels: np.ndarray) -> tuple[TokenView, ...]:
        """Tokens of the run's backbone on the run's own grid; those of the other guide first."""
        views, at = [], self.at
        for eye in (self.other, self.eye):
            if eye is None or eye.model.backbone is None:
                continue
            data = eye.config.data
            shown = network_size((pixels.shape[0], pixels.shape[1]), resize=data.resize, image_size=data.image_size)
            try:
                with eye.around():
                    seen = analyse_tokens(eye.model.backbone, pixels, at=at, scale=self.scale, shown_hw=shown)
            except DataError as error:
                raise DataError(f"{path}: {error}") from error
            title = "" if self.other is None else eye.title
            views.append(TokenView(seen.components, seen.similarity, seen.patch, seen.explained, title))
            # Both are compared with the same place, also where the salient one differs.
            at = at or _middle(seen.patch, seen.similarity.shape, pixels.shape)
        return tuple(views)


def guide_map_names(count: int, classes: Sequence[str]) -> list[str]:
    """What each of so many guide maps is for."""
    if count == 1:
        return [FOREGROUND]
    return list(classes[1:]) if count == len(classes) - 1 else [f"map {number + 1}" for number in range(count)]


class ResultSpool:
    """Looks on disk, in the order in which they were put there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []

    def put(self, name: str, item: GuideResult) -> None:
        """Keep one."""
        path = self.folder / f"{len(self.names)}.look"
        path.write_bytes(zlib.compress(pickle.dumps(item), 1))
        self.names.append(name)

    def __iter__(self) -> Iterator[tuple[str, GuideResult]]:
        for number, name in enumerate(self.names):
            # Written by this very process a moment ago, so unpickling runs nobody else's code.
            yield name, pickle.loads(zlib.decompress((self.folder / f"{number}.look").read_bytes()))


def without_adapter(model: Model) -> Callable[[], AbstractContextManager[Any]]:
    """Makes contexts in which the adapter of a model's backbone is switched off."""
    from guidino_cli.models.lora import disable_adapter

    if model.backbone is None:
        raise ValueError("an adapter without a backbone")
    return partial(disable_adapter, model.backbone)


def _guide(guide: torch.Tensor | None) -> np.ndarray:
    if guide is None:
        raise ValueError("a model with a guide gave none")
    return guide.numpy()


def _target(truth: np.ndarray | None, index: int, *, count: int, classes: Sequence[str]) -> np.ndarray | None:
    """What a map should mark: its class where there is one map a class, else everything that is not background."""
    if truth is None:
        return None
    return np.asarray(truth == index + 1) if count == len(classes) - 1 else np.asarray(truth > 0)


def _small(target: np.ndarray | None) -> np.ndarray | None:
    return None if target is None else thumbnail_labels(target, longest=2 * STORED_SIDE) > 0


def _tallies(names: Sequence[str]) -> list[MapScoreAccumulator]:
    return [MapScoreAccumulator(name) for name in ([*names, ANY_CLASS] if len(names) > 1 else names)]


def _scored(
    tallies: Sequence[MapScoreAccumulator],
    guide: np.ndarray,
    targets: Sequence[np.ndarray | None],
    truth: np.ndarray | None,
) -> list[MapScore]:
    """Scores of each map, and of the largest of several, which is the one that gates."""
    values = [*guide, guide.max(axis=0)] if len(guide) > 1 else list(guide)
    wanted = [*targets, None if truth is None else truth > 0]
    return [tally.score(value, target) for tally, value, target in zip(tallies, values, wanted, strict=False)]


def _middle(patch: tuple[int, int], grid: tuple[int, ...], size: tuple[int, ...]) -> tuple[int, int]:
    """Column and row of the pixel in the middle of a patch."""
    return int((patch[1] + 0.5) * size[1] / grid[1]), int((patch[0] + 0.5) * size[0] / grid[0])


@dataclass(frozen=True)
class TokenOptions:
    """How to look at tokens; None leaves the choice to the program.

    Attributes:
        backbone: Registered name; "guidino-tiny" by default, "dinov3" with weights. A run has its own.
        weights: Local folder or hub id.
        layer: Block, counted from 1; a run has its own.
        at: "X,Y", the pixel whose patch is compared with the others.
        scale: Enlarges the image first.
        tokens: With a run, draw its tokens even without `at`.
    """

    backbone: str | None = None
    weights: str | None = None
    layer: int | None = None
    at: str | None = None
    scale: float | None = None
    tokens: bool = False


@dataclass(frozen=True)
class DrawingOptions:
    """How pictures look.

    Attributes:
        limits: "all" (colours run over the values of all images), "image" (of each) or "LOW,HIGH".
        spacing_mm: Width of a pixel, for scale bars.
    """

    limits: str = "all"
    spacing_mm: float | None = None


@dataclass(frozen=True)
class VisualizationTask:
    """What is drawn, and where to.

    Attributes:
        files: Images.
        out: Folder of the pictures.
        truth: Where masks are, or None.
    """

    files: Sequence[Path]
    out: Path
    truth: Path | None


def for_each_image(files: dict[str, Path], what: str, act: Callable[[str, Path], None]) -> list[str]:
    """Do something with every image; the messages of those that cannot be read."""
    failed = []
    for name, path in track(files.items(), total=len(files), description=what):
        try:
            act(name, path)
        except DataError as error:
            failed.append(str(error))
            log_info(f"guidino: {error}")
    return failed


def nothing_drawn_error(files: Sequence[Path], failed: Sequence[str]) -> DataError:
    return DataError(f"none of {len(files)} images could be drawn: {join_first(failed)}" if failed[1:] else failed[0])


def report_outcome(
    task: VisualizationTask, written: Sequence[str], failed: Sequence[str], *, kind: str, more: Sequence[str]
) -> None:
    made = len(written)
    beside = f"; beside them {', '.join(more)}" if more else ""
    print(f"{pluralize(made, 'picture')} in {task.out} (NAME_{kind}.png){beside}")
    if failed:
        raise PartialError(
            f"{len(failed)} of {pluralize(len(task.files), 'image')} could not be drawn: {join_first(failed)}"
        )
