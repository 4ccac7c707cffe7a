"""An image or a mask replaced after `guidino prepare` is refused by the commands that read the prepared folder."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guidino_cli.commands.prediction.jobs import find_jobs
from guidino_cli.errors import DataError

pytestmark = pytest.mark.usefixtures("coarse_figures")
Guidino = Callable[..., Any]
SETTINGS = ["--preset", "own-plain-unet", "--set", "data.image_size=32", "--set", "model.segmenter.options.width=4"]


@pytest.fixture
def data(tmp_path: Path, guidino: Guidino) -> Path:
    """Ten prepared pairs; the images are uncompressed and stay in their source folder."""
    source = tmp_path / "source"
    for folder in ("images", "masks"):
        (source / folder).mkdir(parents=True)
    for index in range(10):
        pixels = np.random.default_rng(index).integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(source / "images" / f"c{index}.bmp")
        mask = np.zeros((40, 48), dtype=np.uint8)
        mask[10:30, 10 + index : 30 + index] = 255
        Image.fromarray(mask).save(source / "masks" / f"c{index}.png")
    time.sleep(0.05)
    assert guidino("prepare", source, "-o", tmp_path / "data").code == 0
    return tmp_path / "data"


def split_of(data: Path, split: str) -> str:
    from guidino_cli.data.manifest import load_manifest

    return next(case.id for case in load_manifest(data).cases if case.split == split)


def replace_image(data: Path, split: str) -> Path:
    path = data.parent / "source" / "images" / f"{split_of(data, split)}.bmp"
    size = path.stat().st_size
    Image.new("RGB", (48, 40), (200, 10, 10)).save(path)
    assert path.stat().st_size == size
    return path


@pytest.mark.parametrize("extra", [["--dry-run"], []])
def test_train_refuses_a_replaced_image_before_it_writes_anything(
    data: Path, tmp_path: Path, guidino: Guidino, extra: list[str]
) -> None:
    path = replace_image(data, "train")
    outcome = guidino("train", *SETTINGS, "--data", data, "-o", tmp_path / "run", "--device", "cpu", *extra)
    assert outcome.code == 3
    assert path.name in outcome.stderr
    assert "run `guidino prepare` again" in outcome.stderr
    assert not (tmp_path / "run").exists()


def test_unchanged_data_passes_a_dry_run(data: Path, tmp_path: Path, guidino: Guidino) -> None:
    outcome = guidino("train", *SETTINGS, "--data", data, "-o", tmp_path / "run", "--device", "cpu", "--dry-run")
    assert outcome.code == 0


def test_predict_refuses_a_replaced_image_of_the_split_it_predicts(data: Path) -> None:
    replace_image(data, "test")
    with pytest.raises(DataError, match="1 file has changed since `guidino prepare`"):
        find_jobs([data], "test")
    assert len(find_jobs([data], "val")) == 1


def test_evaluate_refuses_a_replaced_truth(data: Path, tmp_path: Path, guidino: Guidino) -> None:
    case = split_of(data, "test")
    path = data / "masks" / f"{case}.png"
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / f"{case}.png").write_bytes(path.read_bytes())
    mask = np.asarray(Image.open(path)).copy()
    path.unlink()
    Image.fromarray(1 - mask).save(path, compress_level=3)
    outcome = guidino("evaluate", tmp_path / "predictions", data)
    assert outcome.code == 3
    assert path.name in outcome.stderr


def test_audit_compares_what_is_there_and_warns(data: Path, guidino: Guidino) -> None:
    path = replace_image(data, "train")
    outcome = guidino("audit", data, "--backbone", "none")
    assert outcome.code == 0
    assert path.name in outcome.stderr


def test_prepare_again_makes_the_data_usable(data: Path, tmp_path: Path, guidino: Guidino) -> None:
    replace_image(data, "train")
    assert guidino("prepare", tmp_path / "source", "-o", data, "--overwrite").code == 0
    outcome = guidino("train", *SETTINGS, "--data", data, "-o", tmp_path / "run", "--device", "cpu", "--dry-run")
    assert outcome.code == 0


def test_copied_images_are_recognised_by_their_time(data: Path, tmp_path: Path, guidino: Guidino) -> None:
    assert guidino("prepare", tmp_path / "source", "-o", tmp_path / "copied", "--copy").code == 0
    original, copy = (folder / "images" / "c3.bmp" for folder in (tmp_path / "source", tmp_path / "copied"))
    assert copy.stat().st_mtime_ns == original.stat().st_mtime_ns
    replace_image(data, "train")
    assert len(find_jobs([tmp_path / "copied"], "all")) == 10
