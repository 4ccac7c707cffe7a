"""The output files of each image of `predict`: the mask and what is written with it."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from torch import Tensor

from guidino_cli.commands.prediction.jobs import Job, PredictionJob, fold_path
from guidino_cli.commands.prediction.risk import RiskRegions
from guidino_cli.data.cases import read_label_map
from guidino_cli.data.image_writing import write_label_map, write_label_rows, write_png
from guidino_cli.data.postprocess import PostprocessRule, postprocess_labels
from guidino_cli.data.regions import RegionReader
from guidino_cli.engine.prediction.predictor import Segmentation
from guidino_cli.errors import DataError
from guidino_cli.files import write_atomically
from guidino_cli.options.prediction import PredictOptions
from guidino_cli.plots.outlines import add_legend_below, draw_outlines
from guidino_cli.types import width_by_height

GUIDE_LEVELS = 65535
"""Value of 1 in a saved guide, a grey PNG of 16 bits."""
RECORD_FILES = ("predictions.json", "predictions.jsonl", "failed.jsonl")
_ADVICE = "rename one of them, or predict them into another folder"


@dataclass(frozen=True)
class MaskWriter:
    """Writes masks and the outputs that come with them.

    Attributes:
        out: Folder of the masks.
        options: Which outputs are written, each kind in a subfolder, and the values of the masks.
        rules: Post-processing by class index.
        classes: Class names, the background first.
        suffix: Of masks and guides.
        risk: Outer and inner masks to write as well, or None.
    """

    out: Path
    options: PredictOptions
    rules: dict[int, PostprocessRule]
    classes: Sequence[str] = ()
    suffix: str = ".png"
    risk: RiskRegions | None = None

    def mask_path(self, job: Job) -> Path:
        """The mask of an image or a volume; names may contain dots."""
        return self.out / f"{job.name}{self.suffix}"

    def is_written(self, job: Job) -> bool:
        """Whether the mask of an image and all requested outputs beside it exist."""
        return all(path.is_file() for path in self._paths(job))

    def remove(self, job: Job) -> None:
        """Remove the mask of an image and the requested outputs beside it."""
        for path in self._paths(job):
            path.unlink(missing_ok=True)

    def _paths(self, job: Job) -> list[Path]:
        return [self.out / path for path in self._relative_paths(job)]

    def _relative_paths(self, job: Job, *, guide_maps: int = 1) -> list[str]:
        """Paths below the output folder of the mask and requested outputs; of guide maps, all of `guide_maps`."""
        outputs = {
            f"{job.name}{self.suffix}": True,
            f"guides/{job.name}{self.suffix}": self.options.save_guide,
            f"probabilities/{job.name}.npz": self.options.save_probabilities,
            f"overlays/{job.name}.png": self.options.overlay,
        }
        if guide_maps > 1:
            maps = range(1, guide_maps + 1)
            outputs |= {f"guides/class_{index}/{job.name}{self.suffix}": self.options.save_guide for index in maps}
        regions = [] if self.risk is None else self.risk.regions
        outputs |= {f"{region.folder}/{job.name}{self.suffix}": True for region in regions}
        return [path for path, is_requested in outputs.items() if is_requested]

    def _region_paths(self, job: Job, regions: Sequence[np.ndarray]) -> list[tuple[Path, np.ndarray]]:
        """The outer and inner masks with their paths."""
        wanted = () if self.risk is None else self.risk.regions
        paths = [self.out / region.folder / f"{job.name}{self.suffix}" for region in wanted]
        return list(zip(paths, regions, strict=True))

    def write(self, job: PredictionJob, result: Segmentation, regions: Sequence[np.ndarray] = ()) -> bool:
        """Write the outputs of an image; the mask comes last, so that its presence means that all are there.

        Args:
            job: Names them.
            result: Result of the network.
            regions: (H, W) uint8 of each of `risk.regions`, 0 and 1.

        Returns:
            Whether the mask has any foreground.
        """
        labels = postprocess_labels(result.labels, self.rules)
        if self.options.save_guide and result.guide is not None:
            self._write_guide(job, _guide_levels(result.guide), write_png)
        if self.options.save_probabilities and result.probabilities is not None:
            self._write_probabilities(job, result.probabilities.numpy().astype(np.float16))
        if self.options.overlay:
            drawn = add_legend_below(draw_outlines(result.pixels, labels, framed=True), self.classes)
            write_png(self.out / "overlays" / f"{job.name}.png", drawn)
        for path, values in self._region_paths(job, regions):
            write_label_map(path, values * self._factor)
        write_label_map(self.mask_path(job), labels * self._factor)
        return bool(labels.any())

    def read_mask(self, job: Job) -> np.ndarray:
        """Class indices (H, W) of a mask that was written.

        Raises:
            DataError: It is missing or damaged.
        """
        return read_label_map(self.mask_path(job)) // self._factor

    def _write_guide(self, job: Job, maps: np.ndarray, write: Callable[[Path, np.ndarray], None]) -> None:
        """Write the map that gates and, where each class has a map, every map in the folder of its class."""
        folder = self.out / "guides"
        write(folder / f"{job.name}{self.suffix}", maps.max(axis=0))
        if len(maps) > 1:
            for index, class_map in enumerate(maps, start=1):
                write(folder / f"class_{index}" / f"{job.name}{self.suffix}", class_map)

    def _write_probabilities(self, job: Job, content: np.ndarray) -> None:
        write_atomically(
            self.out / "probabilities" / f"{job.name}.npz",
            lambda path: np.savez_compressed(path, probabilities=content),
        )

    def write_rows(self, job: PredictionJob, size_hw: tuple[int, int], rows: Iterable[np.ndarray]) -> None:
        """Write the mask of a large image, (rows, W) uint8 at a time."""

        def scaled() -> Iterator[np.ndarray]:
            for band in rows:
                yield band * self._factor

        write_label_rows(self.mask_path(job), size_hw, scaled())

    def require_only_mask(self, regions: RegionReader) -> None:
        """Refuse outputs that need the whole of an image that is predicted in strips.

        Raises:
            DataError: Something besides the mask is requested.
        """
        requested = {
            "--save-guide": self.options.save_guide,
            "--save-probabilities": self.options.save_probabilities,
            "--overlay": self.options.overlay,
            "--post": bool(self.rules),
            "--risk": self.risk is not None,
        }
        names = [name for name, is_requested in requested.items() if is_requested]
        if names:
            source, size = regions.geometry.source, width_by_height(regions.geometry.shape)
            raise DataError(
                f"{source}: {size} px are predicted in strips to save memory, which does not go with "
                f"{' and '.join(names)}; leave that out, or raise predict.memory_gb with --set"
            )

    def require_distinct_paths(self, jobs: Sequence[Job], *, guide_maps: int) -> None:
        """Refuse images of which one output would replace another, or an input.

        Args:
            jobs: All images.
            guide_maps: Number of maps of the guide.

        Raises:
            DataError: Two outputs have one path, a file would have to be a folder, or an output is an input.
        """
        images = {_real_path(job.image): job.image for job in jobs}
        out = os.path.realpath(self.out)
        owners: dict[str, str] = {fold_path(name): f"the record {name}" for name in RECORD_FILES}
        for job in jobs:
            for path in self._relative_paths(job, guide_maps=guide_maps):
                image = images.get(os.path.join(out, path))
                if image is not None:
                    raise DataError(
                        f"{image}: is an input and would be replaced by an output of {job.image}; {_ADVICE}"
                    )
                other = owners.setdefault(fold_path(path), job.image)
                if other != job.image:
                    raise DataError(f"{other} and {job.image}: both would be written as {path}; {_ADVICE}")
        for job in jobs:
            for folder in PurePosixPath(job.name).parents:
                other = owners.get(fold_path(str(folder)), "")
                if other:
                    raise DataError(f"{other} and {job.image}: {folder} would be a file and a folder; {_ADVICE}")

    @property
    def _factor(self) -> int:
        return 255 if self.options.values == "255" else 1


def _guide_levels(guide: Tensor) -> np.ndarray:
    """(G, H, W) uint16 of a guide in [0, 1]: eight bits would leave a handful of levels of a mean over prototypes."""
    levels = (guide.numpy().clip(0, 1).astype(np.float64) * GUIDE_LEVELS).round()
    return np.asarray(levels.astype(np.uint16))


def _real_path(path: str) -> str:
    folder, name = os.path.split(path)
    return os.path.join(_real_folder(folder), name)


@lru_cache
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)
