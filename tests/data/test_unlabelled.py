"""Data set of unlabelled images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from guidino_cli.data.dataset import SampleIndex
from guidino_cli.data.unlabelled import UnlabelledDataset, find_unlabelled_images
from guidino_cli.errors import DataError


def _save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_images_are_found_recursively_without_other_files(tmp_path: Path) -> None:
    wanted = [_save(tmp_path / name, np.zeros((4, 4))) for name in ("b.png", "deep/er/a.jpg")]
    (tmp_path / "notes.txt").write_text("x")
    assert find_unlabelled_images(tmp_path) == wanted


@pytest.mark.parametrize("name", ["missing", "empty", "file.txt"])
def test_a_folder_without_images_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("x")
    with pytest.raises(DataError, match=name):
        find_unlabelled_images(tmp_path / name)


@pytest.mark.parametrize("name", ["masks/a.png", "deep/labelsTr/a.png"])
def test_a_folder_with_masks_is_refused(tmp_path: Path, name: str) -> None:
    for path in ("images/a.png", name):
        _save(tmp_path / path, np.zeros((4, 4)))
    with pytest.raises(DataError, match="holds masks too"):
        find_unlabelled_images(tmp_path)


def test_a_prepared_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cases.json").write_text("{}")
    _save(tmp_path / "contact_sheet.png", np.zeros((4, 4)))
    with pytest.raises(DataError, match="made by `guidino prepare`"):
        find_unlabelled_images(tmp_path)


def test_a_sample_is_a_square_with_aspect_index_and_epoch(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", np.full((10, 30, 3), 9))
    item = UnlabelledDataset([path], side=16, cache_gb=1)[SampleIndex(epoch=4, case=0)]
    assert item.pixels.shape == (3, 16, 16)
    assert item.pixels.dtype == torch.uint8
    assert item.pixels.unique().tolist() == [9]
    assert (float(item.aspect), int(item.image_index), int(item.epoch)) == (3.0, 0, 4)


def test_decoded_images_are_cached_up_to_the_limit(tmp_path: Path) -> None:
    paths = [_save(tmp_path / f"{name}.png", np.full((8, 8, 3), 5)) for name in "ab"]
    images = UnlabelledDataset(paths, side=8, cache_gb=1.5 * 3 * 64 / 1e9)
    for case in (0, 1):
        images[SampleIndex(0, case)]
    for path in paths:
        path.unlink()
    assert images[SampleIndex(1, 0)].pixels.unique().tolist() == [5]
    with pytest.raises(DataError, match=r"b\.png"):
        images[SampleIndex(1, 1)]


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.png", np.zeros((8, 8, 3)))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"a\.png"):
        UnlabelledDataset([path], side=8, cache_gb=1)[SampleIndex(0, 0)]
