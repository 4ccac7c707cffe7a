"""The files that `predict` writes for one image."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from guidino_cli.commands.prediction.inputs import Job
from guidino_cli.data.images import write_label_map
from guidino_cli.data.png_rows import write_label_rows
from guidino_cli.data.postprocess import Rule, clean
from guidino_cli.data.regions import Regions
from guidino_cli.engine.prediction.inference import Segmented
from guidino_cli.errors import DataError
from guidino_cli.files import write_atomically
from guidino_cli.plots.outlines import draw_outlines


@dataclass(frozen=True)
class Extras:
    """What is written beside the masks, each in a folder of its own."""

    guide: bool = False
    probabilities: bool = False
    overlay: bool = False


@dataclass(frozen=True)
class Output:
    """A folder of masks.

    Attributes:
        out: The folder.
        extras: What is written beside the masks.
        values: "index" or "255".
        rules: Post-processing by class index.
    """

    out: Path
    extras: Extras
    values: str
    rules: dict[int, Rule]

    def mask(self, job: Job) -> Path:
        """Where the mask of an image lies; names may hold dots."""
        return self.out / f"{job.name}.png"

    def is_written(self, job: Job) -> bool:
        """Whether the mask of an image and all that is asked for beside it are there."""
        extras = {
            f"guides/{job.name}.png": self.extras.guide,
            f"probabilities/{job.name}.npz": self.extras.probabilities,
            f"overlays/{job.name}.png": self.extras.overlay,
        }
        asked = [self.mask(job), *(self.out / path for path, is_asked in extras.items() if is_asked)]
        return all(path.is_file() for path in asked)

    def write(self, job: Job, result: Segmented) -> None:
        """Write the extras first: where the mask stands, everything of its image does."""
        labels = clean(result.labels, self.rules)
        if self.extras.guide and result.guide is not None:
            _write_guide(result.guide, self.out / "guides", job.name)
        if self.extras.probabilities:
            content = result.probabilities.numpy().astype(np.float16)
            write_atomically(
                self.out / "probabilities" / f"{job.name}.npz",
                lambda path: np.savez_compressed(path, probabilities=content),
            )
        if self.extras.overlay:
            _save_png(self.out / "overlays" / f"{job.name}.png", draw_outlines(result.pixels, labels, framed=True))
        write_label_map(self.mask(job), labels * self._factor)

    def write_rows(self, job: Job, size_hw: tuple[int, int], rows: Iterable[np.ndarray]) -> None:
        """Write the mask of a large image, (rows, W) uint8 at a time."""

        def scaled() -> Iterator[np.ndarray]:
            for band in rows:
                yield band * self._factor

        write_label_rows(self.mask(job), size_hw, scaled())

    def require_only_mask(self, regions: Regions) -> None:
        """Refuse what needs the whole of an image that is done strip by strip.

        Raises:
            DataError: Something was asked for besides the mask.
        """
        asked = [
            *(["--save-guide"] if self.extras.guide else []),
            *(["--save-probabilities"] if self.extras.probabilities else []),
            *(["--overlay"] if self.extras.overlay else []),
            *(["--post"] if self.rules else []),
        ]
        if asked:
            height, width = regions.size_hw
            raise DataError(
                f"{regions.source}: {width}x{height} px are done in strips for want of memory, which does not go with "
                f"{' and '.join(asked)}; leave that out, or raise predict.memory_gb with --set"
            )

    @property
    def _factor(self) -> int:
        return 255 if self.values == "255" else 1


def _write_guide(guide: Tensor, folder: Path, name: str) -> None:
    """The map that gates, and of several maps, one a class, each in a folder of its class."""
    grey = (guide.numpy() * 255).round().astype(np.uint8)
    _save_png(folder / f"{name}.png", grey.max(axis=0))
    if len(grey) > 1:
        for index, one in enumerate(grey, start=1):
            _save_png(folder / f"class_{index}" / f"{name}.png", one)


def _save_png(path: Path, pixels: np.ndarray) -> None:
    image = Image.fromarray(pixels)
    write_atomically(path, lambda place: image.save(place, compress_level=3))
