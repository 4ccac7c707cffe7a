"""`guidino plan` on volumes: table, reasons, and preset files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from volumes_data import make_volumes

from guidino_cli.config import load_config

Guidino = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Widths of 48, 49 and 50: the median is halved three times, to 25, 13 and 7, and makes 7 x 8 = 56."""
    return make_volumes(tmp_path, "boxes", channels=("CT",), shape=(20, 64, 48), spacing_mm=(4.0, 0.8, 0.8))


def test_both_configurations_are_shown_in_80_columns(
    data: Path, guidino: Guidino, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    result = guidino("plan", data)
    assert result.code == 0
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "2-D, slices" in result.stdout
    assert "3-D, patches" in result.stdout
    assert [line.split() for line in lines if line.startswith("patch ")] == [["patch", "56x56", "20x64x56"]]
    assert "--dims 2 for slices" in result.stderr


def test_the_preset_of_patches_is_written(data: Path, tmp_path: Path, guidino: Guidino) -> None:
    out = tmp_path / "mine.yaml"
    result = guidino("plan", data, "-o", out, "--steps", 500)
    assert result.code == 0
    assert f"guidino train --preset {out} --data {data} -o RUN" in result.stderr
    config = load_config(out)
    assert (config.data.dims, config.data.patch_size) == (3, [20, 64, 56])
    assert (config.train.epochs, config.train.steps) == (2, 250)
    assert config.model.segmenter.options["strides"][1] == [1, 2, 2]


def test_the_preset_of_slices_is_written(data: Path, tmp_path: Path, guidino: Guidino) -> None:
    out = tmp_path / "mine.yaml"
    assert guidino("plan", data, "-o", out, "--dims", 2, "--encoder", "residual").code == 0
    config = load_config(out)
    assert (config.data.dims, config.data.image_size, config.model.segmenter.name) == (2, 56, "nnunet")


def test_volumes_of_other_spacings_are_prepared_first(tmp_path: Path, guidino: Guidino) -> None:
    """The 50 % larger pixels of one of three volumes."""
    data = make_volumes(tmp_path, shape=(20, 64, 48), spacing_mm=(4.0, 0.8, 0.8))
    text = (data / "cases.json").read_text(encoding="utf-8")
    (data / "cases.json").write_text(text.replace("[4.0, 0.8, 0.8]", "[4.0, 1.2, 1.2]", 1), encoding="utf-8")
    result = guidino("plan", data)
    assert "--spacing auto" in result.stdout
    assert "--spacing keep,0.8,0.8" in result.stdout
    for dims, option in ((2, "keep,0.8,0.8"), (3, "auto")):
        written = guidino("plan", data, "-o", tmp_path / f"{dims}.yaml", "--dims", dims)
        assert f"guidino prepare SOURCE -o DATA --spacing {option}" in written.stderr


def test_a_spacing_without_a_fold_is_given_in_numbers(tmp_path: Path, guidino: Guidino) -> None:
    """`prepare --spacing auto` looks at all training volumes, whatever the fold."""
    data = make_volumes(tmp_path, shape=(20, 64, 48), spacing_mm=(4.0, 0.8, 0.8), fold_count=2, train=4)
    text = (data / "cases.json").read_text(encoding="utf-8")
    (data / "cases.json").write_text(text.replace("[4.0, 0.8, 0.8]", "[4.0, 1.2, 1.2]", 2), encoding="utf-8")
    assert "--spacing 4," in guidino("plan", data, "--fold", 1).stdout


def test_json_holds_fingerprint_and_proposal(data: Path, guidino: Guidino) -> None:
    report = json.loads(guidino("plan", data, "--json").stdout)
    assert report["fingerprint"]["channels"] == ["CT"]
    assert report["proposal"]["patches"]["patch"] == [20, 64, 56]


def test_volumes_of_one_slice_have_no_preset_of_patches(tmp_path: Path, guidino: Guidino) -> None:
    data = make_volumes(tmp_path, num_classes=1, shape=(1, 64, 48), train=2, spacing_mm=(4.0, 0.8, 0.8))
    result = guidino("plan", data, "--dims", 3)
    assert result.code == 3
    assert "too few slices" in result.stderr
    assert "Nothing in 3-D" in guidino("plan", data).stdout
