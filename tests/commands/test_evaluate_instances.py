"""`guidino evaluate` of instance maps: what became of the true instances, in the tables and in the pictures."""

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from guidino_cli.plots.instances import INSTANCE_LEGEND, dominant_partner, edges_between, instance_errors

Run = Callable[..., int]

# Three instances: the first is split, the others merge, mostly in the place of the third; a fourth is predicted where
# there is nothing.
TRUTH, PREDICTION = np.zeros((2, 40, 40), dtype=np.uint16)
TRUTH[2:12, 2:12], TRUTH[2:12, 20:29], TRUTH[2:12, 29:40] = 500, 2, 3
PREDICTION[2:12, 2:7], PREDICTION[2:12, 7:12], PREDICTION[2:12, 20:40], PREDICTION[30:35, 5:10] = 9, 8, 7, 6


@pytest.fixture
def report(tmp_path: Path, run: Run) -> Callable[..., Path]:
    """Score one pair of maps, as PNG or, of volumes, as NIfTI; the folder of the report."""

    def call(truth: np.ndarray = TRUTH, prediction: np.ndarray = PREDICTION, metrics: str = "are,voi") -> Path:
        for side, labels in (("truth", truth), ("predictions", prediction)):
            (tmp_path / side).mkdir()
            if labels.ndim == 2:
                Image.fromarray(labels).save(tmp_path / side / "a.png")
            else:
                nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / side / "a.nii.gz")
        words = ("evaluate", tmp_path / "predictions", tmp_path / "truth", "--metrics", metrics)
        assert run(*words, "-o", tmp_path / "report") == 0
        return tmp_path / "report"

    return call


def test_each_true_instance_has_a_row(
    report: Callable[..., Path], read_rows: Callable[[Path], list[dict[str, str]]]
) -> None:
    rows = read_rows(report() / "instances.csv")
    assert [(row["instance"], row["pixels"], row["status"], row["parts"]) for row in rows] == [
        ("2", "90", "merged", ""),
        ("3", "110", "merged", "7"),
        ("500", "100", "split", "9 8"),
    ]


@pytest.mark.parametrize(("metrics", "is_shown"), [("are,voi", False), ("are,dice", True)])
def test_the_overlap_of_all_instances_is_shown_only_where_it_was_asked_for(
    metrics: str, is_shown: bool, report: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two merged instances have a Dice of 1 together."""
    folder = report(metrics=metrics)
    texts = (capsys.readouterr().out, (folder / "report.md").read_text(), (folder / "report.html").read_text())
    assert [("pooled over all pixels" in text.lower()) for text in texts] == [is_shown, is_shown, False]
    assert [("Dice" in text) for text in texts] == [is_shown] * 3


def test_their_numbers_are_in_every_report(report: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    folder = report()
    counts = {"found": 0, "split": 1, "merged": 2, "split and merged": 0, "missed": 0, "extra": 1}
    assert json.loads((folder / "report.json").read_text())["instances"] == counts
    sentence = "3 true instances: 0 found, 1 split, 2 merged, 0 split and merged, 0 missed; 1 predicted instance mostly"
    for text in (capsys.readouterr().out, (folder / "report.md").read_text(), (folder / "report.html").read_text()):
        assert sentence in " ".join(text.split())


def pictures(page: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(item)))) for item in found]


def test_the_page_draws_truth_and_prediction_beside_each_other(report: Callable[..., Path]) -> None:
    page = (report() / "report.html").read_text()
    assert all(f"</i>{name}</span>" in page for name in INSTANCE_LEGEND)
    picture = pictures(page)[0]
    assert picture.shape[:2] == (40, 82)  # twice the width and a gap of two pixels


def test_a_volume_is_drawn_in_the_slice_with_most_instances(report: Callable[..., Path]) -> None:
    truth, prediction = np.zeros((2, 40, 40, 5), dtype=np.uint16)
    truth[..., 3], prediction[..., 3] = TRUTH, PREDICTION
    page = (report(truth, prediction) / "report.html").read_text()
    assert "slice 4 of 5 along the third axis, the one with most instances" in page


def test_instances_have_the_colour_of_what_became_of_them_on_both_sides() -> None:
    statuses = {500: "split", 2: "merged", 3: "merged"}
    picture = instance_errors(np.zeros((40, 40)), PREDICTION, TRUTH, statuses=statuses, extra=(6,))
    opacity = 0.55
    for (row, column), name in {
        (5, 5): "split", (5, 25): "merged", (5, 42 + 4): "split", (5, 42 + 25): "merged",
        (32, 42 + 7): "predicted in the background",
    }.items():  # fmt: skip
        np.testing.assert_allclose(picture[row, column], np.array(INSTANCE_LEGEND[name]) * opacity, atol=1)
    assert picture[32, 7].tolist() == [0, 0, 0]


def test_a_white_line_separates_two_instances_of_one_colour() -> None:
    edges = edges_between(np.array([[1, 1, 2, 2]]))
    assert edges.tolist() == [[False, True, False, False]]


def test_the_partner_of_an_instance_covers_most_of_it() -> None:
    assert dominant_partner(np.array([1, 1, 1, 2, 2]), np.array([5, 5, 6, 0, 0])) == {1: 5, 2: 0}


def test_prepared_classes_are_still_refused(
    tmp_path: Path, run: Run, make_data: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data()
    assert run("evaluate", data / "masks", data, "--metrics", "voi") == 2
    assert "prepare it with --instances" in capsys.readouterr().err
