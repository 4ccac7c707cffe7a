"""Mean of a value of each case or pair, with its interval by drawing cases."""

from collections.abc import Sequence

import numpy as np

from guidino_cli.evaluation.statistics import bootstrap_means, percentile_interval


def mean_and_interval(values: Sequence[float]) -> list[float | None]:
    """Mean, and both ends of its 95 % interval, which takes two cases or more."""
    column = np.array(values, dtype=np.float64)[:, None]
    if len(values) < 2:
        return [float(column.mean()), None, None]
    low, high = percentile_interval(bootstrap_means(column)[:, 0])
    return [float(column.mean()), low, high]
