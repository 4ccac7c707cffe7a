"""`guidino audit` through the command line: order, files, exit codes."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guidino_cli.data.cases import read_label_map
from guidino_cli.data.image_writing import write_label_map

pytestmark = pytest.mark.usefixtures("coarse_figures")
Guidino = Callable[..., Any]


@pytest.fixture
def data(make_data: Callable[..., Path]) -> Path:
    """Ten cases: case 3 has an inverted mask, case 5 the mask of case 6."""
    folder = make_data(train=7, val=2, test=1)
    write_label_map(folder / "masks" / "case3.png", 1 - read_label_map(folder / "masks" / "case3.png"))
    write_label_map(folder / "masks" / "case5.png", read_label_map(folder / "masks" / "case6.png"))
    return folder


@pytest.mark.figures
def test_the_inverted_mask_comes_first_and_the_mask_of_another_image_second(
    data: Path, tmp_path: Path, guidino: Guidino
) -> None:
    outcome = guidino("audit", data, "-o", tmp_path / "report")
    assert outcome.code == 0
    rows = list(csv.DictReader((tmp_path / "report" / "audit.csv").read_text().splitlines()))
    assert [row["case"] for row in rows[:2]] == ["case3", "case5"]
    assert [row["certain"] for row in rows] == ["True"] + ["False"] * 9
    assert float(rows[0]["agreement"]) < 0.2
    assert float(rows[1]["agreement"]) < 0.8 < float(rows[2]["agreement"])
    content = json.loads((tmp_path / "report" / "audit.json").read_text())
    assert [item["case"] for item in content["masks"]] == [row["case"] for row in rows]
    assert content["masks"][0]["reasons"][0]["kind"] == "inverted"
    assert content["backbone"].startswith("guidino-tiny")
    assert Image.open(tmp_path / "report" / "contact_sheet.png").width > 600
    assert "case3" in outcome.stdout
    assert "10 masks of all parts compared with features of guidino-tiny; 1 certainly wrong" in outcome.stdout


def test_without_a_backbone_masks_are_compared_with_each_other(data: Path, tmp_path: Path, guidino: Guidino) -> None:
    outcome = guidino("audit", data, "--backbone", "none", "-o", tmp_path / "report")
    assert outcome.code == 0
    first, *rest = json.loads((tmp_path / "report" / "audit.json").read_text())["masks"]
    assert (first["case"], first["certain"], first["agreement"]) == ("case3", True, None)
    assert not any(item["reasons"] for item in rest)


def test_strict_ends_with_the_exit_code_of_a_gate(data: Path, guidino: Guidino) -> None:
    outcome = guidino("audit", data, "--backbone", "none", "--strict")
    assert outcome.code == 8
    assert outcome.stderr == "guidino: 1 mask certainly wrong (case3)\n"


def test_strict_passes_without_a_certain_fault(make_data: Callable[..., Path], guidino: Guidino) -> None:
    assert guidino("audit", make_data(train=8), "--backbone", "none", "--strict").code == 0


def test_a_damaged_image_is_named_and_the_others_are_compared(data: Path, tmp_path: Path, guidino: Guidino) -> None:
    (data / "images" / "case0.png").write_bytes(b"no image")
    outcome = guidino("audit", data, "--backbone", "none", "-o", tmp_path / "report")
    assert outcome.code == 6
    assert "1 of 10 cases cannot be read" in outcome.stderr
    assert "case0.png" in outcome.stderr
    content = json.loads((tmp_path / "report" / "audit.json").read_text())
    assert len(content["masks"]) == 9
    assert len(content["failed"]) == 1


def test_a_mask_of_another_size_is_named(data: Path, guidino: Guidino) -> None:
    write_label_map(data / "masks" / "case1.png", np.zeros((8, 8), dtype=np.uint8))
    outcome = guidino("audit", data, "--backbone", "none")
    assert outcome.code == 6
    assert "case1.png" in outcome.stderr


def test_one_part_of_the_data_can_be_chosen(data: Path, guidino: Guidino) -> None:
    outcome = guidino("audit", data, "--backbone", "none", "--split", "val")
    assert "2 masks of the val part" in outcome.stdout
    assert guidino("audit", data, "--split", "all-of-it").code == 2


def test_a_folder_that_is_not_prepared_is_refused_before_anything_is_written(tmp_path: Path, guidino: Guidino) -> None:
    (tmp_path / "raw").mkdir()
    outcome = guidino("audit", tmp_path / "raw", "-o", tmp_path / "report")
    assert outcome.code == 3
    assert "guidino prepare" in outcome.stderr
    assert not (tmp_path / "report").exists()


def test_an_unknown_backbone_is_refused(data: Path, guidino: Guidino) -> None:
    outcome = guidino("audit", data, "--backbone", "guidino-tinny")
    assert outcome.code == 2
    assert "guidino-tiny" in outcome.stderr


def test_remarks_of_prepare_are_repeated(data: Path, guidino: Guidino) -> None:
    manifest = data / "cases.json"
    content = json.loads(manifest.read_text())
    content["source"] = {"warnings": [], "notes": ["other/ is not used"]}
    manifest.write_text(json.dumps(content))
    assert "remark of prepare: other/ is not used" in guidino("audit", data, "--backbone", "none").stdout


def test_masks_shifted_by_one_case_are_named_and_fail_strict(make_data: Callable[..., Path], guidino: Guidino) -> None:
    folder = make_data(train=12, val=2, test=1)
    paths = [folder / "masks" / f"case{index}.png" for index in range(15)]
    masks = [read_label_map(path) for path in paths]
    for index, path in enumerate(paths):
        write_label_map(path, masks[(index + 1) % 15])
    outcome = guidino("audit", folder, "--strict")
    assert outcome.code == 8
    assert "guidino: masks shifted by one? From case" in outcome.stderr
    assert "images fit the mask of the case before them" in outcome.stderr


def test_a_mask_with_a_reason_is_listed_although_its_image_confirms_it(make_data: Callable[..., Path]) -> None:
    from guidino_cli.commands.audit_report import AuditReport
    from guidino_cli.data.manifest import load_manifest
    from guidino_cli.preparation.mask_audit import Suspicion
    from guidino_cli.preparation.mask_ranking import RankedMask

    ranking = [RankedMask(f"c{index}", 0.9, "a", ()) for index in range(30)]
    ranking[25] = RankedMask("c25", 0.99, "a", (Suspicion("c25", "area", "small", 4.0),))
    manifest = load_manifest(make_data())
    report = AuditReport(manifest, "all", {}, ranking, {}, shift="", failed=[], backbone="")
    assert [rank for rank, _ in report.worst(10)] == [1, 2, 3, 4, 5, 6, 7, 8, 9, 26]
    assert report.tenth == 3
