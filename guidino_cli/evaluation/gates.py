"""Quality gates: limits on metrics; one that cannot be measured fails."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from guidino_cli.errors import ConfigError, unknown_name
from guidino_cli.evaluation.summary import MEAN_OF_CLASSES, EvaluationResult, get_score, headline_of
from guidino_cli.evaluation.types import ScoringConfig
from guidino_cli.metrics import METRICS

GateStatistic = Literal["mean", "ci-low", "worst"]


@dataclass(frozen=True)
class Gate:
    """A limit on one metric.

    Attributes:
        metric: Name from `METRICS`; shares must reach the limit, distances and errors must not exceed it.
        limit: In the unit of the metric.
        target: Name of the target; None for the headline.
    """

    metric: str
    limit: float
    target: str | None = None


@dataclass(frozen=True)
class GateResult:
    """Outcome of a gate.

    Attributes:
        name: Name, such as `dice >= 0.85 (mean, polyp)`.
        value: The value that was compared; NaN if there is none.
        passed: Whether the limit holds; False for NaN.
        note: The denominator, or the reason for a missing value.
        is_count: Whether the value is a number of cases or files.
    """

    name: str
    value: float
    passed: bool
    note: str
    is_count: bool = False

    @property
    def sentence(self) -> str:
        """One line for terminal, Markdown and HTML."""
        value = "nothing to compare" if math.isnan(self.value) else f"{self.value:.{0 if self.is_count else 4}f}"
        return f"gate {self.name}: {value} {'pass' if self.passed else 'FAIL'} ({self.note})"


def parse_gate(metric: str, text: str) -> Gate:
    """Parse the value of an option such as `--min-dice`: `0.85`, or `polyp=0.85` for one target.

    Raises:
        ConfigError: The limit is no share in [0, 1], or no distance of 0 or more.
    """
    is_share = METRICS[metric].kind == "share"
    option = f"--{'min' if METRICS[metric].higher_is_better else 'max'}-{metric}"
    target, _, number = text.rpartition("=")
    try:
        limit = float(number)
    except ValueError:
        limit = math.nan
    if not math.isfinite(limit):
        example = "0.85" if is_share else "5"
        raise ConfigError(f"{option} {text}: expected a number such as {example}, or TARGET={example}")
    if is_share:
        require_share(f"{option} {text}", limit)
    elif limit < 0:
        raise ConfigError(f"{option} {text}: expected a distance, 0 or more")
    return Gate(metric, limit, target or None)


def require_share(option: str, value: float, *, percentages_above: float = 5) -> None:
    """Require a share in [0, 1]; a percentage is answered with the share that it means.

    Args:
        option: Option with its value, for the message.
        value: The value.
        percentages_above: A number up to here is a slip, not a percentage: few limits are below 5 %.

    Raises:
        ConfigError: Another number, or NaN.
    """
    if not 0 <= value <= 1:
        hint = f"; did you mean {value / 100:g}?" if percentages_above < value <= 100 else ""
        raise ConfigError(f"{option}: expected a share from 0 to 1{hint}")


def require_targets(gates: Sequence[Gate], config: ScoringConfig) -> None:
    """Require that every gate is about a target that will be scored.

    Raises:
        ConfigError: There is no such target.
    """
    targets = list(dict.fromkeys([*(target.name for target in config.targets), headline_of(config)]))
    for gate in gates:
        if gate.target is not None and gate.target not in targets:
            raise ConfigError(f"gate {gate.metric}: " + unknown_name("target", gate.target, targets))


def check_gates(gates: Sequence[Gate], result: EvaluationResult, on: str) -> list[GateResult]:
    """Compare every gate with the result.

    Args:
        gates: The limits; see `require_targets`.
        result: Contains the metrics of the gates.
        on: "mean"; "ci-low", the worse end of the 95 % interval; or "worst", the worst case.
    """
    return [_evaluate_gate(gate, result, on) for gate in gates]


def _evaluate_gate(gate: Gate, result: EvaluationResult, on: str) -> GateResult:
    metric = METRICS[gate.metric]
    target = gate.target or result.headline
    summary = result.statistics(target, gate.metric)
    value = {
        "mean": summary.mean,
        "ci-low": summary.ci_low if metric.higher_is_better else summary.ci_high,
        "worst": _worst_value(gate.metric, target, result),
    }[on]
    holds = value >= gate.limit if metric.higher_is_better else value <= gate.limit
    sign = ">=" if metric.higher_is_better else "<="
    unit = " cases x classes" if target == MEAN_OF_CLASSES else ""
    note = f"n = {summary.used}/{summary.total}{unit}"
    return GateResult(f"{gate.metric} {sign} {gate.limit:g} ({on}, {target})", value, bool(holds), note)


def _worst_value(metric: str, target: str, result: EvaluationResult) -> float:
    """Worst value of any case; NaN if a case has none, because it might have been worse."""
    targets = [target] if target != result.headline else [item.name for item in result.config.targets]
    scored = [name for name in targets if name not in result.absent]
    values = [get_score(case, name).values[metric] for case in result.cases for name in scored]
    if not values or any(math.isnan(value) for value in values):
        return math.nan
    return min(values) if METRICS[metric].higher_is_better else max(values)
