"""Table of teacher features: rows computed once, kept on disk."""

from pathlib import Path

import pytest
import torch

from guidino_cli.ssl.teacher_features import TeacherFeatureTable

KEY = {"weights": "abc", "views": 2}


def table(place: Path, key: dict | None = None) -> TeacherFeatureTable:
    return TeacherFeatureTable(place, key=key or KEY, rows=4, tokens=3, channels=2)


def never(_positions: list[int]) -> torch.Tensor:
    raise AssertionError("a row that is there was computed again")


def test_rows_are_read_back_as_stored(tmp_path: Path) -> None:
    given = torch.arange(12.0).view(2, 3, 2)
    first = table(tmp_path).get_or_compute([3, 1], lambda _positions: given)
    assert torch.equal(first, given)
    assert torch.equal(table(tmp_path).get_or_compute([1, 3], never), given.flip(0))


def test_only_missing_rows_are_computed(tmp_path: Path) -> None:
    features = table(tmp_path)
    features.get_or_compute([0], lambda positions: torch.ones(len(positions), 3, 2))
    computed = []

    def compute(positions: list[int]) -> torch.Tensor:
        computed.extend(positions)
        return torch.full((len(positions), 3, 2), 2.0)

    rows = features.get_or_compute([2, 0, 1], compute)
    assert computed == [0, 2]
    assert rows[:, 0, 0].tolist() == [2.0, 1.0, 2.0]
    assert features.count == 3


def test_values_are_equal_the_first_time_and_later(tmp_path: Path) -> None:
    third = torch.full((1, 3, 2), 1 / 3)
    first = table(tmp_path).get_or_compute([0], lambda _positions: third)
    assert not torch.equal(first, third)
    assert torch.equal(table(tmp_path).get_or_compute([0], never), first)


def test_another_key_has_its_own_rows(tmp_path: Path) -> None:
    table(tmp_path).get_or_compute([0], lambda _positions: torch.ones(1, 3, 2))
    assert table(tmp_path, {"weights": "other", "views": 2}).count == 0


def test_a_failed_row_is_not_stored(tmp_path: Path) -> None:
    features = table(tmp_path)
    with pytest.raises(AssertionError):
        features.get_or_compute([0], never)
    assert features.count == 0
