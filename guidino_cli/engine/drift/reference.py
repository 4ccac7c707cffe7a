"""Statistics of a run's training images, by which the distance of new images is measured."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save

from guidino_cli.errors import DataError, file_errors
from guidino_cli.files import write_atomically
from guidino_cli.progress import pluralize

DRIFT_FILE = "drift.safetensors"
"""In a run folder."""
COMPONENTS = 80
MIN_IMAGES = 20
"""With fewer held-out images no distance is beyond 95 % of them."""
_FORMAT = "1"
_SMALLEST_SPREAD = 1e-6


@dataclass(frozen=True, eq=False)
class DriftReference:
    """Descriptors of a run's images in a space of few axes, on each of which the training images have variance 1.

    Attributes:
        center: (F,) mean of the descriptors of the training images.
        axes: (k, F); rows are principal components, divided by the spread of the training images.
        training: (n, k) training images.
        held_back: (m, k) images of the same source that the axes were not made of: validation images where there are
            `MIN_IMAGES`, else a third of the training images, which are then not in `training`.
        instrument: SHA-256 of the backbone's weights.
        is_validation: Whether `held_back` are validation images.
    """

    center: np.ndarray
    axes: np.ndarray
    training: np.ndarray
    held_back: np.ndarray
    instrument: str
    is_validation: bool

    @classmethod
    def fit(
        cls, training: np.ndarray, validation: np.ndarray, *, instrument: str, components: int = COMPONENTS
    ) -> DriftReference:
        """Choose the axes and place all images in them.

        Args:
            training: (n, F) descriptors.
            validation: (m, F) descriptors; fewer than `MIN_IMAGES` are taken for training images.
            instrument: See the attribute.
            components: Number of axes at most.

        Raises:
            ValueError: Too few images, or images that are all alike.
        """
        # Numbers that are the same for all images must have a spread of exactly 0.
        training, validation = training.astype(np.float64), validation.astype(np.float64)
        require_enough_images(len(training), len(validation))
        is_validation = len(validation) >= MIN_IMAGES
        if not is_validation:
            training = np.concatenate([training, validation])
            order = np.random.default_rng(0).permutation(len(training))
            held = len(training) // 3
            training, validation = training[order[held:]], training[order[:held]]
        center = training.mean(axis=0)
        spread = np.maximum(training.std(axis=0), _SMALLEST_SPREAD)
        if not (training.std(axis=0) > _SMALLEST_SPREAD).any():
            raise ValueError("images that are all alike")
        _, sizes, directions = np.linalg.svd((training - center) / spread, full_matrices=False)
        rank = int(np.count_nonzero(sizes > _SMALLEST_SPREAD * sizes[0]))
        count = min(components, len(training) // 2, rank)
        scale = np.sqrt(len(training) - 1) / sizes[:count, None]
        axes = (directions[:count] * scale / spread).astype(np.float32)
        center = center.astype(np.float32)
        placed = [((part - center) @ axes.T).astype(np.float32) for part in (training, validation)]
        return cls(center, axes, placed[0], placed[1], instrument, is_validation)

    def place(self, descriptors: np.ndarray) -> np.ndarray:
        """(N, F) descriptors on the axes: (N, k) float32."""
        return ((descriptors - self.center) @ self.axes.T).astype(np.float32)

    def save(self, run: Path) -> None:
        """Write it into a run folder."""
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in _TENSORS}
        facts = {"instrument": self.instrument, "is_validation": self.is_validation}
        metadata = {"format": _FORMAT, "facts": json.dumps(facts)}
        # `save_file` would make a file that other users cannot read.
        write_atomically(run / DRIFT_FILE, lambda part: part.write_bytes(save(tensors, metadata)))

    @classmethod
    def load(cls, run: Path) -> DriftReference:
        """Read that of a run folder.

        Raises:
            DataError: Damaged, or of another format.
        """
        path, again = run / DRIFT_FILE, f"write it again: guidino drift {run} --fit"
        with file_errors(path, "damaged", hint=again), safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise DataError(f"{path}: in format {metadata.get('format')}, expected {_FORMAT}; {again}")
            found = {name: file.get_tensor(name) for name in _TENSORS}
            facts = json.loads(metadata["facts"])
            axes, count = found["axes"], len(found["axes"])
            shapes = [(found["center"].shape, axes.shape[1:])]
            shapes += [(found[name].shape[1:], (count,)) for name in ("training", "held_back")]
            if any(shape != expected for shape, expected in shapes):
                raise ValueError("its shapes do not belong together")
            if not all(np.isfinite(values).all() for values in found.values()):
                raise ValueError("it holds numbers that are not finite")
            return cls(**found, instrument=str(facts["instrument"]), is_validation=bool(facts["is_validation"]))


def require_enough_images(training: int, validation: int) -> None:
    """`ValueError` if so many images are too few for both parts, for the axes and to hold out."""
    total = training + validation
    parts = (training, validation) if validation >= MIN_IMAGES else (total - total // 3, total // 3)
    if min(parts) < MIN_IMAGES:
        raise ValueError(
            f"{pluralize(total, 'image')} (expected {3 * MIN_IMAGES}, or {MIN_IMAGES} of training and {MIN_IMAGES} of "
            "validation)"
        )


_TENSORS = ("center", "axes", "training", "held_back")
