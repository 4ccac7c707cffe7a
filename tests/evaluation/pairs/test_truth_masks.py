"""Which masks there are to be found."""

from collections.abc import Callable
from pathlib import Path

import pytest

from guidino_cli.errors import DataError
from guidino_cli.evaluation.pairs.cases import Pairing
from guidino_cli.evaluation.pairs.truth_masks import find_truths

Folder = Callable[..., Path]
Matched = Callable[[list[str], list[str]], Pairing]
Paired = Callable[[Pairing], dict[str, str | None]]


def test_hidden_files_are_no_masks(matched: Matched, paired: Paired) -> None:
    assert paired(matched(["a.png", "._a.png", ".DS_Store"], ["a.png"])) == {"a": "a.png"}


def test_an_empty_folder_is_refused(matched: Matched) -> None:
    with pytest.raises(DataError, match="holds no masks"):
        matched([], ["a.png"])


def test_two_truths_of_one_name_are_refused(matched: Matched) -> None:
    with pytest.raises(DataError, match="two masks for a"):
        matched(["a.png"], ["a.png", "a.jpg"])


def test_a_folder_with_masks_below_is_told_from_one_without(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    folder(tmp_path / "data" / "images", "a.jpg")
    folder(tmp_path / "data" / "masks", "a.png")
    with pytest.raises(DataError, match=r"holds no masks itself; below it are images/, masks/: did you mean .*masks\?"):
        find_truths(tmp_path / "data", split="test")
