"""Leakage that needs no picture: how well the size of an image, or its place among the files, tells its label."""

from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from guidino_cli.evaluation.probes.samples import ProbeSamples
from guidino_cli.evaluation.statistics import percentile_interval
from guidino_cli.metrics.classification import weighted_auc

_SUSPICIOUS = 0.6
_DRAWS = 500


@dataclass(frozen=True)
class SanityScore:
    """AUC of a number that should say nothing.

    Attributes:
        what: "image size", "file index" or "tiles in the bag".
        target: The class.
        auc: The larger of AUC and 1 - AUC, for a leak may point either way; NaN where it is undefined.
        low: Lower end of the 95 % interval, on the same side.
        is_suspicious: Whether AUC exceeds .6 and its interval .5.
    """

    what: str
    target: str
    auc: float
    low: float
    is_suspicious: bool


def check_leakage(data: ProbeSamples, tested: np.ndarray, targets: list[int]) -> list[SanityScore]:
    """Scores of the tested samples; numbers that are alike for all are left out.

    The file index is the place of the file's name among all names, folders left out, which name the class themselves.

    Args:
        data: The samples.
        tested: Positions of those that are tested.
        targets: Columns of the labels.
    """
    names = [_name(sample.members[0].item.path.name, sample.id) for sample in data.samples]
    numbers = {
        "image size": np.array([np.prod(sample.members[0].size_hw) for sample in data.samples], dtype=np.float64),
        "file index": np.argsort(np.argsort(names, kind="stable"), kind="stable").astype(np.float64),
    }
    if data.are_bags:
        numbers["vectors a sample"] = np.array([sample.instance_count for sample in data.samples], dtype=np.float64)
    weights = np.random.default_rng(0).multinomial(len(tested), np.full(len(tested), 1 / len(tested)), size=_DRAWS)
    found = []
    for what, values in numbers.items():
        own = values[tested]
        if (own == own[0]).all():
            continue
        for target in targets:
            labels = data.labels[tested, target]
            known = labels >= 0
            draws = np.concatenate([np.ones((1, len(tested)), np.int64), weights])[:, known]
            aucs = weighted_auc(own[known], labels[known] == 1, draws)
            aucs = 1 - aucs if aucs[0] < 0.5 else aucs
            low, _ = percentile_interval(aucs[1:])
            is_suspicious = bool(aucs[0] > _SUSPICIOUS and low > 0.5)
            found.append(SanityScore(what, data.classes[target], float(aucs[0]), low, is_suspicious))
    return found


def _name(file: str, sample: str) -> str:
    """What the order of files goes by; images of an archive have one file, and their place is in the id."""
    last = PurePosixPath(sample).name
    return last if file.lower().endswith(".npz") else file if last == file else last
