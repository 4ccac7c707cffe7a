"""From cases to a summary: mean over cases for each target, then the mean over the targets."""

from dataclasses import replace
from math import isnan, nan

import numpy as np

from guidino_cli.errors import DataError
from guidino_cli.evaluation.result import MEAN, Evaluation, Line, score_of
from guidino_cli.evaluation.scores import CaseResult, Job
from guidino_cli.evaluation.statistics import Summary, bootstrap, interval, summarise
from guidino_cli.metrics.overlap import Counts


def sum_up(
    job: Job,
    cases: list[CaseResult],
    *,
    seed: int,
    groups: list[str] | None = None,
    strata: list[str] | None = None,
) -> Evaluation:
    """Aggregate: mean over cases for each target, then the mean over the targets.

    Raises:
        DataError: No truth could be read, or some distances are in mm and others in px.
    """
    readable = [case for case in cases if case.shape is not None]
    if not readable:
        raise DataError(f"no truth can be read; the first: {cases[0].note}")
    units = {case.unit for case in readable}
    if len(units) > 1:
        raise DataError("some masks have a voxel size in mm and some have none; give --spacing or score them apart")
    absent = [name for name in (target.name for target in job.targets) if _is_absent(name, cases)]
    lines = _lines(job, cases, absent, seed=seed, groups=groups)
    pooled = {target.name: _pool(target.name, cases) for target in job.targets}
    parts = {}
    for name in sorted(set(strata or [])):
        inside = [index for index, value in enumerate(strata or []) if value == name]
        of_groups = None if groups is None else [groups[index] for index in inside]
        parts[name] = _lines(job, [cases[index] for index in inside], absent, seed=seed, groups=of_groups)
    return Evaluation(job, cases, lines, pooled, units.pop(), absent, parts, len(set(groups or [])))


def _lines(job: Job, cases: list[CaseResult], absent: list[str], *, seed: int, groups: list[str] | None) -> list[Line]:
    targets = [target.name for target in job.targets]
    lines: list[Line] = []
    averages: dict[str, list[Line]] = {name: [] for name in job.metrics}
    draws: dict[str, list[np.ndarray]] = {name: [] for name in job.metrics}
    for target in targets:
        table = np.array([[score_of(case, target).values[name] for name in job.metrics] for case in cases])
        if target in absent:
            table = np.full_like(table, nan)
        means = bootstrap(table, groups, seed=seed)
        for place, name in enumerate(job.metrics):
            ends = interval(means[:, place]) if np.count_nonzero(~np.isnan(table[:, place])) > 1 else (nan, nan)
            lines.append(Line(target, name, summarise(table[:, place], ends)))
            averages[name].append(lines[-1])
            draws[name].append(means[:, place])
    if len(targets) > 1:
        lines += [Line(MEAN, name, _mean_of_means(averages[name], draws[name])) for name in job.metrics]
    return lines


def _mean_of_means(lines: list[Line], draws: list[np.ndarray]) -> Summary:
    """Every class weighs the same, however many cases have it; classes without any figure are left out."""
    kept = [index for index, line in enumerate(lines) if line.summary.used]
    total, used = sum(line.summary.total for line in lines), sum(line.summary.used for line in lines)
    if not kept:
        return Summary(total, 0, *(nan,) * 9)
    mean = float(np.mean([lines[index].summary.mean for index in kept]))
    # The same seed drew the same cases for every class, so the draws may be averaged one by one.
    has_interval = not any(isnan(lines[index].summary.ci_low) for index in kept)
    low, high = interval(np.mean([draws[index] for index in kept], axis=0)) if has_interval else (nan, nan)
    return replace(Summary(total, used, *(nan,) * 9), mean=mean, ci_low=low, ci_high=high)


def _is_absent(target: str, cases: list[CaseResult]) -> bool:
    counts = [score_of(case, target).counts for case in cases]
    return all(item is None or item.predicted == item.true == 0 for item in counts)


def _pool(target: str, cases: list[CaseResult]) -> Counts:
    known = [counts for case in cases if (counts := score_of(case, target).counts) is not None]
    return Counts(*(sum(getattr(item, name) for item in known) for name in ("tp", "fp", "fn", "tn")))
