"""`guidino example`, through the real command line; the wheel's own copy is tested in tests/test_wheel.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_it_writes_data_and_scripts_and_says_what_to_type(guidino: Callable[..., Any], tmp_path: Path) -> None:
    outcome = guidino("example", "-o", tmp_path / "try")
    assert outcome.code == 0, outcome.stderr
    script = tmp_path / "try" / "examples" / "quickstart.sh"
    assert str(script) in outcome.stderr
    assert script.stat().st_mode & 0o111
    count = len(list((tmp_path / "try" / "examples" / "data" / "images").iterdir()))
    assert f"{count} tiles with masks" in outcome.stdout
    assert count == len(list((EXAMPLES / "data" / "images").iterdir()))


def test_a_folder_in_use_gets_the_examples_beside_what_is_there(guidino: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    assert guidino("example", "-o", tmp_path).code == 0
    changed = tmp_path / "examples" / "quickstart.sh"
    changed.write_text("mine")
    again = guidino("example", "-o", tmp_path)
    assert again.code == 2
    assert "add --overwrite" in again.stderr
    assert guidino("example", "-o", tmp_path, "--overwrite").code == 0
    assert changed.read_text() == (EXAMPLES / "quickstart.sh").read_text()
    assert (tmp_path / "thesis.tex").exists()


def test_folders_of_others_files_and_the_checkout_itself_are_refused(
    guidino: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "thesis.tex").write_text("")
    (tmp_path / "file").write_text("")
    reasons = {
        tmp_path: "holds files that guidino did not write",
        tmp_path / "file": "is a file",
        EXAMPLES.parent: "the examples of this checkout",
    }
    for place, reason in reasons.items():
        outcome = guidino("example", "-o", place, "--overwrite")
        assert outcome.code == 2
        assert reason in outcome.stderr
    assert (tmp_path / "examples" / "thesis.tex").exists()
