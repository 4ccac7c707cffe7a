"""Mask readers: one rule for a folder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.errors import DataError
from guidino_cli.evaluation.masks import MaskReader, ReadOptions, UnexpectedValueError, make_reader


def folder(place: Path, masks: list[np.ndarray]) -> list[Path]:
    paths = [place / f"{index:03}.png" for index in range(len(masks))]
    for path, mask in zip(paths, masks, strict=True):
        Image.fromarray(mask.astype(np.uint8)).save(path)
    return paths


def mask(*values: int) -> np.ndarray:
    return np.array([[0, *values]])


def test_an_empty_mask_does_not_change_the_rule(tmp_path: Path) -> None:
    paths = folder(tmp_path, [mask(0), mask(255), mask(0)])
    reader = make_reader(paths, ReadOptions())
    assert reader.read(paths[1]).labels.tolist() == [[0, 1]]
    assert reader.read(paths[0]).labels.tolist() == [[0, 0]]


def test_a_value_outside_the_sample_is_unexpected(tmp_path: Path) -> None:
    paths = folder(tmp_path, [mask(1)] * 60 + [mask(2)])
    reader = make_reader(paths, ReadOptions())
    with pytest.raises(UnexpectedValueError):
        reader.read(paths[60])
    assert make_reader(paths, ReadOptions(), read_all=True).read(paths[60]).labels.tolist() == [[0, 2]]


def test_a_palette_outside_the_sample_that_contradicts_it_is_refused(tmp_path: Path) -> None:
    paths = folder(tmp_path, [mask(1)] * 61)
    for index, path in enumerate(paths):
        image = Image.open(path)
        image.putpalette([0, 0, 0, 255, 0, 0] if index < 60 else [255, 0, 0, 0, 0, 0])
        image.save(path)
    reader = make_reader(paths, ReadOptions())
    with pytest.raises(UnexpectedValueError):
        reader.read(paths[60])
    with pytest.raises(DataError, match=r"palette index 0 is #000000 in 000\.png and #ff0000 in 060\.png"):
        make_reader(paths, ReadOptions(), read_all=True)
    by_colour = ReadOptions(codes=(((0, 0, 0), 0), ((255, 0, 0), 1)))
    assert make_reader(paths, by_colour).read(paths[60]).labels.tolist() == [[1, 0]]


def test_the_ignored_value_becomes_background_and_is_marked(tmp_path: Path) -> None:
    paths = folder(tmp_path, [mask(1, 255), mask(2, 255)])
    found = make_reader(paths, ReadOptions(ignore=255)).read(paths[0])
    assert found.labels.tolist() == [[0, 1, 0]]
    assert found.ignored is not None
    assert found.ignored.tolist() == [[False, False, True]]


def test_instances_keep_their_numbers(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 7, 60000]], dtype=np.uint16)).save(tmp_path / "a.png")
    reader: MaskReader = make_reader([tmp_path / "a.png"], ReadOptions(instances=True))
    found = reader.read(tmp_path / "a.png")
    assert found.instances is not None
    assert found.instances.tolist() == [[0, 7, 60000]]
    assert found.labels.tolist() == [[0, 1, 1]]


def test_no_readable_mask_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of 1 mask can be read"):
        make_reader([tmp_path / "a.png"], ReadOptions())


def test_masks_too_large_for_memory_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr("guidino_cli.evaluation.masks.read_labels", full)
    with pytest.raises(DataError, match=r"a\.png: not enough memory"):
        make_reader([tmp_path / "a.png"], ReadOptions())
