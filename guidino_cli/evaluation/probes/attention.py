"""ABMIL over all features and runs, and the attention of tested bags as a table."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from guidino_cli.data.feature_folder import PIXELS, FeatureItem
from guidino_cli.data.labelled.pictures import slice_in_volume
from guidino_cli.evaluation.probes.bags import BagProblem, solve_bags
from guidino_cli.evaluation.probes.parts import Partition
from guidino_cli.evaluation.probes.rows import FeatureSource, ProbeRow, inner_of, make_row
from guidino_cli.evaluation.probes.samples import ProbeSample, ProbeSamples, first_if_grey, instance_vectors
from guidino_cli.evaluation.probes.scores import ProbeScorer

ABMIL = "abmil"


def run_bags(
    sources: Sequence[FeatureSource],
    data: ProbeSamples,
    partitions: Sequence[Partition],
    *,
    scorer: ProbeScorer,
    epochs: int,
    threshold: str,
    on_epoch: Callable[[], None],
) -> list[ProbeRow]:
    """Train on the bags of each kind of features, in every run."""
    labels = data.labels
    rows = []
    for source in sources:
        bags = _bags(source, data)
        fits, attention = [], []
        for part in partitions:
            train, val = part.train, part.val
            if not val.size:
                inner = inner_of(data, part)
                train, val = part.train[inner != inner.min()], part.train[inner == inner.min()]
            fit, weights = solve_bags(
                BagProblem(
                    [bags[place] for place in train], labels[train], [bags[place] for place in val], labels[val],
                    [bags[place] for place in part.test], data.is_multilabel, part.seed, epochs,
                ),
                on_epoch,
            )  # fmt: skip
            fits.append(fit)
            attention.append(weights)
        row = make_row(
            source, ABMIL, partitions, fits, data=data, scorer=scorer, threshold=threshold, attention=attention
        )
        rows.append(row)
    return rows


def _bags(source: FeatureSource, data: ProbeSamples) -> list[np.ndarray]:
    bags = [instance_vectors(source.folder, source.kind, sample) for sample in data.samples]
    if source.kind != PIXELS:
        return bags
    cuts = np.cumsum([len(bag) for bag in bags])[:-1]
    return np.split(first_if_grey(np.concatenate(bags)), cuts)


def mean_attention(row: ProbeRow) -> dict[int, np.ndarray]:
    """Attention (n,) of each tested bag by its position, the mean over the runs that tested it."""
    found: dict[int, list[np.ndarray]] = {}
    for run, weights in zip(row.runs, row.attention, strict=True):
        for place, own in zip(run.partition.test.tolist(), weights, strict=True):
            found.setdefault(place, []).append(own)
    return {place: np.mean(parts, axis=0) for place, parts in found.items()}


def instances_of(sample: ProbeSample) -> Iterator[tuple[FeatureItem, int]]:
    """Each vector of a sample: its item, and its number among the item's, such as that of a slice."""
    for member in sample.members:
        for number in range(member.count):
            yield member, number


def attention_rows(row: ProbeRow, data: ProbeSamples) -> Iterator[list[str]]:
    """Rows of attention.csv: the slice by its number in the volume, the rank in the bag, 1 the highest attention."""
    every = int(row.source.folder.about["settings"]["every"])
    for place, weights in mean_attention(row).items():
        sample = data.samples[place]
        ranks = np.argsort(np.argsort(-weights, kind="stable"), kind="stable") + 1
        for (member, number), weight, rank in zip(instances_of(sample), weights, ranks, strict=True):
            place_in_volume = slice_in_volume(number, member.count, every)
            shown = "" if place_in_volume is None else str(place_in_volume)
            yield [row.source.name, sample.id, member.item.id, shown, f"{weight:.6g}", str(rank)]


ATTENTION_HEADINGS = ("features", "bag", "instance", "slice", "attention", "rank")
