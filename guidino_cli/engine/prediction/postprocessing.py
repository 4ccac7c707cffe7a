"""Which post-processing helps a run: chosen on validation cases, kept in the run's folder."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from guidino_cli.data.postprocess import PostprocessRule, postprocess_class
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import write_text
from guidino_cli.metrics.overlap import confusion_counts, dice
from guidino_cli.progress import pluralize

FILE_NAME = "post.json"
CANDIDATES = [
    PostprocessRule(share, largest, fill)
    for share, largest, fill in product((0.0, 0.0005, 0.002, 0.005), (False, True), (False, True))
    if share or largest or fill
]
_ALPHA = 0.05


@dataclass(frozen=True)
class SelectedRule:
    """What was found for one class.

    Attributes:
        rule: To apply; one that does nothing if none helps.
        before: Mean Dice without.
        after: Mean Dice with the rule.
        p: Of a one-sided Wilcoxon signed-rank test of the best candidate, times the number of candidates.
        best: The candidate with the highest mean Dice, chosen or not.
        best_after: Its mean Dice.
        cases: Validation cases.
    """

    rule: PostprocessRule
    before: float
    after: float
    p: float
    best: PostprocessRule
    best_after: float
    cases: int


class RuleSelector:
    """Dice of every candidate for one class, case by case; masks need not be kept."""

    def __init__(self) -> None:
        self.before: list[float] = []
        self.after: list[list[float]] = []

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        """Try the candidates on a case: boolean masks (H, W). Both empty counts as 1."""
        self.before.append(_dice(predicted, true))
        self.after.append([_dice(postprocess_class(predicted, rule), true) for rule in CANDIDATES])

    def choose(self) -> SelectedRule:
        """The best candidate if it is better than nothing beyond chance, else the rule that does nothing.

        The candidate is picked and tested on the same cases, so its p-value is multiplied by the number of candidates.
        """
        before, after = np.array(self.before), np.array(self.after)
        means = after.mean(axis=0)
        # Of equally good ones the first, which is the simplest.
        best = int(means.round(6).argmax())
        p = min(1.0, len(CANDIDATES) * _p_value(after[:, best] - before))
        helps = means[best] > before.mean() and p < _ALPHA
        rule, mean = (CANDIDATES[best], means[best]) if helps else (PostprocessRule(), before.mean())
        return SelectedRule(
            rule, float(before.mean()), float(mean), p, CANDIDATES[best], float(means[best]), len(self.before)
        )


def _dice(predicted: np.ndarray, true: np.ndarray) -> float:
    value = dice(confusion_counts(predicted, true))
    return 1.0 if np.isnan(value) else value


def _p_value(gains: np.ndarray) -> float:
    """That gains as large come by chance; 1 if there are none."""
    from scipy.stats import wilcoxon

    if not (np.abs(gains) > 1e-9).any():
        return 1.0
    return float(wilcoxon(gains, alternative="greater").pvalue)


def save_rules(
    run: Path, choices: dict[str, SelectedRule], *, provenance: Sequence[dict[str, Any]], evidence: dict[str, Any]
) -> Path:
    """Write `post.json` into a run's folder and return its path.

    Args:
        run: The first of an ensemble.
        choices: By class.
        provenance: `LoadedEnsemble.provenance` of the masks that were tried.
        evidence: On what was chosen, for people.
    """
    content = {
        "format": 2,
        "made_with": list(provenance),
        **evidence,
        "classes": {name: asdict(choice) for name, choice in choices.items()},
    }
    write_text(run / FILE_NAME, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return run / FILE_NAME


def load_rules(
    run: Path, classes: Sequence[str], *, provenance: Sequence[dict[str, Any]], command: str
) -> dict[int, PostprocessRule]:
    """The rules chosen for a run, or for an ensemble that it is the first of, by class index.

    Args:
        run: Whose folder holds the choice.
        classes: Of the run.
        provenance: `LoadedEnsemble.provenance` of the masks that are to be cleaned.
        command: What chooses rules for just these.

    Raises:
        ConfigError: None were chosen, or for masks made otherwise.
        DataError: The file is damaged.
    """
    path = run / FILE_NAME
    again = f"choose on the validation cases: {command}"
    if not path.is_file():
        raise ConfigError(f"--post auto: nothing was chosen for {run}; {again}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        difference = _difference(content["made_with"], provenance)
        rules = {classes.index(name): PostprocessRule(**item["rule"]) for name, item in content["classes"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); {again}") from error
    if difference:
        raise ConfigError(f"{path}: was chosen for {difference}; {again}")
    return {index: rule for index, rule in rules.items() if rule != PostprocessRule()}


def _difference(before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> str:
    """The first of what differs between two makings, whatever the order of the runs; "" if nothing."""
    if len(before) != len(now):
        return f"the masks of {pluralize(len(before), 'run')}, these are of {len(now)}"
    ordered = [sorted(making, key=lambda item: item["weights"]) for making in (before, now)]
    pairs = list(zip(*ordered, strict=True))
    if any(old["weights"] != new["weights"] for old, new in pairs):
        return "other weights"
    for old, new in pairs:
        for key in new:
            if old[key] != new[key]:
                return f"predict.{key}={json.dumps(old[key])}, now it is {json.dumps(new[key])}"
    return ""


def describe_rules(rules: Iterable[tuple[str, PostprocessRule]]) -> str:
    """`polyp largest,fill; tool none`."""
    return "; ".join(f"{name} {rule}" for name, rule in rules) or "none"
