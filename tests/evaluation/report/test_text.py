"""Tables, lists and JUnit of reports, from hand-made results."""

from dataclasses import replace
from math import nan
from pathlib import Path
from xml.etree import ElementTree

import pytest

from guidino_cli.evaluation.cases import Pair, Pairing, Truth
from guidino_cli.evaluation.gates import GateResult
from guidino_cli.evaluation.masks import index_reader
from guidino_cli.evaluation.report.text import (
    describe_rules,
    escape_markdown,
    markdown_table,
    size_rows,
    table_rows,
    to_junit,
    worst_cases,
)
from guidino_cli.evaluation.summary import EvaluationResult, aggregate
from guidino_cli.evaluation.types import CaseResult, Policy, Score, ScoringConfig, Target
from guidino_cli.metrics.lesions import Lesions
from guidino_cli.metrics.overlap import ConfusionCounts


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", "a\\|b"),
        ("two\nlines", "two lines"),
        ("<script>", "&lt;script>"),
        ("</b>", "&lt;/b>"),
        ("<0.001", "<0.001"),
    ],
)
def test_markdown_cells_hold_no_separator_line_break_or_tag(text: str, escaped: str) -> None:
    assert escape_markdown(text) == escaped


def test_a_table_aligns_all_columns_but_the_first_to_the_right() -> None:
    table = markdown_table(("metric", "mean"), [("Dice", "0.9")])
    assert table == ["| metric | mean |", "| --- | ---: |", "| Dice | 0.9 |"]


def case(name: str, *, metrics: tuple[str, ...], **values: tuple[float, ...]) -> CaseResult:
    """A case with these values of every metric by class."""
    scores = tuple(
        Score(target, "ok", ConfusionCounts(1, 1, 1, 1), dict(zip(metrics, row, strict=True)),
              Lesions((3, 9), (True, False), 1), sum(row) / 100)
        for target, row in values.items()
    )  # fmt: skip
    return CaseResult(Pair(Truth(name, Path(name), (name,)), Path("p")), scores, (2, 2), (1.0, 1.0), "px")


def result(metrics: tuple[str, ...], *cases: CaseResult, medpy: bool = False) -> EvaluationResult:
    targets = tuple(Target(score.target, (index + 1,)) for index, score in enumerate(cases[0].scores))
    config = ScoringConfig(targets, metrics, Policy(), index_reader(3), index_reader(3), medpy=medpy)
    return aggregate(config, list(cases))


@pytest.mark.parametrize(
    ("metrics", "values", "names"),
    [
        (("dice",), {"a": 0.5, "b": 0.25, "c": 0.75}, ["b", "a"]),
        (("hd95",), {"a": 5.0, "b": 2.0, "c": 9.0}, ["c", "a"]),
        (("hd95", "dice"), {"a": (5.0, 0.9), "b": (2.0, 0.1), "c": (9.0, 0.5)}, ["b", "c"]),
        (("dice",), {"a": 0.5, "b": nan, "c": 0.25}, ["b", "c"]),
        (("hd95",), {"a": 5.0, "b": nan, "c": 2.0}, ["b", "a"]),
    ],
)
def test_the_worst_cases_come_first_in_the_direction_of_the_metric(
    metrics: tuple[str, ...], values: dict[str, float | tuple[float, ...]], names: list[str]
) -> None:
    rows = {name: row if isinstance(row, tuple) else (row,) for name, row in values.items()}
    of = result(metrics, *(case(name, metrics=metrics, x=row) for name, row in rows.items()))
    assert [line.partition(":")[0] for line in worst_cases(of, 2)] == names


def test_a_case_is_listed_with_its_first_three_metrics() -> None:
    metrics = ("dice", "hd95", "iou", "recall")
    of = result(metrics, case("a", metrics=metrics, x=(0.5, 2.5, 0.25, 1.0)))
    assert worst_cases(of, 1) == ["a: Dice 0.5000, HD95 px 2.50, IoU 0.2500"]


def test_rows_have_means_spread_and_intervals() -> None:
    metrics = ("dice", "hd95")
    cases = [case("1", metrics=metrics, a=(0.25, 4.0)), case("2", metrics=metrics, a=(0.75, nan))]
    ((target, rows),) = table_rows(result(metrics, *cases))
    assert target == "a"
    assert rows[0] == ("Dice", "2/2", "0.5000", "0.3536", "0.5000", "0.2500 .. 0.7500")
    assert rows[1] == ("HD95 px", "1/2", "4.00", "-", "4.00", "-")


def test_objects_are_counted_by_size() -> None:
    """Two cases with a found object of 3 px and a missed one of 9 px each."""
    metrics = ("lesion_f1",)
    of = result(metrics, *(case(name, metrics=metrics, a=(0.5,)) for name in "12"))
    assert size_rows(of) == [
        ("a", [("3 pixels", "2/2", "1.0000"), ("9 pixels", "0/2", "0.0000"), ("all", "2/4", "0.5000")])
    ]


def test_the_largest_deviation_of_medpy_is_said() -> None:
    metrics = ("hd95",)
    of = result(metrics, case("1", metrics=metrics, a=(1.0,)), case("2", metrics=metrics, a=(3.0,)), medpy=True)
    assert any("guidino's own differ by 0.03 at most" in line for line in describe_rules(of))


def test_junit_counts_gates_that_fail_and_cases_without_a_prediction() -> None:
    metrics = ("dice",)
    good = case("1", metrics=metrics, a=(0.5,))
    lost = replace(good, scores=(replace(good.scores[0], status="missing"),), note="no\x07 prediction")
    gates = [GateResult("low", 0.5, True, "n"), GateResult("high", 0.5, False, "n")]
    suite = ElementTree.fromstring(to_junit(result(metrics, good, lost), Pairing([], [], "", ["odd"]), gates))
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["3", "1", "1"]
    assert [len(test) for test in suite.findall("testcase")] == [1, 0, 1]
    assert suite.findtext("testcase/error") == "1: no prediction"
    assert suite.findtext("system-out") == "warning: odd"
    clean = ElementTree.fromstring(to_junit(result(metrics, good), Pairing([], [], "", []), gates[:1]))
    assert [clean.get(name) for name in ("tests", "failures", "errors")] == ["2", "0", "0"]
    assert clean.find("system-out") is None
