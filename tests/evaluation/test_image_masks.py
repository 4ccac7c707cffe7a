"""Which mask belongs to which image."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.errors import DataError
from guidino_cli.evaluation.image_masks import find_image_masks


def write(folder: Path, *names: str) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name in names:
        Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).save(folder / name)
    return [folder / name for name in names]


def test_a_mask_has_the_name_of_its_image_or_a_longer_one(tmp_path: Path) -> None:
    images = write(tmp_path / "i", "a.png", "b.png", "c.png")
    exact, long = write(tmp_path / "m", "a.png", "b_mask.png")
    found = find_image_masks(images, tmp_path / "m", class_count=None).paths
    assert found == {images[0].resolve(): exact, images[1].resolve(): long}


def test_the_exact_name_is_preferred(tmp_path: Path) -> None:
    images = write(tmp_path / "i", "a.png")
    _, exact = write(tmp_path / "m", "a_mask.png", "a.png")
    assert find_image_masks(images, tmp_path / "m", class_count=None).paths == {images[0].resolve(): exact}


def test_two_masks_for_one_image_are_an_error(tmp_path: Path) -> None:
    images = write(tmp_path / "i", "a.png")
    write(tmp_path / "m", "a_mask.png", "a_seg.png")
    with pytest.raises(DataError, match=r"more than one mask has its name \(a_mask\.png, a_seg\.png\)"):
        find_image_masks(images, tmp_path / "m", class_count=None)


def test_one_mask_stands_for_one_image_whatever_its_name(tmp_path: Path) -> None:
    images = write(tmp_path / "i", "a.png")
    (mask,) = write(tmp_path / "m", "other.png")
    assert find_image_masks(images, mask, class_count=None).paths == {images[0].resolve(): mask}


def test_no_mask_for_any_image_is_an_error_with_names(tmp_path: Path) -> None:
    images = write(tmp_path / "i", "a.png", "b.png")
    write(tmp_path / "m", "x.png")
    with pytest.raises(DataError, match=r"no mask has the name of an image; looked for a\.png, b\.png"):
        find_image_masks(images, tmp_path / "m", class_count=None)
