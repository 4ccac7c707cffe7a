"""Selection of post-processing rules on validation cases, and `post.json` in the run folder that stores them."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import TypedDict

from guidino_cli.data.postprocess import PostprocessRule, postprocess_class
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import write_text
from guidino_cli.json_files import read_json_object, require_type
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
    """The result of the selection for one class.

    Attributes:
        rule: The rule to apply; one that does nothing if none helps.
        before: Mean Dice without post-processing.
        after: Mean Dice with the rule.
        p: P-value of a one-sided Wilcoxon signed-rank test of the best candidate, Bonferroni-corrected.
        best: The candidate with the highest mean Dice, selected or not.
        best_after: Its mean Dice.
        cases: Number of validation cases.
    """

    rule: PostprocessRule
    before: float
    after: float
    p: float
    best: PostprocessRule
    best_after: float
    cases: int


class RuleSelector:
    """Scores every candidate rule for one class, case by case, without keeping masks."""

    def __init__(self) -> None:
        self.before: list[float] = []
        self.after: list[list[float]] = []

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        """Score the candidates on a case: boolean masks (H, W). The Dice of two empty masks is 1."""
        self.before.append(dice_of_case(predicted, true))
        self.after.append([dice_of_case(postprocess_class(predicted, rule), true) for rule in CANDIDATES])

    def select(self) -> SelectedRule:
        """Select the best candidate if it helps significantly, else the rule that does nothing.

        The p-value is multiplied by the number of candidates, because selection and test use the same cases.
        """
        before, after = np.array(self.before), np.array(self.after)
        means = after.mean(axis=0)
        # The first of equally good candidates is the simplest.
        best = int(means.round(6).argmax())
        p = min(1.0, len(CANDIDATES) * _p_value(after[:, best] - before))
        helps = means[best] > before.mean() and p < _ALPHA
        rule, mean = (CANDIDATES[best], means[best]) if helps else (PostprocessRule(), before.mean())
        return SelectedRule(
            rule, float(before.mean()), float(mean), p, CANDIDATES[best], float(means[best]), len(self.before)
        )


def dice_of_case(predicted: np.ndarray, true: np.ndarray) -> float:
    """Dice of two boolean masks; 1 if both are empty."""
    value = dice(confusion_counts(predicted, true))
    return 1.0 if np.isnan(value) else value


def _p_value(gains: np.ndarray) -> float:
    """P-value of gains as large as these under the null hypothesis; 1 if all are 0."""
    from scipy.stats import wilcoxon

    if not (np.abs(gains) > 1e-9).any():
        return 1.0
    return float(wilcoxon(gains, alternative="greater").pvalue)


class _RuleEntry(TypedDict):
    rule: dict[str, Any]


class _RulesFile(TypedDict):
    """Entries of `post.json` that are read again."""

    made_with: list[dict[str, Any]]
    classes: dict[str, _RuleEntry]


def save_rules(
    run: Path, rules: dict[str, SelectedRule], *, provenance: Sequence[dict[str, Any]], evidence: dict[str, Any]
) -> Path:
    """Write `post.json` into a run folder and return its path.

    Args:
        run: The run, or the first one of an ensemble.
        rules: Selected rules by class.
        provenance: `LoadedEnsemble.provenance` of the masks that the rules were selected on.
        evidence: Further entries about the selection, for readers.
    """
    content = {
        "format": 2,
        "made_with": list(provenance),
        **evidence,
        "classes": {name: asdict(rule) for name, rule in rules.items()},
    }
    write_text(run / FILE_NAME, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return run / FILE_NAME


def load_rules(
    run: Path, classes: Sequence[str], *, provenance: Sequence[dict[str, Any]], command: str
) -> dict[int, PostprocessRule]:
    """Load the rules by class index that were selected for a run, or for an ensemble whose first run it is.

    Args:
        run: Run folder.
        classes: Class names of the run.
        provenance: `LoadedEnsemble.provenance` of the masks to be post-processed.
        command: The command that selects rules for them, for messages.

    Raises:
        ConfigError: No rules were selected, or only for masks of other provenance.
        DataError: The file is damaged.
    """
    path = run / FILE_NAME
    again = f"choose on the validation cases: {command}"
    if not path.is_file():
        raise ConfigError(f"--post auto: nothing was chosen for {run}; {again}")
    content = require_type(read_json_object(path, hint=again), _RulesFile, source=path, hint=again)
    unknown = sorted(content["classes"].keys() - set(classes))
    if unknown:
        raise DataError(f"{path}: has rules for {unknown[0]}, which the run does not segment; {again}")
    rules = {
        classes.index(name): require_type(
            item["rule"], PostprocessRule, source=path, hint=again, what=f"classes.{name}"
        )
        for name, item in content["classes"].items()
    }
    difference = describe_difference(content["made_with"], provenance)
    if difference:
        raise ConfigError(f"{path}: was chosen for {difference}; {again}")
    return {index: rule for index, rule in rules.items() if rule != PostprocessRule()}


def describe_difference(before: Sequence[dict[str, Any]], now: Sequence[dict[str, Any]]) -> str:
    """Describe the first difference between two provenances, whatever the order of the runs; "" if there is none."""
    if len(before) != len(now):
        return f"the masks of {pluralize(len(before), 'run')}, these are of {len(now)}"
    ordered = [sorted(runs, key=lambda item: str(item.get("weights"))) for runs in (before, now)]
    pairs = list(zip(*ordered, strict=True))
    if any(old.get("weights") != new["weights"] for old, new in pairs):
        return "other weights"
    for old, new in pairs:
        # A precision that is not recorded is the full one.
        found, wanted = ({"precision": "no", **item} for item in (old, new))
        for key in wanted:
            if found.get(key) != wanted[key]:
                return f"predict.{key}={json.dumps(found.get(key))}, now it is {json.dumps(wanted[key])}"
    return ""


def describe_rules(rules: Iterable[tuple[str, PostprocessRule]]) -> str:
    """Format rules by class: `polyp largest,fill; tool none`."""
    return "; ".join(f"{name} {rule}" for name, rule in rules) or "none"
