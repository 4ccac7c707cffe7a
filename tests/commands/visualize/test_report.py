"""Guide scores on the terminal and in files."""

import json
from pathlib import Path

import pytest

from guidino_cli.commands.text_tables import print_table
from guidino_cli.commands.visualize.inference import guide_map_names
from guidino_cli.commands.visualize.report import GuideReport, GuideScoreRow, to_csv, to_json
from guidino_cli.engine.guides.scores import MapScore


def test_a_long_name_is_folded_and_no_number_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    headings = ("image", "AUROC", "IoU at 0.5", "values", "network's Dice")
    print_table(headings, [("", [("x" * 60, "0.937", "0.010", "0.48..0.50", "0.374")])])
    text = capsys.readouterr().out
    assert all(word in text for word in (*headings, "0.937", "0.010", "0.48..0.50", "0.374"))
    assert text.count("x") == 60
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("count", "classes", "names"),
    [
        (1, ["background", "polyp"], ["polyp"]),
        (1, ["background", "disc", "cup"], ["foreground"]),
        (2, ["background", "disc", "cup"], ["disc", "cup"]),
        (3, ["background", "disc", "cup"], ["map 1", "map 2", "map 3"]),
    ],
)
def test_a_map_has_the_name_of_the_class_that_it_marks(count: int, classes: list[str], names: list[str]) -> None:
    assert guide_map_names(count, classes) == names


def test_images_are_named_relative_to_the_deepest_folder_that_holds_them(tmp_path: Path) -> None:
    report = GuideReport("run", [], [], ("guide", ""), [0.5])
    score = MapScore("polyp", 0.1, 0.5, 0.9, 0.2, 0.8)
    for place in ("data/../src/images/a.png", "src/more/b.png"):
        report.rows.append(GuideScoreRow(Path(place).stem, str(tmp_path / place), score, (0.5,), 0.7))
    rows = [line.split(",") for line in to_csv(report).splitlines()]
    assert [row[1] for row in rows] == ["image", "images/a.png", "more/b.png"]
    assert json.loads(to_json(report))["image_folder"] == str(tmp_path / "src")
