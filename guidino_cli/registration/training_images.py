"""Images from whose pairs a network learns: any two images of a folder, or the pairs of a table."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from guidino_cli.registration.extraction import CompactFeatures
from guidino_cli.registration.inputs import ReadingRules, RegistrationImage, read_image_pair

CACHE_BYTES = 2**31
"""Of compact features that are held; those of further images are computed anew each time."""


class TrainingImages(ABC):
    """Images by number, and which two of them a step is about."""

    def __init__(self, rules: ReadingRules) -> None:
        self.rules = rules

    @abstractmethod
    def __len__(self) -> int:
        """How many images there are."""

    @abstractmethod
    def read(self, number: int) -> RegistrationImage:
        """An image; `DataError` if it cannot be used."""

    @abstractmethod
    def draw(self, generator: np.random.Generator) -> tuple[int, int]:
        """The numbers of a fixed and a moving image."""


class FolderImages(TrainingImages):
    """Any two images of a folder, all on the grid of the first.

    Args:
        paths: At least two.
        rules: How they are read, and brought to the grid of the first.
    """

    def __init__(self, paths: Sequence[Path], rules: ReadingRules) -> None:
        super().__init__(rules)
        self._paths = list(paths)

    def __len__(self) -> int:
        return len(self._paths)

    def read(self, number: int) -> RegistrationImage:
        """An image on the grid of the first one."""
        return read_image_pair(self._paths[0], self._paths[number], None, None, self.rules).moving

    def draw(self, generator: np.random.Generator) -> tuple[int, int]:
        """Two different images."""
        fixed, moving = generator.choice(len(self), size=2, replace=False).tolist()
        return fixed, moving


class TableImages(TrainingImages):
    """The pairs of a table; images 2k and 2k + 1 are the fixed and the moving one of pair k.

    Args:
        pairs: At least one.
        rules: How they are read, and the moving one brought to the fixed one's grid.
    """

    def __init__(self, pairs: Sequence[tuple[Path, Path]], rules: ReadingRules) -> None:
        super().__init__(rules)
        self._pairs = list(pairs)

    def __len__(self) -> int:
        return 2 * len(self._pairs)

    def read(self, number: int) -> RegistrationImage:
        """An image on the grid of its pair's fixed one."""
        pair = read_image_pair(*self._pairs[number // 2], None, None, self.rules)
        return pair.moving if number % 2 else pair.fixed

    def draw(self, generator: np.random.Generator) -> tuple[int, int]:
        """A pair of the table."""
        number = 2 * int(generator.integers(len(self._pairs)))
        return number, number + 1


class CompactCache:
    """Compact features of training images, held as far as memory allows.

    Args:
        images: Of the training.
        compress: Computes those of an image.
        limit: Bytes that are held.
    """

    def __init__(
        self,
        images: TrainingImages,
        compress: Callable[[RegistrationImage], CompactFeatures],
        *,
        limit: int = CACHE_BYTES,
    ) -> None:
        self._images, self._compress, self._left = images, compress, limit
        self._held: dict[int, CompactFeatures] = {}

    def get(self, number: int) -> CompactFeatures:
        """Those of an image.

        Raises:
            DataError: It cannot be read.
        """
        found = self._held.get(number)
        if found is None:
            found = self._compress(self._images.read(number))
            if found.bytes <= self._left:
                self._left -= found.bytes
                self._held[number] = found
        return found
