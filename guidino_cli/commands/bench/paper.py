"""Figures that a paper states, beside which a table is read; never computed here."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidino_cli.commands.bench.keys import HINT, read_mapping, read_section, read_text
from guidino_cli.commands.bench.task_options import REGISTRATION_METRICS
from guidino_cli.errors import ConfigError, unknown_name
from guidino_cli.evaluation.probes.scores import METRIC_NAMES
from guidino_cli.metrics import METRICS

_KEYS = ("source", "percent", "figures")
_WEIGHTED = ("precision_weighted", "recall_weighted", "f1_weighted")
PAPER_METRICS = tuple(dict.fromkeys([*METRIC_NAMES, *_WEIGHTED, *METRICS, *REGISTRATION_METRICS]))
# They have a unit and are never given in percent.
_NO_SHARES = {name for name, metric in METRICS.items() if metric.kind in {"distance", "volume", "bits"}}


@dataclass(frozen=True)
class PaperFigures:
    """Figures that others have published; never computed here.

    Attributes:
        source: Paper and table.
        figures: By method, then metric; shares in [0, 1].
    """

    source: str
    figures: Mapping[str, Mapping[str, float]]


def read_paper(value: Any, path: Path, place: str) -> PaperFigures | None:
    """Figures of the section `paper` of a task; None without one.

    Raises:
        ConfigError: An unknown key or metric, or a value that is no number.
    """
    if value is None:
        return None
    content = read_section(value, f"{path}", place, _KEYS)
    for key in ("source", "figures"):
        if not content.get(key):
            raise ConfigError(f"{path}: {place}.{key}: must be given; {HINT}")
    is_percent = content.get("percent", False)
    if not isinstance(is_percent, bool):
        raise ConfigError(f"{path}: {place}.percent: expected true or false, found {is_percent!r:.80}")
    figures = {}
    methods = read_mapping(content["figures"], path, f"{place}.figures", "{DINOv3-S: {auc: 0.8}}")
    for method, own in methods.items():
        where = f"{place}.figures.{method}"
        numbers = read_mapping(own, path, where, "{auc: 0.8}")
        for metric, number in numbers.items():
            if metric not in PAPER_METRICS:
                raise ConfigError(f"{path}: {where}: {unknown_name('metric', metric, PAPER_METRICS)}")
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise ConfigError(f"{path}: {where}.{metric}: expected a number, found {number!r:.80}")
        figures[method] = {
            metric: number / 100 if is_percent and metric not in _NO_SHARES else float(number)
            for metric, number in numbers.items()
        }
    return PaperFigures(read_text(content["source"], path, f"{place}.source"), figures)
