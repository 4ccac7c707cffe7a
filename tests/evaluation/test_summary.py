"""Summaries of case scores, and what their means cover."""

from dataclasses import replace
from math import isnan, log2, nan
from pathlib import Path

import pytest

from guidino_cli.errors import DataError
from guidino_cli.evaluation.cases import Pair, Truth
from guidino_cli.evaluation.masks import index_reader
from guidino_cli.evaluation.summary import (
    MEAN_OF_CLASSES,
    EvaluationResult,
    aggregate,
    case_metric,
    count_statuses,
    pool_all_lesions,
    pooled_overlap,
    ranking_metric,
    summarize_measured_distances,
)
from guidino_cli.evaluation.types import CaseResult, Policy, Score, ScoreStatus, ScoringConfig, Target
from guidino_cli.metrics.lesions import Lesions
from guidino_cli.metrics.overlap import ConfusionCounts

RIGHT, FALSE, MISSED, NOTHING = (
    ConfusionCounts(4, 0, 0, 8), ConfusionCounts(0, 4, 0, 8), ConfusionCounts(0, 0, 4, 8), ConfusionCounts(0, 0, 0, 12)
)  # fmt: skip


def make_config(*targets: str, metrics: tuple[str, ...] = ("dice",), policy: Policy | None = None) -> ScoringConfig:
    rows = tuple(Target(name, (index + 1,)) for index, name in enumerate(targets))
    return ScoringConfig(rows, metrics, policy or Policy(), index_reader(3), index_reader(3))


def make_score(target: str, *values: float, metrics: tuple[str, ...] = ("dice",), status: ScoreStatus = "ok",
               counts: ConfusionCounts | None = RIGHT, lesions: Lesions | None = None) -> Score:  # fmt: skip
    return Score(target, status, counts, dict(zip(metrics, values, strict=True)), lesions)


def make_case(name: str, *scores: Score, shape: tuple[int, ...] | None = (3, 4), unit: str = "px",
              prediction: Path | None = Path("p.png"), note: str = "") -> CaseResult:  # fmt: skip
    spacing = None if shape is None else (1.0,) * len(shape)
    return CaseResult(Pair(Truth(name, Path(name), (name,)), prediction), scores, shape, spacing, unit, note)


def summarize_classes(*pairs: tuple[float, float], groups: list[str] | None = None) -> EvaluationResult:
    """Result of cases with these Dice values of classes a and b; NaN where there is none."""
    cases = [
        make_case(str(i), make_score("a", first), make_score("b", second)) for i, (first, second) in enumerate(pairs)
    ]
    return aggregate(make_config("a", "b"), cases, groups=groups)


def test_a_class_that_is_only_predicted_falsely_counts_with_dice_0() -> None:
    cases = [
        make_case("1", make_score("a", 1.0), make_score("b", 0.0, status="truth_empty", counts=FALSE)),
        make_case("2", make_score("a", 0.5), make_score("b", 1.0, status="both_empty", counts=NOTHING)),
    ]
    result = aggregate(make_config("a", "b"), cases)
    assert result.absent == []
    assert result.statistics("b", "dice").mean == 0.5
    assert result.statistics(MEAN_OF_CLASSES, "dice").mean == 0.625
    assert result.pooled["b"] == ConfusionCounts(0, 4, 0, 20)
    assert result.pooled["a"] == ConfusionCounts(8, 0, 0, 16)


def test_a_class_that_is_only_missed_counts_too() -> None:
    cases = [make_case("1", make_score("a", 1.0), make_score("b", 0.0, counts=MISSED))]
    assert aggregate(make_config("a", "b"), cases).absent == []


def test_a_class_that_occurs_nowhere_is_left_out() -> None:
    empty = make_score("b", 1.0, status="both_empty", counts=NOTHING)
    result = aggregate(make_config("a", "b"), [make_case("1", make_score("a", 0.25), empty)])
    assert result.absent == ["b"]
    assert result.statistics(MEAN_OF_CLASSES, "dice").mean == 0.25
    assert result.statistics("b", "dice").used == 0
    assert case_metric(result.cases[0], "dice", result) == 0.25
    assert result.headline == MEAN_OF_CLASSES


def test_the_interval_of_the_mean_of_classes_is_that_of_averaged_draws() -> None:
    """What class a lacks class b has in the same case: every draw's mean over the classes is a half."""
    result = summarize_classes((0.0, 1.0), (0.25, 0.75), (1.0, 0.0))
    statistics = result.statistics(MEAN_OF_CLASSES, "dice")
    assert (statistics.mean, statistics.ci_low, statistics.ci_high) == pytest.approx((0.5, 0.5, 0.5))
    alone = result.statistics("a", "dice")
    assert alone.ci_high - alone.ci_low > 0.5
    assert (statistics.total, statistics.used) == (6, 6)


def test_every_class_has_the_same_weight_however_many_cases_have_it() -> None:
    result = summarize_classes((1.0, 0.0), (1.0, nan), (1.0, nan))
    statistics = result.statistics(MEAN_OF_CLASSES, "dice")
    assert (statistics.mean, statistics.used, statistics.total) == (0.5, 4, 6)


def test_no_interval_of_the_mean_where_a_class_has_none() -> None:
    """Class b has one case with a value, of which no interval can be drawn."""
    statistics = summarize_classes((0.0, 0.5), (1.0, nan)).statistics(MEAN_OF_CLASSES, "dice")
    assert statistics.mean == 0.5
    assert isnan(statistics.ci_low)
    assert isnan(statistics.ci_high)


def test_no_value_in_any_class_has_no_mean() -> None:
    statistics = summarize_classes((nan, nan)).statistics(MEAN_OF_CLASSES, "dice")
    assert (statistics.total, statistics.used) == (2, 0)
    assert isnan(statistics.mean)


def test_two_groups_have_an_interval_and_one_has_none() -> None:
    two = summarize_classes((0.0, 0.0), (0.0, 0.0), (1.0, 1.0), groups=["x", "x", "y"])
    assert (two.statistics("a", "dice").ci_low, two.statistics("a", "dice").ci_high) == (0.0, 1.0)
    assert two.group_count == 2
    one = summarize_classes((0.0, 0.0), (1.0, 1.0), groups=["x", "x"])
    assert isnan(one.statistics("a", "dice").ci_low)
    assert summarize_classes((0.0, 0.0)).group_count == 0


def test_a_stratum_is_summarized_from_its_own_cases_and_groups() -> None:
    cases = [make_case(str(index), make_score("a", value)) for index, value in enumerate((0.0, 1.0, 0.5, 0.25))]
    result = aggregate(make_config("a"), cases, groups=["x", "y", "z", "z"], strata=["p", "p", "q", "q"])
    assert list(result.strata) == ["p", "q"]
    first, second = (rows[0].statistics for rows in result.strata.values())
    assert (first.mean, first.total, first.ci_low, first.ci_high) == (0.5, 2, 0.0, 1.0)
    assert (second.mean, second.total) == (0.375, 2)
    assert isnan(second.ci_low)
    assert result.headline == "a"


def test_a_case_without_truth_has_the_largest_diagonal_and_the_most_bits() -> None:
    """Diagonals 5 and 10, 12 and 48 pixels; shares are 0 as they are."""
    metrics = ("dice", "hd95", "voi")
    config = make_config("a", metrics=metrics)
    lost = make_score("a", 0.0, nan, nan, metrics=metrics, status="failed", counts=None)
    cases = [
        make_case("1", make_score("a", 1.0, 0.0, 0.0, metrics=metrics)),
        make_case("2", make_score("a", 1.0, 0.0, 0.0, metrics=metrics), shape=(6, 8)),
        make_case("3", lost, shape=None),
    ]
    result = aggregate(config, cases)
    assert result.cases[2].scores[0].values == {"dice": 0.0, "hd95": 10.0, "voi": log2(48)}
    left_out = aggregate(replace(config, policy=Policy(failed="exclude")), cases)
    assert isnan(left_out.cases[2].scores[0].values["hd95"])
    # All 48 pixels of the largest image count as missed.
    assert result.pooled["a"] == ConfusionCounts(8, 0, 48, 16)
    assert left_out.pooled["a"] == ConfusionCounts(8, 0, 0, 16)


def test_no_readable_truth_is_an_error_with_the_first_reason() -> None:
    lost = make_case("1", make_score("a", 0.0, counts=None), shape=None, note="1.png: is empty")
    with pytest.raises(DataError, match=r"no truth can be read; the first: 1\.png: is empty"):
        aggregate(make_config("a"), [lost])


def test_distances_in_two_units_are_an_error() -> None:
    cases = [make_case("1", make_score("a", 0.0)), make_case("2", make_score("a", 0.0), unit="mm")]
    with pytest.raises(DataError, match="some masks have a voxel size in mm and some have none"):
        aggregate(make_config("a"), cases)


def test_measured_distances_leave_out_what_the_policy_puts_in() -> None:
    """Class a: 2 and 4 measured, one diagonal; class b: 1 measured, one zero, one left out."""
    metrics = ("dice", "hd95")
    cases = [
        make_case("1", make_score("a", 1, 2.0, metrics=metrics), make_score("b", 1, 1.0, metrics=metrics)),
        make_case("2", make_score("a", 1, 4.0, metrics=metrics),
                  make_score("b", 1, 0.0, metrics=metrics, status="both_empty")),
        make_case("3", make_score("a", 0, 5.0, metrics=metrics, status="prediction_empty"),
                  make_score("b", 0, nan, metrics=metrics, status="truth_empty")),
    ]  # fmt: skip
    found = summarize_measured_distances(aggregate(make_config("a", "b", metrics=metrics), cases))
    assert (found.ok, found.diagonal, found.zero) == (3, 1, 1)
    assert found.means == {"hd95": 2.0}  # of 3 and 1


def test_statuses_are_counted_by_case_and_empty_masks_by_class() -> None:
    cases = [
        make_case("1", make_score("a", 1.0), make_score("b", 1.0, status="both_empty")),
        make_case("2", make_score("a", 0.0, status="truth_empty"), make_score("b", 0.0, status="prediction_empty")),
        make_case("3", make_score("a", 0.0, status="missing"), make_score("b", 0.0, status="missing"), prediction=None),
        make_case("4", make_score("a", 0.0, status="failed"), make_score("b", 0.0, status="failed")),
        make_case("5", make_score("a", 0.0, status="failed"), make_score("b", 0.0, status="failed"),
                  shape=None, prediction=None),
    ]  # fmt: skip
    result = aggregate(make_config("a", "b"), cases)
    assert count_statuses(result) == {
        "cases": 5, "scored": 2, "missing": 1, "failed": 2, "both_empty": 1, "truth_empty": 1, "prediction_empty": 1,
    }  # fmt: skip
    assert [case.pair.truth.case for case in result.problems()] == ["3", "4", "5"]


def test_objects_of_all_cases_are_pooled_by_class() -> None:
    first, second = Lesions((3,), (True,), 1), Lesions((5, 7), (False, True), 2)
    cases = [make_case(str(i), make_score("a", 1.0, lesions=found)) for i, found in enumerate((first, second, None))]
    assert pool_all_lesions(aggregate(make_config("a"), cases)) == {"a": Lesions((3, 5, 7), (True, False, True), 3)}


def test_pooled_counts_have_iou_and_dice() -> None:
    assert pooled_overlap(ConfusionCounts(2, 1, 1, 0)) == {"iou": 0.5, "dice": 4 / 6}


@pytest.mark.parametrize(
    ("metrics", "ranking"),
    [(("iou", "dice"), "dice"), (("hd95", "recall", "iou"), "recall"), (("hd95", "assd"), "hd95")],
)
def test_cases_are_ranked_by_dice_or_the_first_share(metrics: tuple[str, ...], ranking: str) -> None:
    score = make_score("a", *(1.0 for _ in metrics), metrics=metrics)
    assert ranking_metric(aggregate(make_config("a", metrics=metrics), [make_case("1", score)])) == ranking
