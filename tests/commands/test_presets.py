"""What `guidino presets` shows."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from guidino_cli.config import load_config, load_preset, preset_names

Guidino = Callable[..., Any]


@pytest.fixture
def lines(guidino: Guidino, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", "80")
    return [line.rstrip() for line in guidino("presets").stdout.splitlines()]


def test_every_preset_has_a_row_that_80_columns_hold_unshortened(lines: list[str]) -> None:
    rows = {line.split()[0]: line.split() for line in lines if line and line.split()[0] in preset_names()}
    assert sorted(rows) == preset_names()
    assert all(len(row) == 6 for row in rows.values())
    assert max(map(len, lines)) <= 80
    assert not any("…" in line for line in lines)


def test_a_row_says_network_guide_backbone_adapter_and_row_of_the_paper(lines: list[str]) -> None:
    rows = [line.split() for line in lines]
    assert ["kvasir-seg-guidino", "seg-guidino", "b", "dinov3", "-", "Seg-GuiDINO"] in rows
    assert ["tn3k-segdino", "segdino", "-", "dinov3", "-", "SegDINO"] in rows
    assert ["isic2017-plain-nnunet", "nnunet", "-", "-", "-", "nnUNet"] in rows


def test_the_presets_of_a_data_set_stand_together(lines: list[str]) -> None:
    data_sets = [line.split("-")[0] for line in lines if line and line.split()[0] in preset_names()]
    changes = sum(one != other for one, other in pairwise(data_sets))
    assert changes == len(set(data_sets)) - 1


def test_a_printed_preset_can_be_saved_and_used(guidino: Guidino, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(guidino("presets", "kvasir-segdino").stdout, encoding="utf-8")
    assert load_config(tmp_path / "mine.yaml") == load_preset("kvasir-segdino")


def test_a_data_set_lists_its_own_presets(guidino: Guidino) -> None:
    text = guidino("presets", "tn3k").stdout
    assert "tn3k-segdino" in text
    assert "kvasir-segdino" not in text


def test_a_preset_of_pretraining_is_printed_too(guidino: Guidino) -> None:
    assert "stages:" in guidino("presets", "meddinov3").stdout


def test_an_unknown_preset_suggests_the_nearest(guidino: Guidino) -> None:
    result = guidino("presets", "kvasir-nnwnte")
    assert result.code == 2
    assert "did you mean 'kvasir-nnwnet'" in result.stderr
