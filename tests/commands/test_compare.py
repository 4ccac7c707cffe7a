"""`guidino compare` from folders to a report."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Run = Callable[..., int]


@pytest.fixture
def folders(mask_folders: Callable[..., Path]) -> Path:
    """Eight cases: `good` equals the truth, `poor` is shifted by 1 or 2 columns of 4."""
    truth = np.zeros((12, 16), dtype=np.uint8)
    truth[2:6, 2:6] = 1
    same = {str(index): truth for index in range(8)}
    poor = {str(index): np.roll(truth, 1 + index % 2, axis=1) for index in range(8)}
    return mask_folders(truth=same, good=same, poor=poor)


def test_the_better_set_wins_every_case_with_a_small_p_value(folders: Path, run: Run) -> None:
    out = folders / "report"
    assert run("compare", folders / "poor", folders / "good", "--truth", folders / "truth", "-o", out) == 0
    dice = json.loads((out / "comparison.json").read_text(encoding="utf-8"))["contests"][0]
    assert (dice["first"], dice["second"], dice["metric"]) == ("poor", "good", "dice")
    assert (dice["wins"], dice["losses"], dice["effect"]) == (8, 0, 1.0)
    assert dice["mean"] == pytest.approx((0.25 + 0.5) / 2)  # Dice of the shifted squares: 0.75 and 0.5
    assert dice["p_value"] < 0.02
    assert {path.name for path in out.iterdir()} == {
        "comparison.json",
        "comparison.md",
        "per_case.csv",
        "differences.png",
    }


def test_the_table_pairs_cases_by_name(folders: Path, run: Run) -> None:
    out = folders / "report"
    run("compare", folders / "poor", folders / "good", "--truth", folders / "truth", "-o", out, "--metrics", "dice")
    with (out / "per_case.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = [(row["case"], float(row["poor"]), float(row["good"])) for row in rows[:2]]
    assert found == [("0", 0.75, 1.0), ("1", 0.5, 1.0)]


def test_three_sets_give_three_corrected_comparisons(folders: Path, run: Run) -> None:
    out = folders / "report"
    sets = (folders / "poor", folders / "good", folders / "truth")
    assert run("compare", *sets, "--truth", folders / "truth", "--metrics", "dice", "-o", out) == 0
    contests = json.loads((out / "comparison.json").read_text(encoding="utf-8"))["contests"]
    assert [(item["first"], item["second"]) for item in contests] == [
        ("poor", "good"),
        ("poor", "truth"),
        ("good", "truth"),
    ]
    assert contests[0]["p_holm"] == pytest.approx(2 * contests[0]["p_value"])
    assert contests[2]["p_value"] is None


def test_the_output_explains_what_a_p_value_is_not(folders: Path, capsys: pytest.CaptureFixture[str], run: Run) -> None:
    run("compare", folders / "poor", folders / "good", "--truth", folders / "truth")
    assert "not the probability" in " ".join(capsys.readouterr().out.split())


def test_a_missing_prediction_counts_against_its_set(folders: Path, run: Run) -> None:
    (folders / "good" / "0.png").unlink()
    out = folders / "report"
    assert run("compare", folders / "poor", folders / "good", "--truth", folders / "truth", "-o", out) == 6
    assert json.loads((out / "comparison.json").read_text(encoding="utf-8"))["contests"][0]["losses"] == 1


@pytest.mark.parametrize("arguments", [("good",), ("good", "good"), ("good", "poor", "--names", "one")])
def test_sets_without_distinct_names_are_an_error(folders: Path, arguments: tuple[str, ...], run: Run) -> None:
    places = [word if word.startswith("--") or word == "one" else folders / word for word in arguments]
    assert run("compare", *places, "--truth", folders / "truth") == 2


def test_the_options_of_evaluate_apply_to_every_set(folders: Path, run: Run) -> None:
    out = folders / "report"
    arguments = (
        folders / "poor",
        folders / "good",
        "--truth",
        folders / "truth",
        "--metrics",
        "hd95",
        "--spacing",
        "2,0.5",
    )
    assert run("compare", *arguments, "--hd95", "max", "-o", out) == 0
    found = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert (found["unit"], found["policy"]["hd95"]) == ("mm", "max")
    assert found["means"] == {"poor": {"hd95": 0.75}, "good": {"hd95": 0.0}}  # shifts of 1 and 2 columns of 0.5 mm


def test_swapped_arguments_give_a_warning(folders: Path, capsys: pytest.CaptureFixture[str], run: Run) -> None:
    (folders / "truth" / "predictions.json").write_text("{}")
    run("compare", folders / "poor", folders / "good", "--truth", folders / "truth")
    assert "warning: poor: TRUTH holds the predictions.json" in capsys.readouterr().err


def test_tables_pair_predictions_whose_names_do_not_match(folders: Path, run: Run) -> None:
    arguments: list[object] = []
    for name in ("poor", "good"):
        rows = []
        for index in range(8):
            (folders / name / f"{index}.png").rename(folders / name / f"case-{index}-of-{name}.png")
            rows.append(f"{name}/case-{index}-of-{name}.png,truth/{index}.png")
        # The second table is the other way round.
        rows = rows if name == "poor" else rows[::-1]
        (folders / f"{name}.csv").write_text("\n".join(["prediction,truth", *rows]))
        arguments += ["--pairs", folders / f"{name}.csv"]
    sets = (folders / "poor", folders / "good", "--truth", folders / "truth", "--metrics", "dice")
    assert run("compare", *sets, "-o", folders / "report", *arguments) == 0
    with (folders / "report" / "per_case.csv").open(encoding="utf-8") as file:
        found = [(row["case"], float(row["poor"]), float(row["good"])) for row in csv.DictReader(file)]
    assert found[:2] == [("0", 0.75, 1.0), ("1", 0.5, 1.0)]


def test_one_table_for_two_sets_is_an_error(folders: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    table = folders / "pairs.csv"
    table.write_text("prediction,truth\ngood/0.png,truth/0.png\n")
    sets = (folders / "poor", folders / "good", "--truth", folders / "truth")
    assert run("compare", *sets, "--pairs", table) == 2
    assert "1 table for 2 sets of predictions" in capsys.readouterr().err


def test_every_class_has_a_row_in_every_output(
    mask_folders: Callable[..., Path], run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Set `b` lacks the cup in both cases, so its Dice is 1 for the disc, 0 for the cup, and 0.5 on average."""
    disc = np.zeros((12, 16), dtype=np.uint8)
    disc[2:6, 2:6] = 1
    both = disc.copy()
    both[8:10, 2:6] = 2
    names = ("1", "2", "10")
    mask_folders(truth=dict.fromkeys(names, both), a=dict.fromkeys(names, both), b=dict.fromkeys(names, disc))
    out = tmp_path / "report"
    arguments = ("--metrics", "dice", "--classes", "background,disc,cup", "-o", out)
    assert run("compare", tmp_path / "a", tmp_path / "b", "--truth", tmp_path / "truth", *arguments) == 0
    content = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    found = {item["target"]: item["mean"] for item in content["contests"]}
    assert found == {"mean of classes": -0.5, "disc": 0.0, "cup": -1.0}
    assert content["class_means"]["b"] == {"disc": {"dice": 1.0}, "cup": {"dice": 0.0}}
    with (out / "per_case.csv").open(encoding="utf-8") as file:
        rows = [(row["case"], row["target"], float(row["b"])) for row in csv.DictReader(file)]
    assert rows == [
        (case, target, value)
        for target, value in (("mean of classes", 0.5), ("disc", 1.0), ("cup", 0.0))
        for case in names
    ]
    text = (out / "comparison.md").read_text(encoding="utf-8")
    assert text.index("**mean of classes**") < text.index("**disc**") < text.index("**cup**")
    printed = capsys.readouterr().out
    assert "-1.000" in printed[printed.index(" cup") :]


def test_sets_of_other_classes_are_said_to_be(
    mask_folders: Callable[..., Path], run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    truth = np.zeros((12, 16), dtype=np.uint8)
    truth[2:6, 2:6] = 1
    truth[8:10, 2:6] = 2
    stray = np.where(truth == 2, 3, truth)
    mask_folders(truth={"a": truth}, good={"a": truth}, stray={"a": stray})
    assert run("compare", tmp_path / "good", tmp_path / "stray", "--truth", tmp_path / "truth") == 0
    assert "good has no class_3: its means are over other classes" in " ".join(capsys.readouterr().out.split())
