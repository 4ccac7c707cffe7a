"""`guidino tune-risk`: fit expected Dice and bounded masks on the validation cases of a run, for `predict`."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from guidino_cli.commands.text_tables import print_table, print_wrapped
from guidino_cli.commands.validation_cases import (
    ValidationCases,
    find_validation_cases,
    load_runs,
    read_labelled_volume,
    require_same_size,
)
from guidino_cli.data.cases import read_truth
from guidino_cli.data.manifest import manifest_sha256
from guidino_cli.data.readers import open_regions, read
from guidino_cli.data.regions import read_size
from guidino_cli.engine.prediction.accumulation import CasePart
from guidino_cli.engine.prediction.ensemble import LoadedEnsemble, ensemble_arguments
from guidino_cli.engine.prediction.predictor import DecodedImage
from guidino_cli.engine.prediction.quality import CaseQuality, QualitySums
from guidino_cli.engine.prediction.volume_ensemble import LoadedVolumeEnsemble
from guidino_cli.engine.risk.control import LOSSES, Loss, RegionBound, cases_needed, control_risk, lowest_level
from guidino_cli.engine.risk.expected_dice import ExpectedDice, fit_expected_dice
from guidino_cli.engine.risk.regions import RegionCurves, Side
from guidino_cli.engine.risk.storage import FittedRisk, SideBounds, load_risk, save_risk
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import ConfigError, DataError, explain_out_of_memory, unknown_name
from guidino_cli.options.prediction import TuneRiskOptions
from guidino_cli.processes import keep_all_freed_memory
from guidino_cli.progress import log_info, pluralize, track
from guidino_cli.types import Case


@dataclass(frozen=True)
class MeasuredCase:
    """A validation case with what the runs say about it.

    Attributes:
        case: The case.
        quality: Scores without truth.
        curves: One for each foreground class.
    """

    case: Case
    quality: CaseQuality
    curves: list[RegionCurves]

    @property
    def dice(self) -> float | None:
        """Mean Dice over the classes in truth; None if there is none."""
        found = [item.dice for item in self.curves if item.true]
        return float(np.mean(found)) if found else None


def run(run_path: Path, options: TuneRiskOptions) -> None:
    """Write RUN/risk.json, for a run or for an ensemble whose first run it is, and print what was fitted.

    Raises:
        ConfigError: A level, loss or group that does not exist.
        DataError: No labelled validation cases, cases that a run was trained on, or too few for the level.
    """
    losses = _parse_losses(options)
    validation = find_validation_cases(run_path, options.data)
    _require_unseen(run_path, options.ensemble or (), validation)
    groups = _groups(validation, options)
    if options.risk is not None:
        _require_enough(groups, options.risk)
    keep_all_freed_memory()
    loaded = load_runs(run_path, options, validation)
    with explain_out_of_memory("lower predict.batch_size and predict.memory_gb with --set"):
        measured = [
            measure_case(loaded, case)
            for case in track(validation.cases, total=len(validation.cases), description="tune-risk")
        ]
    bounds: dict[Side, SideBounds] = {}
    if options.risk is not None:
        for loss in losses:
            bounds[LOSSES[loss][0]] = _fit_bounds(measured, groups, loss, options, loaded.classes)
    expected = _fit_expected(measured)
    path = save_risk(run_path, _join(run_path, options, validation, loaded, expected, bounds))
    _print_result(expected, bounds, options)
    extra = "".join(f" {word}" for word in map(shlex.quote, ensemble_arguments(options.ensemble, options.overrides)))
    flag = " --risk" if bounds else ""
    print(f"written to {path}; used by: guidino predict {run_path} IMAGES -o MASKS{flag}{extra}")


def _parse_losses(options: TuneRiskOptions) -> list[Loss]:
    """The losses of --of.

    Raises:
        ConfigError: An unknown loss, two for one mask, or a level outside of 0..1.
    """
    if options.risk is not None and not 0 < options.risk < 1:
        raise ConfigError(f"--risk {options.risk:g}: expected a share above 0 and below 1, such as 0.1")
    names = [name.strip() for name in options.of.split(",")]
    found: list[Loss] = []
    for name in names:
        known = next((loss for loss in LOSSES if loss == name), None)
        if known is None:
            raise ConfigError(f"--of: {unknown_name('loss', name, LOSSES)}")
        found.append(known)
    if twice := next((loss for loss in found if found.count(loss) > 1), None):
        raise ConfigError(f"--of {options.of}: names {twice} twice; give it once")
    for side in ("outer", "inner"):
        own = [loss for loss in found if LOSSES[loss][0] == side]
        if len(own) > 1:
            raise ConfigError(f"--of {options.of}: names two losses of the {side} mask; give {' or '.join(own)}")
    for name, is_given in (("--group", options.group is not None), ("--of", options.of != TuneRiskOptions.of)):
        if is_given and options.risk is None:
            raise ConfigError(f"{name} is for bounds: add a level, such as --risk 0.1")
    return found


def _require_unseen(run_path: Path, others: Sequence[Path], validation: ValidationCases) -> None:
    """`DataError` if a run was trained on validation cases of the first, as the folds of one data set are."""
    sha256 = manifest_sha256(validation.manifest_path)
    cases = {case.id for case in validation.cases}
    for path in (run_path, *others):
        folder = RunFolder(path)
        if folder.facts()["data"]["sha256"] != sha256:
            continue
        seen = {case.id for case in validation.manifest.select("train", folder.config().data.fold)} & cases
        if seen:
            raise DataError(
                f"{path}: was trained on {len(seen)} of the {len(cases)} validation cases, so errors there tell "
                "nothing of new ones; give cases that no run has seen with --data, or fit each run by itself"
            )


def _groups(validation: ValidationCases, options: TuneRiskOptions) -> dict[str, str]:
    """Group of each case; "" without --group.

    Raises:
        ConfigError: No case has the column.
        DataError: Some cases have no value in it.
    """
    if options.group is None:
        return {case.id: "" for case in validation.cases}
    names = {name for case in validation.cases for name in case.fields}
    if not names:
        raise ConfigError(
            f"--group {options.group}: the validation cases have no columns in {validation.root}; prepare it from a "
            "table that has the column, or leave out --group"
        )
    if options.group not in names:
        raise ConfigError(f"--group: {unknown_name('column', options.group, names)} in {validation.root}")
    found = {case.id: case.fields.get(options.group, "") for case in validation.cases}
    empty = [name for name, group in found.items() if not group]
    if empty:
        raise DataError(
            f"{validation.root}: {pluralize(len(empty), 'validation case')} without {options.group} ({empty[0]}); fill "
            "the column and prepare again, or leave out --group"
        )
    return found


def _require_enough(groups: dict[str, str], risk: float) -> None:
    """`DataError`, before anything is predicted, if there are too few cases whatever their masks hold."""
    for group in sorted(set(groups.values())):
        count, needed = sum(item == group for item in groups.values()), cases_needed(risk)
        if count < needed:
            raise DataError(
                f"--risk {risk:g}: {pluralize(count, 'validation case')}{f' of group {group}' if group else ''}, but a "
                f"level of {risk:g} needs {needed} (1/risk - 1); give more with --data, or a level of "
                f"{lowest_level(count)} or more"
            )


def measure_case(loaded: LoadedEnsemble | LoadedVolumeEnsemble, case: Case) -> MeasuredCase:
    """Predict a labelled case, an image or a volume."""
    quality = QualitySums(len(loaded.classes))
    curves = [RegionCurves(index) for index in range(1, len(loaded.classes))]

    def measure(part: CasePart) -> None:
        quality.add(part)
        rows = slice(part.top, part.top + len(part.labels))
        counted = slice(None) if ignored is None else ~ignored[rows].ravel()
        labels, true = part.labels.ravel()[counted], truth[rows].ravel()[counted]
        for item in curves:
            probability = part.probabilities[item.index].float().cpu().numpy().ravel()[counted]
            item.add(labels, probability, true)

    if isinstance(loaded, LoadedVolumeEnsemble):
        volume, truth, ignored = read_labelled_volume(
            case, channels=len(loaded.channels), onto=loaded.predictor.members[0].preprocessing.onto
        )
        axes = loaded.predictor.axes
        truth, ignored = truth.transpose(axes), None if ignored is None else ignored.transpose(axes)
        loaded.predictor.segment(volume, on_part=measure)
    else:
        size_hw = read_size(case.image)
        truth, ignored = read_truth(case)
        require_same_size(case, truth.shape, size_hw)
        if loaded.needs_strips(size_hw):
            for _ in loaded.predictor.label_rows(open_regions(case.image), on_part=measure):
                pass
        else:
            image = DecodedImage(*read(case.image))
            loaded.predictor.segment([image], keep_probabilities=False, keep_guide=False, on_parts=[measure])
    return MeasuredCase(case, quality.result(), curves)


def _fit_bounds(
    measured: Sequence[MeasuredCase],
    groups: dict[str, str],
    loss: Loss,
    options: TuneRiskOptions,
    classes: Sequence[str],
) -> SideBounds:
    risk = options.risk
    if risk is None:
        raise ValueError("no level")
    found: dict[str, dict[str, RegionBound]] = {}
    for group in sorted(set(groups.values())):
        cases = [item for item in measured if groups[item.case.id] == group]
        where = f" of group {group}" if group else ""
        found[group] = {
            name: control_risk([item.curves[place] for item in cases], loss=loss, risk=risk, what=f"{name}{where}")
            for place, name in enumerate(classes[1:])
        }
    return SideBounds(options.group or "", found)


def _fit_expected(measured: Sequence[MeasuredCase]) -> ExpectedDice | str:
    pairs = [(item, dice) for item in measured for dice in [item.dice] if dice is not None]
    qualities = [item.quality for item, _ in pairs]
    return fit_expected_dice(qualities, [dice for _, dice in pairs], [item.case.group for item, _ in pairs])


def _join(
    run_path: Path,
    options: TuneRiskOptions,
    validation: ValidationCases,
    loaded: LoadedEnsemble | LoadedVolumeEnsemble,
    expected: ExpectedDice | str,
    bounds: dict[Side, SideBounds],
) -> FittedRisk:
    """The new fit, joined with bounds that an earlier call fitted for the same masks on the same cases."""
    new = FittedRisk(
        loaded.provenance,
        str(validation.root),
        manifest_sha256(validation.manifest_path),
        len(validation.cases),
        list(loaded.classes),
        None if isinstance(expected, str) else expected,
        expected if isinstance(expected, str) else "",
        bounds.get("outer"),
        bounds.get("inner"),
    )
    try:
        old = load_risk(run_path, loaded.classes, provenance=loaded.provenance, command="")
    except DataError:
        return new
    if isinstance(old, str) or (old.sha256, old.cases) != (new.sha256, new.cases):
        return new
    for side in old.sides:
        if side not in bounds:
            log_info(f"the bound of the {side} masks that was fitted before is kept")
    return replace(new, outer=new.outer or old.outer, inner=new.inner or old.inner)


def _print_result(expected: ExpectedDice | str, bounds: dict[Side, SideBounds], options: TuneRiskOptions) -> None:
    if isinstance(expected, str):
        print_wrapped(f"expected Dice left out: {expected}")
    else:
        print_wrapped(
            f"expected Dice: error {expected.error:.3f} on {expected.cases} cases (mean absolute, cross-validated); "
            f"their mean Dice, {expected.mean:.3f}, has {expected.error_of_mean:.3f}; from "
            f"{', '.join(name.replace('_', ' ') for name in expected.scores)}"
        )
    if not bounds:
        return
    rows = [
        [
            f"{side}{f', {group}' if group else ''}, {name}",
            str(bound.cases),
            f"{bound.threshold:.3g}",
            f"{bound.loss_of_mask:.3f}",
            f"{bound.loss_of_region:.3f}",
            f"{bound.area_median:.2f}",
            f"{bound.area_pooled:.2f}",
            f"{100 * bound.image_share:.1f} %",
        ]
        for side, item in bounds.items()
        for group, found in item.groups.items()
        for name, bound in found.items()
    ]
    headings = ["mask", "cases", "threshold", "loss before", "with it", "area / true, median", "pooled", "of image"]
    print_table(headings, [("", rows)])
    for side, item in bounds.items():
        first = next(iter(next(iter(item.groups.values())).values()))
        print_wrapped(
            f"{side}: the {LOSSES[first.loss][1]} is at most {first.risk:g} on average over new cases like these and "
            "over such sets of validation cases; a single set may do worse, and one in four did in measurements"
        )
    print_wrapped("cases without the class in the truth are left out; the bounds are for cases that have it")
