"""Predictions without a truth and truths without a prediction, through `guidino evaluate` and `guidino compare`."""

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Run = Callable[..., int]

SQUARE = np.zeros((12, 16), dtype=np.uint8)
SQUARE[2:6, 2:6] = 1
MOVED = np.roll(SQUARE, 2, axis=1)  # Dice 0.5


@pytest.fixture
def folders(mask_folders: Callable[..., Path]) -> Path:
    """Predictions of a, b, x and y; truths of a, b and z."""
    return mask_folders(
        predictions=dict.fromkeys("ab", SQUARE) | dict.fromkeys("xy", MOVED), truth=dict.fromkeys("abz", SQUARE)
    )


@pytest.fixture
def half(folders: Path) -> Path:
    """Predictions of a, b, x and y; truths of a and b only."""
    (folders / "truth" / "z.png").unlink()
    return folders


def report(folders: Path) -> dict:
    return json.loads((folders / "report" / "report.json").read_text(encoding="utf-8"))


def evaluate(run: Run, folders: Path, *more: str) -> int:
    arguments = (folders / "predictions", folders / "truth", "-o", folders / "report", "--overwrite")
    return run("evaluate", *arguments, "--metrics", "dice", *more)


def test_predictions_without_a_truth_are_a_warning_beside_the_mean_in_every_output(
    half: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(run, half) == 0
    expected = "2 of 4 predictions have no truth and are not scored (x.png, y.png)"
    printed = capsys.readouterr()
    before_table = " ".join(printed.out[: printed.out.index("metric")].split())
    assert f"WARNING: {expected}" in before_table
    assert f"warning: {expected}" in printed.err
    out = half / "report"
    assert report(half)["counts"]["extra_predictions"] == 2
    assert any(line.startswith(expected) for line in report(half)["pairing"]["warnings"])
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.index(expected) < page.index('<div class="boxes">')
    assert f"**Warning:** {expected}" in (out / "report.md").read_text(encoding="utf-8")
    output = ElementTree.parse(out / "junit.xml").getroot().find("system-out")
    assert output is not None
    assert expected in (output.text or "")


def test_strict_fails_as_a_gate_and_writes_the_report(half: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(run, half, "--strict") == 8
    assert "predictions without a truth = 0: 2 FAIL (x.png, y.png)" in capsys.readouterr().err
    assert [gate["passed"] for gate in report(half)["gates"]] == [False, True, True]
    for name in "xy":
        (half / "predictions" / f"{name}.png").unlink()
    assert evaluate(run, half, "--strict") == 0


@pytest.mark.parametrize(("arguments", "code"), [((), 6), (("--strict",), 8)])
def test_a_missing_prediction_counts_zero_unless_only_predicted_cases_are_asked_for(
    folders: Path, run: Run, arguments: tuple[str, ...], code: int
) -> None:
    for name in "xy":
        (folders / "predictions" / f"{name}.png").unlink()
    assert evaluate(run, folders, *arguments) == code
    assert report(folders)["summary"][0]["mean"] == pytest.approx(2 / 3)
    assert evaluate(run, folders, "--only-predicted", *arguments) == 0
    content = report(folders)
    assert (content["summary"][0]["mean"], content["summary"][0]["total"]) == (1.0, 2)
    assert (content["pairing"]["left_out"], content["counts"]["left_out"]) == (["z"], 1)
    assert content["settings"]["only_predicted"] is True
    page = (folders / "report" / "report.html").read_text(encoding="utf-8")
    assert "1 of 3 cases have no prediction and are left out by --only-predicted (z)" in page


def test_an_unusable_prediction_is_never_left_out(folders: Path, run: Run) -> None:
    (folders / "predictions" / "b.png").write_bytes(b"damaged")
    assert evaluate(run, folders, "--only-predicted") == 6
    assert report(folders)["summary"][0]["mean"] == 0.5


def test_predictions_of_other_splits_are_no_extra_predictions(
    make_data: Callable[..., Path], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(train=4, val=2, test=1)
    assert run("evaluate", data / "masks", data, "--strict") == 0
    printed = capsys.readouterr()
    assert "matched 1 of 1 (same name); extra predictions 0, of other splits 6" in printed.out
    assert "warning" not in printed.err
    (data / "masks" / "stranger.png").write_bytes((data / "masks" / "case0.png").read_bytes())
    assert run("evaluate", data / "masks", data, "--strict") == 8
    assert "1 of 8 predictions have no truth and are not scored (stranger.png)" in capsys.readouterr().err


def test_compare_keeps_the_cases_that_all_sets_predict(
    folders: Path, run: Run, capsys: pytest.CaptureFixture[str], mask_folders: Callable[..., Path]
) -> None:
    mask_folders(other=dict.fromkeys("bz", MOVED))
    sets = ("compare", folders / "predictions", folders / "other", "--truth", folders / "truth", "--metrics", "dice")
    out = folders / "comparison"
    assert run(*sets, "-o", out, "--only-predicted") == 0
    content = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert content["contests"][0]["n_total"] == 1
    assert content["contests"][0]["mean"] == -0.5
    assert any("2 of 4 predictions have no truth" in line for line in content["warnings"])
    assert "WARNING: predictions: 2 of 4" in capsys.readouterr().out
    assert run(*sets, "--only-predicted", "--strict") == 8
    assert "predictions: gate predictions without a truth = 0: 2 FAIL" in capsys.readouterr().err
    (folders / "other" / "b.png").unlink()
    assert run(*sets, "--only-predicted") == 3


def test_names_that_a_spreadsheet_would_compute_are_quoted_in_tables_and_read_back(
    run: Run, mask_folders: Callable[..., Path], read_rows: Callable[[Path], list[dict[str, str]]]
) -> None:
    case = "=HYPERLINK(1)"
    folders = mask_folders(predictions={case: SQUARE, "b": MOVED}, truth={case: SQUARE, "b": SQUARE})
    assert evaluate(run, folders, "--classes", "background,@polyp") == 0
    rows = {row["case"]: row for row in read_rows(folders / "report" / "per_case.csv")}
    assert set(rows) == {f"'{case}", "b"}
    assert rows["b"]["target"] == "'@polyp"
    assert report(folders)["cases"][0]["case"] == case
    (folders / "report").rename(folders / "old")
    table = folders / "old" / "per_case.csv"
    assert evaluate(run, folders, "--classes", "background,@polyp", "--by", f"{table}:status") == 0
    assert report(folders)["strata"]["ok"][0]["total"] == 2
    assert evaluate(run, folders, "--classes", "background,@polyp", "--baseline", str(folders / "old")) == 0


def test_a_file_name_that_is_not_utf_8_is_scored_and_written_with_an_escape(
    run: Run, mask_folders: Callable[..., Path]
) -> None:
    folders = mask_folders(predictions={"a": SQUARE}, truth={"a": SQUARE})
    for side in ("predictions", "truth"):
        (folders / side / "a.png").rename(folders / side / "caf\udce9.png")
    assert evaluate(run, folders) == 0
    assert report(folders)["cases"][0]["case"] == "caf\udce9"
    assert "caf\\udce9" in (folders / "report" / "per_case.csv").read_text(encoding="utf-8")
