"""What a probe classifies: an image, a volume or a bag of tiles, each with its vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from guidino_cli.data.feature_folder import PIXELS, FeatureFolder, FeatureItem
from guidino_cli.data.labelled.items import UNKNOWN
from guidino_cli.errors import DataError
from guidino_cli.progress import pluralize

Pool = Literal["mean", "max"]


@dataclass(frozen=True)
class ProbeSample:
    """A bag of tiles, or an item that stands for itself.

    Attributes:
        id: Name of the bag, or id of the item.
        members: Its items that have vectors; one unless it is a bag.
        labels: See `LabelledItem`.
        group: Patient.
        split: "train", "val", "test" or "".
        fold: Cross-validation fold, if the table has them.
    """

    id: str
    members: tuple[FeatureItem, ...]
    labels: tuple[int, ...]
    group: str
    split: str
    fold: int | None

    @property
    def instance_count(self) -> int:
        """Vectors that it has."""
        return sum(member.count for member in self.members)


@dataclass(frozen=True, eq=False)
class ProbeSamples:
    """Samples of a data set, those that can be used.

    Attributes:
        samples: In the order of items.csv.
        classes: Names of the classes or labels.
        is_multilabel: Whether a sample may have several.
        notes: Messages for the user about samples that were excluded, and why.
    """

    samples: tuple[ProbeSample, ...]
    classes: tuple[str, ...]
    is_multilabel: bool
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labels(self) -> np.ndarray:
        """(N, K) of 0, 1 and -1; of single labels one column holds 1."""
        own = np.array([sample.labels for sample in self.samples])
        if self.is_multilabel:
            return own
        return (own == np.arange(len(self.classes))).astype(np.int64)

    @property
    def groups(self) -> np.ndarray:
        """(N,) names of patients."""
        return np.array([sample.group for sample in self.samples])

    @property
    def are_bags(self) -> bool:
        """Whether some sample has more than one vector."""
        return any(sample.instance_count > 1 for sample in self.samples)


def collect_samples(folder: FeatureFolder) -> ProbeSamples:
    """Samples of a folder of features; those without vectors or without a known label are left out, and counted.

    Raises:
        DataError: None is left.
    """
    members: dict[str, list[FeatureItem]] = {}
    for entry in folder.items:
        members.setdefault(f"bag {entry.item.bag}" if entry.item.bag else f"item {entry.item.id}", []).append(entry)
    samples, without, unknown = [], 0, 0
    for entries in members.values():
        first = entries[0].item
        usable = tuple(entry for entry in entries if entry.count)
        if not usable:
            without += 1
        elif all(label == UNKNOWN for label in first.labels):
            unknown += 1
        else:
            samples.append(
                ProbeSample(first.bag or first.id, usable, first.labels, first.group, first.split, first.fold)
            )
    if not samples:
        raise DataError(f"{folder.path}: no item has both vectors and a known label")
    notes = []
    if without:
        notes.append(f"{pluralize(without, 'sample')} without vectors left out: the files could not be used")
    if unknown:
        notes.append(f"{pluralize(unknown, 'sample')} without a known label left out")
    if lost := sum(entry.count == 0 and bool(entry.item.bag) for entry in folder.items):
        notes.append(f"{pluralize(lost, 'tile')} of bags left out: background, or files that could not be used")
    return ProbeSamples(tuple(samples), folder.classes, folder.is_multilabel, tuple(notes))


def instance_vectors(folder: FeatureFolder, kind: str, sample: ProbeSample) -> np.ndarray:
    """(instances, D) float32 of a sample."""
    rows = np.concatenate([folder.vectors_of(member, kind) for member in sample.members])
    return rows.astype(np.float32)


def pooled_vectors(folder: FeatureFolder, kind: str, samples: Sequence[ProbeSample], pool: Pool) -> np.ndarray:
    """(N, D) float32: the mean or maximum over the vectors of each sample.

    Of grey pictures the pixels are those of one channel: three alike would only change the penalty.
    """
    rows = []
    for sample in samples:
        own = instance_vectors(folder, kind, sample)
        rows.append(own.mean(axis=0) if pool == "mean" else own.max(axis=0))
    vectors = np.stack(rows)
    return first_if_grey(vectors) if kind == PIXELS else vectors


def first_if_grey(vectors: np.ndarray) -> np.ndarray:
    """One channel (N, D / 3) of pixels (N, D) whose three channels are alike, else all."""
    channels = vectors.reshape(len(vectors), 3, -1)
    return channels[:, 0] if (channels == channels[:, :1]).all() else vectors
