"""Which samples a probe learns from, which choose its settings, and which test it; patients are never torn apart."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from guidino_cli.errors import ConfigError, DataError
from guidino_cli.evaluation.probes.samples import ProbeSamples
from guidino_cli.progress import join_first, pluralize

DEFAULT_FOLDS = 5
_INNER_FOLDS = 5
_FEW = 10
"""Positives or negatives below which an AUC says little."""


@dataclass(frozen=True, eq=False)
class Partition:
    """Positions of samples in one run of a probe.

    Attributes:
        name: Such as "test" or "fold 2".
        seed: Of everything drawn in the run.
        train: Positions that are learned from.
        val: Positions that choose settings; empty where the training part has to do so itself.
        test: Positions that are scored.
    """

    name: str
    seed: int
    train: np.ndarray
    val: np.ndarray
    test: np.ndarray


def make_partitions(
    data: ProbeSamples, *, folds: int | None, seeds: Sequence[int], per_class: int | None
) -> tuple[list[Partition], str]:
    """The runs of a probe, and in one sentence where their parts come from.

    The official split is used if there is one: without a test part, val is the test part and settings are chosen within
    train. Else the folds of the table, or folds made here, one round of them a seed.

    Args:
        data: The samples.
        folds: Number of folds to make instead of the split; None as above.
        seeds: Of folds, of draws of the training part, and of solvers.
        per_class: Train on at most as many samples of each class, drawn by the seed.

    Raises:
        ConfigError: More folds than patients, or samples of several labels to be balanced.
        DataError: A part without samples, or a training part with one class.
    """
    splits = np.array([sample.split for sample in data.samples])
    own_folds = np.array([-1 if sample.fold is None else sample.fold for sample in data.samples])
    train, val, test = (np.flatnonzero(splits == name) for name in ("train", "val", "test"))
    if folds is None and train.size and test.size:
        rule = "official split" + ("" if val.size else "; no val part: settings are chosen by folds of train")
        parts = [Partition("test", seed, train, val, test) for seed in seeds]
    elif folds is None and train.size and val.size:
        rule = "no test part: tested on val, which chose nothing; settings are chosen by folds of train"
        parts = [Partition("val", seed, train, val[:0], val) for seed in seeds]
    elif folds is None and (own_folds >= 0).any():
        pool = np.flatnonzero(own_folds >= 0)
        numbers = own_folds[pool]
        rule = f"folds {join_first([str(number) for number in np.unique(numbers)], limit=12)} of the table"
        parts = [part for seed in seeds for part in _folds(pool, numbers, seed)]
    else:
        pool = np.flatnonzero(splits != "test")
        count = folds or DEFAULT_FOLDS
        if not pool.size:
            raise DataError(
                f"all {len(data)} samples are in the test part, so there is nothing to learn from; add a train part to "
                "DATA"
            )
        rule = f"{count} folds by patient, seed {', '.join(map(str, seeds))}"
        rule += "; the test part is not touched" if test.size else ""
        _require_patients(data, pool, count, is_given=folds is not None)
        parts = [part for seed in seeds for part in _folds(pool, deal_folds(data, pool, count, seed), seed)]
    used = np.unique(np.concatenate([np.concatenate([part.train, part.val, part.test]) for part in parts]))
    if unused := int((splits[np.setdiff1d(np.arange(len(data)), used)] == "").sum()):
        rule += f"; {pluralize(unused, 'sample')} without a part left out"
    if per_class is not None:
        parts = [_balance(data, part, per_class) for part in parts]
        rule += f"; at most {per_class} training samples a class, drawn"
    for part in parts:
        _require_learnable(data, part)
    return parts, rule


def deal_folds(data: ProbeSamples, pool: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Fold (len(pool),) of each position of a pool: patients stay together, classes are spread evenly.

    The pool has as many patients as folds, or more.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    groups = data.groups[pool]
    _, strata = np.unique(data.labels[pool], axis=0, return_inverse=True)
    dealer = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    numbers = np.zeros(len(pool), np.int64)
    with warnings.catch_warnings():
        # Rare combinations of labels have fewer members than folds.
        warnings.simplefilter("ignore")
        for number, (_, held) in enumerate(dealer.split(np.zeros(len(pool)), strata.ravel(), groups)):
            numbers[held] = number
    return numbers


def _require_patients(data: ProbeSamples, pool: np.ndarray, count: int, *, is_given: bool) -> None:
    """`ConfigError` for more folds than patients, whether the number was typed or is the default."""
    found = len(np.unique(data.groups[pool]))
    if found >= count:
        return
    what = f"--folds {count}" if is_given else f"{count} folds, the default of data without a split"
    advice = "a probe needs two patients or more" if found < 2 else f"give --folds {found} or less"
    raise ConfigError(f"{what}: there are {pluralize(found, 'patient')} to share out; {advice}")


def inner_folds(data: ProbeSamples, train: np.ndarray, seed: int) -> np.ndarray:
    """Folds of a training part by which settings are chosen; two or more, as many as patients allow up to five."""
    count = min(_INNER_FOLDS, len(np.unique(data.groups[train])))
    if count < 2:
        raise DataError("the training part has one patient only, so nothing can choose the settings; add a val part")
    return deal_folds(data, train, count, seed)


def _folds(pool: np.ndarray, numbers: np.ndarray, seed: int) -> list[Partition]:
    found = np.unique(numbers)
    if len(found) < 2:
        raise DataError(f"the table has fold {found[0]} only, expected two folds or more")
    none = pool[:0]
    return [
        Partition(f"fold {number}", seed, pool[numbers != number], none, pool[numbers == number]) for number in found
    ]


def _balance(data: ProbeSamples, part: Partition, count: int) -> Partition:
    if data.is_multilabel:
        raise ConfigError("--per-class: an image of this data set may have several classes; leave it out")
    generator = np.random.default_rng(part.seed)
    labels = data.labels[part.train].argmax(axis=1)
    drawn = [
        generator.permutation(part.train[labels == number])[:count] for number in range(len(data.classes))
    ]  # fmt: skip
    return Partition(part.name, part.seed, np.sort(np.concatenate(drawn)), part.val, part.test)


def _require_learnable(data: ProbeSamples, part: Partition) -> None:
    # Of a split there is one run, whose name would say nothing.
    where = f"{part.name}: " if part.name.startswith("fold") else ""
    for name, places in (("training part", part.train), ("test part", part.test)):
        if not places.size:
            raise DataError(f"{where}the {name} has no samples")
    labels = data.labels[part.train]
    varied = [(labels[:, number] == 1).any() and (labels[:, number] == 0).any() for number in range(labels.shape[1])]
    if not any(varied):
        found = [name for name, column in zip(data.classes, labels.T, strict=True) if (column == 1).any()]
        raise DataError(
            f"{where}the training part has one class only ({join_first(found) or 'no label varies'}); a probe needs two"
        )


def describe_missing(data: ProbeSamples, parts: Sequence[Partition]) -> list[str]:
    """Notes on classes whose AUC is undefined in some run, without positives or negatives, or rests on very few."""
    notes = []
    for number, name in enumerate(data.classes):
        lacking = [
            part.name
            for part in parts
            if not {0, 1} <= set(data.labels[part.test, number].tolist())
        ]  # fmt: skip
        if lacking:
            where = join_first(list(dict.fromkeys(lacking)))
            notes.append(f"{name}: no positive or no negative in {where}; its AUC is undefined there and left out")
        tested = data.labels[np.unique(np.concatenate([part.test for part in parts])), number]
        for value, what in ((1, "positive"), (0, "negative")):
            count = int((tested == value).sum())
            if 0 < count < _FEW:
                notes.append(f"{name}: only {pluralize(count, what)} tested, on which its AUC rests")
    return notes
