"""What `guidino models` shows."""

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from guidino_cli.models import SEGMENTERS

Guidino = Callable[..., Any]


def test_every_network_has_a_row_that_80_columns_hold(guidino: Guidino, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = guidino("models").stdout.splitlines()
    assert [line.split()[0] for line in lines[1 : len(SEGMENTERS) + 1]] == list(SEGMENTERS)
    assert max(map(len, lines)) <= 80


def test_one_network_is_described_with_its_options_and_presets(guidino: Guidino) -> None:
    text = guidino("models", "nnwnet").stdout
    assert "width=16" in text
    assert "kvasir-nnwnet" in text


def test_an_unknown_network_suggests_the_nearest(guidino: Guidino) -> None:
    result = guidino("models", "nwnet")
    assert result.code == 2
    assert "did you mean 'nnwnet'" in result.stderr


def test_json_says_where_a_guide_can_act(guidino: Guidino) -> None:
    (row,) = json.loads(guidino("models", "segdino", "--json").stdout)["networks"]
    assert row["guide_at"] == ["bottleneck", "features"]
    assert row["backbone"] == "DINOv3 ViT-S/16"


def test_csv_has_a_line_a_network(guidino: Guidino) -> None:
    rows = list(csv.DictReader(io.StringIO(guidino("models", "unet", "nnwnet", "--csv").stdout)))
    assert [row["name"] for row in rows] == ["unet", "nnwnet"]
    assert rows[0]["guide_at"] == "input bottleneck features"
