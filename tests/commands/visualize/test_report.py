"""Guide scores on the terminal."""

import pytest

from guidino_cli.commands.visualize.report import _print_table


def test_a_long_name_is_folded_and_no_number_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    headings = ("image", "AUROC", "IoU at 0.5", "values", "network's Dice")
    _print_table(headings, [("x" * 60, "0.937", "0.010", "0.48..0.50", "0.374")])
    text = capsys.readouterr().out
    assert all(word in text for word in (*headings, "0.937", "0.010", "0.48..0.50", "0.374"))
    assert text.count("x") == 60
    assert max(map(len, text.splitlines())) <= 80
