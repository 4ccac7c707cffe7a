"""`guidino dicom` through the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import make_dataset, make_segmentation, plane

SECRETS = ("Doe", "P-007", "1.2.3.2", "1.2.3.1")


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A regular series, one with a gap, a segmentation, a report and a file that is no DICOM."""
    for uid, heights in (("1.2.3.2", (0, 2, 4)), ("1.2.3.9", (0, 2, 6))):
        for number, z in enumerate(heights):
            path = tmp_path / uid[-1] / f"{number}.dcm"
            path.parent.mkdir(exist_ok=True)
            dataset = make_dataset(
                np.zeros((4, 6), dtype=np.int16), SeriesInstanceUID=uid, ImagePositionPatient=[0, 0, z]
            )
            dataset.save_as(path, enforce_file_format=True)
    (tmp_path / "rest").mkdir()
    make_segmentation(tmp_path / "rest" / "seg.dcm", [(1, 0.0, plane(0, 0))])
    (tmp_path / "rest" / "notes.dcm").write_text("no image\n" * 50)
    report = make_dataset(np.zeros((4, 6), dtype=np.int16), Modality="SR", Rows=None, Columns=None, PixelData=None)
    report.save_as(tmp_path / "rest" / "report.dcm", enforce_file_format=True)
    return tmp_path


def test_series_are_listed_with_what_is_wrong_and_without_the_patient(
    archive: Path, guidino: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = guidino("dicom", archive)
    assert done.code == 0
    lines = done.stdout.splitlines()
    # A path is not broken, however long it is.
    assert max(len(line) for line in lines if str(archive) not in line) <= 80
    rows = [line.split() for line in lines if " CT " in line]
    assert [row[1:] for row in rows] == [
        ["CT", "thorax", "6x4x3", "0.5x0.75x2", "yes"],
        ["CT", "thorax", "6x4x3", "0.5x0.75x3", "no"],
    ]
    assert f"{rows[1][0]}: 1 slice is missing: 4.00 mm from slice 2 to 3 of 3, 2.00 mm" in done.stdout
    assert "1 segmentation (SEG)" in done.stdout
    assert "objects that are no images: 1 SR" in done.stdout
    assert "notes.dcm: " in done.stdout.replace("\n  ", " ")
    assert not any(secret in done.stdout + done.stderr for secret in SECRETS)


def test_json_has_the_same_without_a_uid(archive: Path, guidino: Callable[..., Any]) -> None:
    done = guidino("dicom", archive, "--json")
    found = json.loads(done.stdout)
    assert [item["size"] for item in found["series"]] == [[6, 4, 3], [6, 4, 3]]
    assert [item["problem"] is None for item in found["series"]] == [True, False]
    assert all(len(item["key"]) == len(item["patient"]) == 12 for item in found["series"])
    assert not any(secret in done.stdout for secret in SECRETS)


def test_a_single_slice_is_a_volume_on_request(archive: Path, guidino: Callable[..., Any]) -> None:
    for name in ("1.dcm", "2.dcm"):
        (archive / "2" / name).unlink()
    lines = [json.loads(guidino("dicom", archive / "2", "--json", *more).stdout) for more in ([], ["--allow-single"])]
    assert [found["series"][0]["problem"] for found in lines] == ["it has 1 slice, expected at least 2", None]


def test_folders_without_dicom_files_end_with_exit_code_3(tmp_path: Path, guidino: Callable[..., Any]) -> None:
    (tmp_path / "a.txt").write_text("text")
    done = guidino("dicom", tmp_path)
    assert (done.code, done.stderr.count("\n")) == (3, 1)
    assert "holds no DICOM files" in done.stderr
    assert guidino("dicom", tmp_path / "gone").code == 3


def test_control_characters_of_a_description_are_escaped(archive: Path, guidino: Callable[..., Any]) -> None:
    path = archive / "2" / "0.dcm"
    for number in range(3):
        dataset = make_dataset(
            np.zeros((4, 6), dtype=np.int16),
            SeriesDescription="red\x1b[31m [bold]",
            ImagePositionPatient=[0, 0, 2 * number],
        )
        dataset.save_as(path.with_name(f"{number}.dcm"), enforce_file_format=True)
    done = guidino("dicom", archive / "2")
    assert "\x1b" not in done.stdout
    assert "[bold]" in done.stdout
