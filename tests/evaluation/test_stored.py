"""Evaluations read back from report.json: values, undefined ones, and what may be compared."""

import json
import re
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from guidino_cli.errors import DataError
from guidino_cli.evaluation.stored import StoredEvaluation, compare_stored, read_evaluation
from guidino_cli.evaluation.summary import MEAN_OF_CLASSES


def report(values: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A report of cases c0, c1, ... with the values of two classes, `{"a": {"dice": 1}, "b": ...}`."""
    cases = [
        {"case": f"c{number}", "scores": [{"target": name, **scores} for name, scores in item.items()]}
        for number, item in enumerate(values)
    ]
    lines = [{"target": target, "metric": "dice", "mean": 0.5} for target in (MEAN_OF_CLASSES, "a", "b")]
    content = {"schema": 1, "truth": "t", "headline": MEAN_OF_CLASSES, "policy": {}, "summary": lines, "cases": cases}
    return content | more


def stored(name: str, values: list[dict[str, Any]], **more: Any) -> StoredEvaluation:
    return StoredEvaluation(name, Path(name), report(values, **more))


def both(a: float | None, b: float | None) -> dict[str, Any]:
    return {"a": {"dice": a}, "b": {"dice": b}}


def test_the_mean_of_classes_leaves_out_undefined_values_and_absent_classes() -> None:
    values = [both(0.2, 0.6), both(0.4, None), both(None, None)]
    column = stored("x", values).column("dice", MEAN_OF_CLASSES)
    assert (column["c0"], column["c1"]) == (pytest.approx(0.4), 0.4)
    assert isnan(column["c2"])
    absent = stored("x", values, absent_targets=["b"])
    assert absent.column("dice", MEAN_OF_CLASSES)["c0"] == 0.2


def test_cases_are_paired_by_name_and_infinite_values_have_no_difference() -> None:
    first = stored("x", [both(0.1, 0.1), both(0.5, 0.5)])
    swapped = report([both(0.5, 0.5), both(0.3, 0.3)])
    for case, name in zip(swapped["cases"], ("c1", "c0"), strict=True):
        case["case"] = name
    (mean, *_), reasons = compare_stored([first, StoredEvaluation("y", Path("y"), swapped)])
    # c0 from 0.1 to 0.3, c1 as it was.
    assert mean.mean == pytest.approx(0.1)
    assert (mean.wins, mean.ties, reasons) == (1, 1, [])
    endless = stored("z", [{"a": {"dice": "inf"}, "b": {"dice": "inf"}}, both(0.6, 0.6)])
    assert compare_stored([first, endless])[0][0].used == 1


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"headline": "a"}, "other classes"),
        ({"policy": {"name": "other"}}, "another policy"),
        ({"settings": {"tolerance": 2}}, r"other settings \(tolerance\)"),
    ],
)
def test_evaluations_by_other_rules_are_not_compared(more: dict[str, Any], reason: str) -> None:
    values = [both(0.1, 0.1)]
    comparisons, reasons = compare_stored(
        [stored("x", values, settings={"tolerance": 1}), stored("y", values, **{"settings": {"tolerance": 1}, **more})]
    )
    assert comparisons == []
    assert len(reasons) == 1
    assert re.search(reason, reasons[0])


def test_a_report_without_cases_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report([])))
    with pytest.raises(DataError, match="has no case of its headline"):
        read_evaluation(tmp_path, name="x")
