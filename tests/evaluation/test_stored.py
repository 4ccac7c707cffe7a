"""Evaluations read back from report.json: values, undefined ones, and what may be compared."""

import json
import re
from math import inf, isnan
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


def test_cases_are_paired_by_name() -> None:
    first = stored("x", [both(0.1, 0.1), both(0.5, 0.5)])
    swapped = report([both(0.5, 0.5), both(0.3, 0.3)])
    for case, name in zip(swapped["cases"], ("c1", "c0"), strict=True):
        case["case"] = name
    (mean, *_), reasons = compare_stored([first, StoredEvaluation("y", Path("y"), swapped)])
    # c0 from 0.1 to 0.3, c1 as it was.
    assert mean.mean == pytest.approx(0.1)
    assert (mean.wins, mean.ties, reasons) == (1, 1, [])


def test_an_infinite_value_is_a_loss_and_in_no_finite_mean() -> None:
    def distances(*values: float | str) -> list[dict[str, Any]]:
        return [{"a": {"asd": value}} for value in values]

    only = {"headline": "a", "summary": [{"target": "a", "metric": "asd", "mean": 1.0}]}
    first = stored("x", distances(5.0, 5.0, "inf"), **only)
    second = stored("y", distances("inf", 4.0, "inf"), **only)
    ((item,), reasons) = compare_stored([first, second])
    assert (item.mean, item.wins, item.losses, item.used, reasons) == (inf, 1, 1, 2, [])
    assert isnan(item.ci_low)
    assert isnan(item.p_value)
    # The first case from infinite to 5, the second from 5 to infinite: no mean, and no warning of numpy.
    swapped = [stored("x", distances("inf", 5.0), **only), stored("y", distances(5.0, "inf"), **only)]
    ((item,), _) = compare_stored(swapped)
    assert isnan(item.mean)


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
        [
            stored("x", values, settings={"tolerance": 1}),
            stored("y", values, **{"settings": {"tolerance": 1}, **more}),
        ]
    )
    assert comparisons == []
    assert len(reasons) == 1
    assert re.search(reason, reasons[0])


def test_distances_in_other_units_are_not_compared_and_shares_are() -> None:
    def pair(metric: str) -> list[StoredEvaluation]:
        own: dict[str, Any] = {"headline": "a", "summary": [{"target": "a", "metric": metric, "mean": 1.0}]}
        return [stored(unit, [{"a": {metric: 1.0}}], unit=unit, **own) for unit in ("px", "mm")]

    comparisons, reasons = compare_stored(pair("hd95"))
    assert (comparisons, "distances in other units (px; mm)" in reasons[0]) == ([], True)
    assert compare_stored(pair("dice"))[1] == []


def test_a_report_without_cases_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report([])))
    with pytest.raises(DataError, match="has no case of its headline"):
        read_evaluation(tmp_path, name="x")
