"""History files of a pretraining run: round trip and damage."""

from pathlib import Path

import pytest

from guidino_cli.engine.pretraining.folder import PretrainFolder
from guidino_cli.errors import DataError


def test_a_history_survives_the_round_trip(tmp_path: Path) -> None:
    rows = [{"step": 2, "stage": "größe", "loss": 0.5}, {"step": 4, "stage": "two", "loss": 0.25}]
    PretrainFolder(tmp_path).save_history(rows)
    assert PretrainFolder(tmp_path).history() == rows


@pytest.mark.parametrize("line", ['{"step": 4, "lo', "[]", '{"loss": 1.0}', '"\\xff'])
def test_a_damaged_line_of_the_history_is_refused_by_number(line: str, tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text(f'{{"step": 2, "loss": 2.0}}\n{line}\n')
    with pytest.raises(DataError, match=r"history\.jsonl, line 2: is damaged .*; repair or remove the line"):
        PretrainFolder(tmp_path).history()
