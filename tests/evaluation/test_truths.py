"""True masks: from folders, splits and tables."""

from collections.abc import Callable
from pathlib import Path

import pytest

from guidino_cli.errors import DataError
from guidino_cli.evaluation.cases import Pairing
from guidino_cli.evaluation.truths import align_pairings, find_truths, read_pairs

Paired = Callable[[Pairing], dict[str, str | None]]


def test_a_table_of_pairs_gives_files_and_fields(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("case,prediction,truth,scanner\np1,x/one.png,y/uno.png,A\np2,,y/due.png,B\n", encoding="utf-8")
    found = read_pairs(table)
    assert [pair.prediction for pair in found.pairs] == [tmp_path / "x/one.png", None]
    assert found.pairs[1].truth.fields == {"scanner": "B"}


def test_a_link_whose_target_is_gone_is_a_lost_mask_and_no_missing_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "b.png").symlink_to(tmp_path / "gone")
    (tmp_path / "c.png").symlink_to("c.png")
    (tmp_path / "d.txt").symlink_to(tmp_path / "gone")
    (tmp_path / "e.png").mkdir()
    assert [truth.case for truth in find_truths(tmp_path, split="test").truths] == ["a", "b", "c"]


def test_a_table_without_its_columns_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="prediction,truth"):
        read_pairs(tmp_path / "pairs.csv")


def _table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["prediction,truth", *rows]))
    return path


def test_pairs_of_two_tables_are_aligned(paired: Paired, tmp_path: Path) -> None:
    tables = [
        _table(tmp_path / "1.csv", "x.png,a.png", "y.png,b.png"),
        _table(tmp_path / "2.csv", "v.png,b.png", ",a.png"),
    ]
    first, second = align_pairings([read_pairs(table) for table in tables], tables)
    assert paired(first) == {"a": "x.png", "b": "y.png"}
    assert list(paired(second).items()) == [("a", None), ("b", "v.png")]


@pytest.mark.parametrize(
    ("row", "message"),
    [("x.png,c.png", r"other cases than .*1\.csv \(a, c\)"), ("x.png,sub/a.png", "the truth of a is")],
)
def test_tables_with_different_truths_are_an_error(row: str, message: str, tmp_path: Path) -> None:
    tables = [_table(tmp_path / "1.csv", "x.png,a.png"), _table(tmp_path / "2.csv", row)]
    with pytest.raises(DataError, match=message):
        align_pairings([read_pairs(table) for table in tables], tables)


Folder = Callable[..., Path]
Matched = Callable[[list[str], list[str]], Pairing]


def test_hidden_files_are_not_masks(matched: Matched, paired: Paired) -> None:
    assert paired(matched(["a.png", "._a.png", ".DS_Store"], ["a.png"])) == {"a": "a.png"}


def test_an_empty_folder_is_an_error(matched: Matched) -> None:
    with pytest.raises(DataError, match="holds no masks"):
        matched([], ["a.png"])


def test_two_truths_with_one_name_are_an_error(matched: Matched) -> None:
    with pytest.raises(DataError, match="two masks for a"):
        matched(["a.png"], ["a.png", "a.jpg"])


def test_a_folder_with_masks_in_subfolders_suggests_one_of_them(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    folder(tmp_path / "data" / "images", "a.jpg")
    folder(tmp_path / "data" / "masks", "a.png")
    with pytest.raises(DataError, match=r"holds no masks itself; below it are images/, masks/: did you mean .*masks\?"):
        find_truths(tmp_path / "data", split="test")
