"""guidino weights: what is brought in, and what is refused, through the real command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_import_writes_a_folder_that_verifies_and_trains(
    guidino: Callable[..., Any], wide_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "imported"
    outcome = guidino("weights", "import", wide_folder / "model.safetensors", "-o", out, "--name", "mine")
    assert outcome.code == 0, outcome.stderr
    record = json.loads((out / "guidino.json").read_text())
    assert record["name"] == "mine"
    assert record["licence"] == "DINOv3 licence"
    assert record["weights_sha256"] in outcome.stdout
    assert "DINOv3 licence" in (out / "LICENCE.txt").read_text()
    verified = guidino("weights", "verify", out)
    assert verified.code == 0, verified.stderr
    assert "ok: as imported from model.safetensors; features differ by 0" in verified.stdout
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_import_replaces_older_weights_only_when_told_so(
    guidino: Callable[..., Any], wide_folder: Path, tmp_path: Path
) -> None:
    words = ("weights", "import", wide_folder, "-o", tmp_path / "out")
    assert guidino(*words).code == 0
    (tmp_path / "out" / "old.txt").touch()
    assert guidino(*words).code == 2
    assert (tmp_path / "out" / "old.txt").exists()
    assert guidino(*words, "--overwrite").code == 0
    assert not (tmp_path / "out" / "old.txt").exists()


def test_import_never_replaces_a_folder_that_holds_something_else(
    guidino: Callable[..., Any], wide_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "weights" / "another-model").mkdir(parents=True)
    outcome = guidino("weights", "import", wide_folder, "-o", tmp_path / "weights", "--overwrite")
    assert outcome.code == 2
    assert "holds something else than a model's weights" in outcome.stderr
    assert (tmp_path / "weights" / "another-model").is_dir()


def test_import_never_replaces_its_own_source(guidino: Callable[..., Any], wide_folder: Path) -> None:
    assert guidino("weights", "import", wide_folder / "model.safetensors", "-o", wide_folder, "--overwrite").code == 2
    assert (wide_folder / "model.safetensors").is_file()


def test_a_failed_import_leaves_nothing(guidino: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_text("<!DOCTYPE html>")
    outcome = guidino("weights", "import", tmp_path / "a.pth", "-o", tmp_path / "out")
    assert outcome.code == 4
    assert "web page" in outcome.stderr
    assert not (tmp_path / "out").exists()
