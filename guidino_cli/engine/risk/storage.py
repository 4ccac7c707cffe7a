"""`risk.json` of a run folder: the expected Dice and the bounds that `guidino tune-risk` fitted."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from guidino_cli.engine.prediction.postprocessing import describe_difference
from guidino_cli.engine.prediction.quality import CaseQuality
from guidino_cli.engine.risk.control import RegionBound
from guidino_cli.engine.risk.expected_dice import ExpectedDice
from guidino_cli.engine.risk.regions import Side
from guidino_cli.errors import DataError
from guidino_cli.files import write_text
from guidino_cli.json_files import read_record

FILE_NAME = "risk.json"


@dataclass(frozen=True)
class SideBounds:
    """The bounds of the outer or of the inner masks.

    Attributes:
        field: Column of the data whose values are the groups; "" without groups.
        groups: Group -> class name -> bound; one group "" without groups.
    """

    field: str
    groups: dict[str, dict[str, RegionBound]]

    def threshold(self, name: str, group: str | None, side: Side) -> float:
        """The threshold of a class for a case of a group; the most cautious one of all groups if it is not known."""
        if group is not None and group in self.groups:
            return self.groups[group][name].threshold
        found = [bounds[name].threshold for bounds in self.groups.values()]
        return min(found) if side == "outer" else max(found)


@dataclass(frozen=True)
class FittedRisk:
    """Content of `risk.json`.

    Attributes:
        made_with: Provenance of the masks that it is for, see `LoadedEnsemble.provenance`.
        validation: Data folder of the validation cases.
        sha256: Hash of its manifest.
        cases: Number of validation cases.
        classes: Class names, the background first.
        expected_dice: The regression, None if it was left out.
        left_out: Why, "" if it was not.
        outer: Bounds of the outer masks, or None.
        inner: Bounds of the inner masks, or None.
    """

    made_with: list[dict[str, Any]]
    validation: str
    sha256: str
    cases: int
    classes: list[str]
    expected_dice: ExpectedDice | None = None
    left_out: str = ""
    outer: SideBounds | None = None
    inner: SideBounds | None = None
    format: int = 1

    @property
    def sides(self) -> Mapping[Side, SideBounds]:
        """The bounds that there are."""
        both: dict[Side, SideBounds | None] = {"outer": self.outer, "inner": self.inner}
        return {side: bounds for side, bounds in both.items() if bounds is not None}


def save_risk(run: Path, fitted: FittedRisk) -> Path:
    """Write `risk.json` into a run folder and return its path."""
    path = run / FILE_NAME
    write_text(path, json.dumps(asdict(fitted), indent=2, ensure_ascii=False) + "\n")
    return path


def load_risk(
    run: Path, classes: Sequence[str], *, provenance: Sequence[dict[str, Any]], command: str
) -> FittedRisk | str:
    """The fit of a run, or of an ensemble whose first run it is, or a sentence why there is none.

    Args:
        run: Run folder.
        classes: Class names of the run.
        provenance: `LoadedEnsemble.provenance` of the masks.
        command: The command that fits it for them, for messages.

    Raises:
        DataError: The file is damaged.
    """
    path, again = run / FILE_NAME, f"fit it on validation cases: {command}"
    if not path.is_file():
        return f"nothing was fitted for {run}; {again}"
    fitted = read_record(path, FittedRisk, hint=f"{again}, or delete the file")
    if fitted.format != 1:
        raise DataError(f"{path}: written in format {fitted.format}, this guidino reads 1; {again}")
    if list(fitted.classes) != list(classes):
        return f"{path}: was fitted for the classes {', '.join(fitted.classes)}; {again}"
    difference = describe_difference(fitted.made_with, provenance)
    if difference:
        return f"{path}: was fitted for {difference}; {again}"
    _require_complete(fitted, path, again)
    return fitted


def _require_complete(fitted: FittedRisk, path: Path, again: str) -> None:
    """`DataError` unless every group has a threshold in [0, 1] for every class, and the regression fits together."""
    for side, bounds in fitted.sides.items():
        for group, found in bounds.groups.items():
            if set(found) != set(fitted.classes[1:]) or any(not 0 <= b.threshold <= 1 for b in found.values()):
                raise DataError(
                    f"{path}: damaged ({side}.groups.{group}: not one threshold in 0..1 per class); {again}"
                )
        if not bounds.groups:
            raise DataError(f"{path}: damaged ({side}.groups: is empty); {again}")
    fit = fitted.expected_dice
    if fit is not None:
        known = {item.name for item in fields(CaseQuality)}
        sizes = {len(fit.scores), len(fit.reference), len(fit.weights)}
        if len(sizes) != 1 or not set(fit.scores) <= known or any(not item for item in fit.reference):
            raise DataError(f"{path}: damaged (expected_dice: scores, reference and weights differ); {again}")
