"""Fingerprint of the training cases."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.data.image_writing import write_label_map
from guidino_cli.errors import DataError
from guidino_cli.planning.fingerprint import extract_fingerprint
from guidino_cli.types import Case


def _case(folder: Path, number: int, *, size_hw: tuple[int, int], colour: tuple[int, int, int], rows: int) -> Case:
    """An image of one colour whose upper rows are class 1."""
    image, mask = folder / f"{number}.png", folder / f"{number}-mask.png"
    Image.new("RGB", size_hw[::-1], colour).save(image)
    labels = np.zeros(size_hw, dtype=np.uint8)
    labels[:rows] = 1
    write_label_map(mask, labels)
    return Case(str(number), image, mask, "train", None, str(number), size_hw, None)


def test_sizes_colours_and_classes_are_those_of_the_images(tmp_path: Path) -> None:
    cases = [
        _case(tmp_path, 0, size_hw=(10, 20), colour=(100, 0, 50), rows=1),
        _case(tmp_path, 1, size_hw=(20, 20), colour=(200, 0, 50), rows=1),
        _case(tmp_path, 2, size_hw=(40, 10), colour=(0, 0, 0), rows=0),
    ]
    facts = extract_fingerprint(cases, ["background", "polyp", "tool"])
    assert (facts.median_hw, facts.smallest_hw, facts.largest_hw) == ((20, 20), (10, 10), (40, 20))
    assert facts.mean == (150, 0, 50)
    assert facts.deviation == (50, 0, 0)
    assert facts.percentiles == ((100, 0, 50), (200, 0, 50))
    assert not facts.is_grey
    polyp, tool = facts.classes
    assert (polyp.cases, polyp.share, polyp.smallest) == (2, pytest.approx(0.075), pytest.approx(0.05))
    assert (tool.cases, tool.share, tool.smallest) == (0, 0, 0)


def test_a_mask_with_a_class_that_does_not_exist_is_named(tmp_path: Path) -> None:
    case = _case(tmp_path, 0, size_hw=(4, 4), colour=(0, 0, 0), rows=1)
    write_label_map(tmp_path / "0-mask.png", np.full((4, 4), 7, dtype=np.uint8))
    with pytest.raises(DataError, match=r"0-mask\.png: has class 7, expected 0\.\.1"):
        extract_fingerprint([case], ["background", "polyp"])


def test_data_without_a_labelled_case_is_refused() -> None:
    with pytest.raises(DataError, match="no labelled training case"):
        extract_fingerprint([], ["background", "polyp"])


def test_the_three_channels_have_their_own_statistics(tmp_path: Path) -> None:
    """Rows of 0, 100, ..., 900 / 10 in red, of which all are foreground; green and blue are constant."""
    pixels = np.zeros((200, 1, 3), dtype=np.uint8)
    pixels[:, 0, 0], pixels[:, 0, 1] = np.arange(200), 7
    Image.fromarray(pixels).save(tmp_path / "a.png")
    write_label_map(tmp_path / "a-mask.png", np.ones((200, 1), dtype=np.uint8))
    case = Case("a", tmp_path / "a.png", tmp_path / "a-mask.png", "train", None, "a", (200, 1), None)
    unlabelled = replace(case, mask=None)
    done: list[int] = []
    facts = extract_fingerprint([case, unlabelled], ["background", "polyp"], done=lambda: done.append(1))
    assert (facts.cases, len(done)) == (1, 1)
    assert facts.mean == (99.5, 7, 0)
    assert facts.deviation == pytest.approx((np.sqrt((200**2 - 1) / 12), 0, 0))
    # Half a per cent of 200 pixels is one, the darkest; 99.5 % are 199.
    assert facts.percentiles == ((0, 7, 0), (198, 7, 0))


def test_equal_channels_are_grey(tmp_path: Path) -> None:
    grey = _case(tmp_path, 0, size_hw=(4, 4), colour=(9, 9, 9), rows=1)
    assert extract_fingerprint([grey], ["background", "polyp"]).is_grey
    colour = _case(tmp_path, 1, size_hw=(4, 4), colour=(9, 9, 8), rows=1)
    assert not extract_fingerprint([colour, grey], ["background", "polyp"]).is_grey
    assert not extract_fingerprint([grey, colour], ["background", "polyp"]).is_grey


def test_data_without_foreground_has_statistics_of_zero(tmp_path: Path) -> None:
    empty = _case(tmp_path, 0, size_hw=(4, 4), colour=(9, 9, 9), rows=0)
    facts = extract_fingerprint([empty], ["background", "polyp"])
    assert (facts.mean, facts.deviation, facts.classes[0].cases) == ((0, 0, 0), (0, 0, 0), 0)
