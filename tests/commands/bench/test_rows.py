"""Rows of cells: what is infinite or undefined is no number, and differences are taken case by case."""

from math import inf, nan
from pathlib import Path

import pytest

from guidino_cli.commands.bench.cells import BenchCell, CellRow, as_finite, describe_differences
from guidino_cli.commands.bench.decoder_cells import _cases, _notes
from guidino_cli.commands.bench.recipe import BenchBackbone, BenchTask
from guidino_cli.commands.bench.table import _difference, is_higher_better
from guidino_cli.options.evaluation import EvaluateOptions


@pytest.mark.parametrize(
    ("value", "expected"), [(0.5, 0.5), (3, 3.0), (None, None), ("inf", None), (inf, None), (nan, None)]
)
def test_only_finite_numbers_are_numbers(value: object, expected: float | None) -> None:
    assert as_finite(value) == expected


def test_an_infinite_case_leaves_no_case_to_compare() -> None:
    def content(second: object) -> dict[str, object]:
        scores = [[{"target": "a", "hd95": 1.0}, {"target": "b", "hd95": 3.0}], [{"target": "a", "hd95": second}]]
        return {
            "absent_targets": ["c"],
            "cases": [{"case": str(number), "scores": own} for number, own in enumerate(scores)],
        }

    assert _cases(content(4.0), "hd95") == {"0": 2.0, "1": 4.0}
    assert _cases(content("inf"), "hd95") == {}


def test_a_difference_is_taken_over_the_cases_that_both_have() -> None:
    first = CellRow("backbone", "", {}, cases={"a": 0.9, "b": 0.5, "c": 0.1})
    second = CellRow("random", "", {}, cases={"a": 0.5, "b": 0.3, "d": 0.9})
    difference = _difference(first, second)
    assert difference is not None
    # .4 and .2; every draw of two cases has a mean between them.
    assert difference == [pytest.approx(0.3), pytest.approx(0.2), pytest.approx(0.4)]
    assert _difference(first, None) is None
    assert _difference(first, CellRow("random", "", {}, cases={"d": 1.0})) is None


def test_of_distances_and_errors_less_is_better() -> None:
    metrics = ("auc", "dice", "correlation", "hd95", "asd", "folding", "voi", "are")
    assert [is_higher_better(metric) for metric in metrics] == [True, True, True, False, False, False, False, False]


def test_differences_over_cases_of_groups_are_said_to_have_too_narrow_intervals() -> None:
    assert _notes(EvaluateOptions(split="test")) == []
    (note,) = _notes(EvaluateOptions(split="test", group="patient"))
    assert "those of the differences over cases: too narrow" in note


def test_a_preset_file_that_changed_under_its_name_is_a_difference(tmp_path: Path) -> None:
    preset = tmp_path / "mine.yaml"
    task = BenchTask("t", "decoder", "t", tmp_path / "data", "dice", ("x",), preset=str(preset))
    cell = BenchCell(task, "backbone", BenchBackbone("x", "guidino-tiny"), tmp_path)
    found = []
    for text in ("train: {epochs: 3}", "train: {epochs: 3}  # the same", "train: {epochs: 4}"):
        preset.write_text(f"base: kvasir-light2d\n{text}\n")
        found.append(cell.settings)
    assert describe_differences(found[0], found[1]) == []
    assert describe_differences(found[0], found[2]) == ["a preset that has changed since"]
    del found[0]["preset_stamp"]
    assert describe_differences(found[0], found[2]) == []
