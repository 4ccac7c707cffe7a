"""`predict --risk`: the outer and inner masks of each case, cut at thresholds that `guidino tune-risk` fitted."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidino_cli.data.manifest import is_prepared, load_manifest
from guidino_cli.engine.prediction.ensemble import ensemble_arguments
from guidino_cli.engine.risk.control import LOSSES
from guidino_cli.engine.risk.regions import Side
from guidino_cli.engine.risk.storage import FittedRisk, load_risk
from guidino_cli.errors import ConfigError
from guidino_cli.options.prediction import PredictOptions
from guidino_cli.progress import log_info, log_warning, pluralize


@dataclass(frozen=True)
class RiskRegion:
    """An outer or inner mask that is to be written.

    Attributes:
        index: Index of its class.
        side: Which of the two.
        folder: Folder of the masks, below the output folder.
    """

    index: int
    side: Side
    folder: str


@dataclass(frozen=True)
class RiskRegions:
    """The outer and inner masks of all cases.

    Attributes:
        fitted: Their thresholds.
        groups: Case -> group, of the cases whose group is known.
    """

    fitted: FittedRisk
    groups: dict[str, str]

    @property
    def regions(self) -> list[RiskRegion]:
        """One for each side and foreground class; with several classes each has a folder, since outer masks overlap."""
        count = len(self.fitted.classes) - 1
        return [
            RiskRegion(index, side, side if count == 1 else f"{side}/class_{index}")
            for side in self.fitted.sides
            for index in range(1, count + 1)
        ]

    def thresholds(self, name: str) -> list[tuple[int, float, Side]]:
        """Class index, threshold and side of each region of a case."""
        return [(item.index, self._threshold(item, self.groups.get(name)), item.side) for item in self.regions]

    def _threshold(self, region: RiskRegion, group: str | None) -> float:
        return self.fitted.sides[region.side].threshold(self.fitted.classes[region.index], group, region.side)

    @property
    def record(self) -> dict[str, Any]:
        """Thresholds by side, group and class, for the summary."""
        return {
            side: {
                group: {name: bound.threshold for name, bound in found.items()}
                for group, found in bounds.groups.items()
            }
            for side, bounds in self.fitted.sides.items()
        }


def find_fitted(
    run_path: Path, options: PredictOptions, classes: Sequence[str], provenance: Sequence[dict[str, Any]]
) -> FittedRisk | str:
    """The fit of `guidino tune-risk` for these runs and settings, or the reason why there is none."""
    command = shlex.join(
        ["guidino", "tune-risk", str(run_path), *ensemble_arguments(options.ensemble, options.overrides)]
    )
    return load_risk(run_path, classes, provenance=provenance, command=command)


def choose_regions(fitted: FittedRisk | str, options: PredictOptions, places: Sequence[Path]) -> RiskRegions | None:
    """The regions of `--risk`, or None without it.

    Raises:
        ConfigError: Nothing applies, or only the expected Dice was fitted.
    """
    if not options.risk:
        return None
    if isinstance(fitted, str):
        raise ConfigError(f"--risk: {fitted} --risk 0.1")
    if not fitted.sides:
        raise ConfigError("--risk: only the expected Dice was fitted; add bounds: guidino tune-risk RUN --risk 0.1")
    fields = {side: bounds.field for side, bounds in fitted.sides.items() if bounds.field}
    if len(set(fields.values())) > 1:
        raise ConfigError(
            f"--risk: outer masks were fitted by {fields['outer']}, inner ones by {fields['inner']}; fit both by one "
            "column: guidino tune-risk RUN --risk 0.1 --group FIELD"
        )
    for side, bounds in fitted.sides.items():
        first = next(iter(next(iter(bounds.groups.values())).values()))
        log_info(
            f"{side}/: {side} masks; the {LOSSES[first.loss][1]} is at most {first.risk:g} on average over cases like "
            f"the {pluralize(fitted.cases, 'validation case')} and over such sets of them, not in every image"
        )
    column = next(iter(fields.values()), "")
    groups = _find_groups(column, places, options.split) if column else {}
    if column:
        known = {group for bounds in fitted.sides.values() for group in bounds.groups}
        strange = sorted(set(groups.values()) - known)
        if strange:
            log_warning(f"{column} {', '.join(strange[:3])}: not among the validation cases, so no bound holds there")
        if not groups:
            log_info(f"the {column} of the images is not known: each gets the most cautious of the thresholds")
    return RiskRegions(fitted, groups)


def _find_groups(column: str, places: Sequence[Path], split: str) -> dict[str, str]:
    """Value of a column of each case of prepared folders that has it."""
    found = {}
    for place in places:
        if is_prepared(place):
            for case in load_manifest(place).cases:
                if case.fields.get(column) and split in {"all", case.split}:
                    found[case.id] = case.fields[column]
    return found
