"""Gates at their boundaries, and what must not pass a comparison with an earlier report."""

import json
from math import inf, isnan, nan
from pathlib import Path
from typing import Any

import pytest

from guidino_cli.errors import ConfigError, DataError
from guidino_cli.evaluation.baseline import check_baseline, load_baseline, scoring_settings
from guidino_cli.evaluation.cases import Pair, Truth
from guidino_cli.evaluation.gates import Gate, GateResult, check_gates, parse_gate, require_targets
from guidino_cli.evaluation.masks import index_reader
from guidino_cli.evaluation.summary import EvaluationResult, aggregate
from guidino_cli.evaluation.types import CaseResult, Policy, Score, ScoringConfig, Target, get_policy
from guidino_cli.metrics.overlap import ConfusionCounts
from guidino_cli.options.evaluation import ScoringOptions

METRICS = ("dice", "hd95")
ABSENT = object()


def result(
    *cases: dict[str, tuple[float, float]], policy: str = "guidino", metrics: tuple[str, ...] = METRICS, **options: Any
) -> EvaluationResult:
    """A result whose cases have these values of Dice and HD95 by target; values of None occur in no mask."""
    scored = []
    for index, values in enumerate(cases):
        scores = tuple(
            Score(name, "ok", ConfusionCounts(0, 0, 0, 4) if isnan(pair[0]) else ConfusionCounts(1, 1, 1, 1),
                  dict(zip(metrics, pair, strict=True)))
            for name, pair in values.items()
        )  # fmt: skip
        pair = Pair(Truth(f"case{index}", Path(f"{index}.png"), (f"case{index}",)), Path("p.png"))
        scored.append(CaseResult(pair, scores, (2, 2), (1.0, 1.0), "px"))
    targets = tuple(Target(name, (index + 1,)) for index, name in enumerate(cases[0]))
    config = ScoringConfig(
        targets, metrics, get_policy(policy), index_reader(2), index_reader(2), options=ScoringOptions(**options)
    )
    return aggregate(config, scored)


TWO = ({"polyp": (0.25, 8.0)}, {"polyp": (0.75, 2.0)})  # means 0.5 and 5


def check(gate: Gate, of: EvaluationResult, on: str = "mean") -> GateResult:
    (found,) = check_gates([gate], of, on)
    return found


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("0.85", Gate("dice", 0.85, None)),
        ("polyp=0.85", Gate("dice", 0.85, "polyp")),
        ("a=b=1", Gate("dice", 1.0, "a=b")),
    ],
)
def test_a_gate_is_a_number_after_a_target(text: str, gate: Gate) -> None:
    assert parse_gate("dice", text) == gate


@pytest.mark.parametrize(("metric", "option"), [("dice", "--min-dice"), ("hd95", "--max-hd95")])
@pytest.mark.parametrize("text", ["high", "polyp=", "nan", "inf"])
def test_a_limit_that_is_no_finite_number_is_an_error(metric: str, option: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"{option} {text}: expected a number"):
        parse_gate(metric, text)


@pytest.mark.parametrize(
    ("gate", "value", "passed"),
    [
        (Gate("dice", 0.5), 0.5, True),
        (Gate("dice", 0.5001), 0.5, False),
        (Gate("hd95", 5.0), 5.0, True),
        (Gate("hd95", 4.999), 5.0, False),
    ],
)
def test_a_mean_at_the_limit_passes_on_both_sides(gate: Gate, value: float, passed: bool) -> None:
    found = check(gate, result(*TWO))
    assert (found.value, found.passed) == (value, passed)


def test_a_gate_says_what_it_compared() -> None:
    assert check(Gate("dice", 0.25), result(*TWO)).sentence == "gate dice >= 0.25 (mean, polyp): 0.5000 pass (n = 2/2)"
    assert check(Gate("hd95", 3), result(*TWO)).sentence == "gate hd95 <= 3 (mean, polyp): 5.0000 FAIL (n = 2/2)"


def test_the_worse_end_of_an_interval_is_the_upper_one_of_a_distance() -> None:
    """Draws of two cases have the means 0.25, 0.5, 0.75 and 8, 5, 2, each end in a quarter of them."""
    assert check(Gate("dice", 0.25), result(*TWO), "ci-low").value == 0.25
    assert check(Gate("hd95", 8), result(*TWO), "ci-low").value == 8.0


def test_the_worst_case_is_the_lowest_share_and_the_largest_distance() -> None:
    assert check(Gate("dice", 0.25), result(*TWO), "worst").value == 0.25
    assert check(Gate("hd95", 8), result(*TWO), "worst").value == 8.0


def test_the_worst_case_of_several_classes_is_that_of_any() -> None:
    classes = ({"a": (0.75, 1.0), "b": (0.5, 3.0)}, {"a": (0.25, 2.0), "b": (1.0, 0.0)})
    assert check(Gate("dice", 0), result(*classes), "worst").value == 0.25
    assert check(Gate("dice", 0, "b"), result(*classes), "worst").value == 0.5
    assert check(Gate("hd95", 9), result(*classes), "worst").value == 3.0


def test_a_class_that_occurs_nowhere_does_not_fail_the_worst_case() -> None:
    classes = ({"a": (0.75, 1.0), "b": (nan, nan)}, {"a": (0.25, 2.0), "b": (nan, nan)})
    found = check(Gate("dice", 0.25), result(*classes), "worst")
    assert (found.value, found.passed) == (0.25, True)


def test_a_case_without_a_value_fails_the_worst_case_and_not_the_mean() -> None:
    """0 used classes of the other case might have been worse than 0.75."""
    cases = ({"a": (0.75, 1.0), "b": (0.75, 1.0)}, {"a": (0.75, 1.0), "b": (nan, nan)})
    worst = check(Gate("dice", 0), result(*cases), "worst")
    assert isnan(worst.value)
    assert not worst.passed
    assert "nothing to compare FAIL" in worst.sentence
    assert check(Gate("dice", 0.75), result(*cases)).passed


def test_a_gate_on_a_target_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ConfigError, match="did you mean 'polyp'"):
        require_targets([Gate("dice", 0.5), Gate("dice", 0.5, "polip")], result(*TWO).config)
    require_targets([Gate("dice", 0.5), Gate("dice", 0.5, "polyp")], result(*TWO).config)


# Baselines.


def write_report(place: Path, of: EvaluationResult, **changes: Any) -> Path:
    """What a baseline must hold, as a report of `evaluate` has it."""
    summary = [{"target": row.target, "metric": row.metric, "mean": row.statistics.mean} for row in of.rows]
    report = {
        "schema": 1,
        "summary": summary,
        "headline": of.headline,
        "policy": of.config.policy.to_json(),
        "cases": [{"case": case.pair.truth.case} for case in of.cases],
        "settings": scoring_settings(of.config),
    } | changes
    report = {name: value for name, value in report.items() if value is not ABSENT}
    path = place / "report.json"
    path.write_text(json.dumps(report))
    return path


def compare(of: EvaluationResult, report: Path, largest: float) -> list[GateResult]:
    return check_baseline(of, load_baseline(report, of.config.metrics), largest)


def summary_of(mean: object, target: str = "polyp", metric: str = "dice") -> list[dict[str, Any]]:
    return [{"target": target, "metric": metric, "mean": mean}]


def test_an_unchanged_result_passes_a_largest_drop_of_0(tmp_path: Path) -> None:
    (found,) = compare(result(*TWO), write_report(tmp_path, result(*TWO)), 0.0)
    assert (found.value, found.passed) == (0.0, True)
    assert found.note == "0.5 before, 0.5000 now"
    assert found.name == "dice drop <= 0 (mean, polyp)"


@pytest.mark.parametrize(
    ("before", "largest", "passed"), [(0.75, 0.25, True), (0.75, 0.2499, False), (0.25, 0.0, True), (0.75, 0.0, False)]
)
def test_a_drop_up_to_the_largest_passes(tmp_path: Path, before: float, largest: float, passed: bool) -> None:
    report = write_report(tmp_path, result(*TWO), summary=summary_of(before))
    (found,) = compare(result(*TWO), report, largest)
    assert (found.value, found.passed) == (before - 0.5, passed)


@pytest.mark.parametrize("before", [None, True, "0.5"])
def test_a_mean_that_is_no_number_fails(tmp_path: Path, before: object) -> None:
    report = write_report(tmp_path, result(*TWO), summary=summary_of(before))
    (found,) = compare(result(*TWO), report, 1.0)
    assert isnan(found.value)
    assert not found.passed


def test_a_mean_that_is_infinite_now_fails(tmp_path: Path) -> None:
    report = write_report(tmp_path, result(*TWO))
    (found,) = compare(result({"polyp": (-inf, 1.0)}, {"polyp": (0.5, 1.0)}), report, 1.0)
    assert not found.passed


def test_a_baseline_without_a_common_share_fails(tmp_path: Path) -> None:
    report = write_report(tmp_path, result(*TWO), summary=summary_of(5.0, metric="hd95"))
    (found,) = compare(result(*TWO), report, 1.0)
    assert not found.passed
    assert found.note == "report.json has none of these metrics"


def test_a_class_of_the_baseline_is_not_taken_for_its_headline(tmp_path: Path) -> None:
    classes = ({"a": (0.5, 1.0), "b": (0.5, 1.0)},)
    rows = [*summary_of(0.5, "mean of classes"), *summary_of(0.9, "b")]
    (found,) = compare(result(*classes), write_report(tmp_path, result(*classes), summary=rows), 0.0)
    assert found.value == 0.0


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"policy": Policy(missing="exclude").to_json()}, "another policy"),
        ({"headline": "lesion", "summary": summary_of(0.5, "lesion")}, "it is about lesion, this about polyp"),
        ({"cases": [{"case": "case0"}, {"case": "x"}, {"case": "y"}]}, "other cases: 1 are new, 2 are gone"),
        ({"settings": {"threshold": 3.0}}, "made with other settings: threshold 3.0, now None"),
    ],
)
def test_a_baseline_made_otherwise_fails_and_says_why(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    (found,) = compare(result(*TWO), write_report(tmp_path, result(*TWO), **changes), 1.0)
    assert isnan(found.value)
    assert not found.passed
    assert reason in found.note


@pytest.mark.parametrize(
    ("metric", "setting", "compared"),
    [
        ("nsd", "tolerance", True),
        ("lesion_f1", "lesion_iou", True),
        ("dice", "tolerance", False),
        ("dice", "lesion_iou", False),
    ],
)
@pytest.mark.parametrize("recorded", ["settings", "definitions"])
def test_a_setting_is_compared_where_a_metric_depends_on_it(
    tmp_path: Path, metric: str, setting: str, compared: bool, recorded: str
) -> None:
    """Version 0.1.0 recorded both among its definitions."""
    now = result(*TWO, metrics=(metric, "hd95"))
    name = {"tolerance": "nsd_tolerance"}.get(setting, setting) if recorded == "definitions" else setting
    changes: dict[str, Any] = {"settings": ABSENT} | {recorded: {name: 0.9}}
    (found,) = compare(now, write_report(tmp_path, now, **changes), 0.0)
    assert found.passed is not compared


def test_version_0_1_0_recorded_three_settings_outside(tmp_path: Path) -> None:
    report = write_report(tmp_path, result(*TWO), settings=ABSENT, ignore_label=3, resample=None, ignore_headers=False)
    (found,) = compare(result(*TWO), report, 0.0)
    assert found.note == "made with other settings: ignore_label 3, now None"


def test_the_folder_of_a_report_stands_for_it(tmp_path: Path) -> None:
    write_report(tmp_path, result(*TWO))
    assert load_baseline(tmp_path, METRICS).headline == "polyp"


@pytest.mark.parametrize("text", ["[]", "{}", "no", '{"schema": NaN}', '{"schema": -Infinity}'])
def test_a_file_that_is_no_report_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(
        DataError, match=r"report\.json: damaged \(.*give a report\.json that `guidino evaluate -o` wrote"
    ):
        load_baseline(tmp_path / "report.json", METRICS)


@pytest.mark.parametrize("key", ["schema", "summary", "headline", "policy", "cases"])
def test_a_report_without_one_of_its_parts_is_none(tmp_path: Path, key: str) -> None:
    path = write_report(tmp_path, result(*TWO))
    report = json.loads(path.read_text())
    del report[key]
    path.write_text(json.dumps(report))
    with pytest.raises(DataError, match=key):
        load_baseline(path, METRICS)


def test_a_missing_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        load_baseline(tmp_path / "none.json", METRICS)


def test_a_metric_of_the_baseline_that_is_left_out_is_an_error(tmp_path: Path) -> None:
    rows = [*summary_of(1, "b"), *summary_of(1, "c"), *summary_of(1, metric="iou")]
    report = write_report(tmp_path, result(*TWO), summary=rows)
    load_baseline(report, ["iou", "hd95", "dice"])
    with pytest.raises(ConfigError, match=r"has dice, not among the metrics asked for; give --metrics iou,dice$"):
        load_baseline(report, ["iou"])
