"""Expected Dice of a mask from its scores without truth: a ridge regression on the ranks of validation cases.

Scores of networks are seldom calibrated, but they rank cases; hence each score enters by its rank among the validation
cases, mapped to [-1, 1], and not by its value.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from guidino_cli.engine.prediction.quality import CaseQuality
from guidino_cli.progress import pluralize

MIN_CASES = 20
"""Fewer cases cannot tell the error of the regression from that of a constant."""
_PENALTY = 1.0
"""Ridge penalty: factor of the sum of squared weights, added to the sum of squared errors; scores lie in [-1, 1]."""
_FOLDS = 5


@dataclass(frozen=True)
class ExpectedDice:
    """A fitted regression.

    Attributes:
        scores: Names of the attributes of `CaseQuality` that enter.
        reference: For each of them, its sorted values of the validation cases.
        weights: One for each score.
        intercept: Dice at the middle ranks.
        cases: Number of validation cases.
        mean: Their mean Dice.
        error: Mean absolute error in cross-validation, in five folds that keep groups together.
        error_of_mean: Mean absolute error of the mean Dice of the other folds.
    """

    scores: tuple[str, ...]
    reference: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    intercept: float
    cases: int
    mean: float
    error: float
    error_of_mean: float

    def predict(self, quality: CaseQuality) -> float | None:
        """Expected Dice in [0, 1]; 0 for an empty mask; None if a score that enters is not known."""
        values = _values(quality, self.scores)
        if values is None:
            return None
        if quality.mean_probability == 0:
            return 0.0
        features = _ranks(np.array([values]), [np.array(item) for item in self.reference])
        return float(np.clip(self.intercept + features @ np.array(self.weights), 0, 1)[0])


def fit_expected_dice(
    qualities: Sequence[CaseQuality], dices: Sequence[float], groups: Sequence[str]
) -> ExpectedDice | str:
    """Fit the regression, or say why it is left out.

    Args:
        qualities: Of the masks of validation cases that have foreground in truth.
        dices: True Dice of each.
        groups: Cases of one group (a patient) are never in two folds.

    Returns:
        The regression; or a sentence: too few cases or groups, or an error that is not below that of the mean.
    """
    if len(dices) < MIN_CASES:
        return f"{pluralize(len(dices), 'validation case')} with foreground, expected at least {MIN_CASES}"
    names = tuple(name for name in asdict(qualities[0]) if all(getattr(item, name) is not None for item in qualities))
    values = np.array([_values(item, names) for item in qualities], dtype=float)
    true = np.array(dices, dtype=float)
    places = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    if len(places) < _FOLDS:
        return f"validation cases of {len(places)} groups, expected at least {_FOLDS}"
    folds = np.array([places[group] % _FOLDS for group in groups])
    errors, errors_of_mean = np.zeros(len(true)), np.zeros(len(true))
    for fold in range(_FOLDS):
        rest, held = folds != fold, folds == fold
        references, weights, intercept = _fit(values[rest], true[rest])
        found = np.clip(intercept + _ranks(values[held], references) @ weights, 0, 1)
        # As in `predict`: the mask of a case with foreground is worth nothing if it is empty.
        found[values[held, names.index("mean_probability")] == 0] = 0.0
        errors[held] = np.abs(found - true[held])
        errors_of_mean[held] = np.abs(true[rest].mean() - true[held])
    error, of_mean = float(errors.mean()), float(errors_of_mean.mean())
    if error >= of_mean:
        return f"its error in cross-validation ({error:.3f}) is not below that of the mean Dice ({of_mean:.3f})"
    references, weights, intercept = _fit(values, true)
    return ExpectedDice(
        names,
        tuple(tuple(item.tolist()) for item in references),
        tuple(weights.tolist()),
        float(intercept),
        len(true),
        float(true.mean()),
        error,
        of_mean,
    )


def _values(quality: CaseQuality, names: Sequence[str]) -> list[float] | None:
    found = [getattr(quality, name) for name in names]
    return None if any(item is None for item in found) else found


def _fit(values: np.ndarray, true: np.ndarray) -> tuple[list[np.ndarray], np.ndarray, float]:
    """Sorted values of each score, weights and intercept."""
    references = [np.sort(column) for column in values.T]
    features = _ranks(values, references)
    centre = features.mean(axis=0)
    centred = features - centre
    gram = centred.T @ centred + _PENALTY * np.eye(features.shape[1])
    weights = np.linalg.solve(gram, centred.T @ (true - true.mean()))
    return references, weights, float(true.mean() - centre @ weights)


def _ranks(values: np.ndarray, references: Sequence[np.ndarray]) -> np.ndarray:
    """(N, S) values as ranks in [-1, 1] among the sorted reference values of each score; ties get their middle."""
    columns = [
        (np.searchsorted(reference, column, side="left") + np.searchsorted(reference, column, side="right"))
        / len(reference)
        - 1
        for column, reference in zip(values.T, references, strict=True)
    ]
    return np.stack(columns, axis=1)
