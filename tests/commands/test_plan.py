"""`guidino plan`: proposal and written preset."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guidino_cli.config import load_config
from guidino_cli.data.image_writing import write_label_map
from guidino_cli.data.manifest import Manifest, save_manifest
from guidino_cli.models import build_model
from guidino_cli.types import Case

Guidino = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight photographs of 48 x 64 px."""
    folder, cases = tmp_path / "data", []
    folder.mkdir()
    for number in range(8):
        image, mask = folder / f"{number}.png", folder / f"mask{number}.png"
        Image.new("RGB", (64, 48), (number, 90, 30)).save(image)
        write_label_map(mask, np.eye(48, 64, dtype=np.uint8))
        cases.append(Case(str(number), image, mask, "train", None, str(number), (48, 64), 0.02))
    save_manifest(Manifest("dots", ["background", "dot"], cases), folder)
    return folder


def test_the_preset_it_writes_can_be_built(data: Path, tmp_path: Path, guidino: Guidino) -> None:
    out = tmp_path / "mine.yaml"
    result = guidino("plan", data, "-o", out, "--steps", 40)
    assert result.code == 0
    assert f"guidino train --preset {out}" in result.stderr
    config = load_config(out)
    # nnU-Net halves 48 x 64 px three times, and 56 px is the square of nearest area that can be. 5 % of eight cases are
    # less than the two patches of the smallest batch.
    assert (config.data.image_size, config.train.batch_size, config.train.epochs) == (56, 2, 10)
    assert config.model.segmenter.options["widths"] == [32, 64, 128, 256]
    assert build_model(config.model, num_classes=2).segmenter.stride == 8


def test_without_a_file_the_preset_is_printed(data: Path, guidino: Guidino) -> None:
    assert "name: nnunet" in guidino("plan", data).stdout


def test_json_holds_fingerprint_and_proposal(data: Path, guidino: Guidino) -> None:
    report = json.loads(guidino("plan", data, "--json").stdout)
    assert report["fingerprint"]["median_hw"] == [48, 64]
    assert report["proposal"]["nnunet"]["patch_hw"] == [48, 64]


def test_a_file_that_exists_is_kept(data: Path, tmp_path: Path, guidino: Guidino) -> None:
    out = tmp_path / "mine.yaml"
    out.write_text("mine")
    result = guidino("plan", data, "-o", out)
    assert result.code == 2
    assert "--overwrite" in result.stderr
    assert out.read_text() == "mine"


def test_an_unknown_encoder_suggests_the_nearest(data: Path, guidino: Guidino) -> None:
    result = guidino("plan", data, "--encoder", "residul")
    assert result.code == 2
    assert "did you mean 'residual'" in result.stderr
