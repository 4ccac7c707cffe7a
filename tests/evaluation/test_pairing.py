"""Names that belong together, and names that must not be guessed."""

from pathlib import Path

import pytest

from guidino_cli.errors import DataError
from guidino_cli.evaluation.pairing import Pairing, find_truths, in_one_order, match, read_pairs


def folder(place: Path, *names: str) -> Path:
    place.mkdir()
    for name in names:
        (place / name).write_bytes(b"")
    return place


def paired(pairing: Pairing) -> dict[str, str | None]:
    return {pair.truth.case: None if pair.prediction is None else pair.prediction.name for pair in pairing.pairs}


def matched(tmp_path: Path, predictions: list[str], truths: list[str]) -> Pairing:
    truth = find_truths(folder(tmp_path / "truth", *truths), split="test")
    return match(folder(tmp_path / "predictions", *predictions), truth)


def test_the_same_name_fits_whatever_the_ending(tmp_path: Path) -> None:
    found = matched(tmp_path, ["a.png", "b.png"], ["a.jpg", "b.nii.gz"])
    assert paired(found) == {"a": "a.png", "b": "b.png"}
    assert found.rule == "same name"


def test_usual_endings_are_removed_on_both_sides(tmp_path: Path) -> None:
    found = matched(tmp_path, ["ISIC_0012_pred.png"], ["ISIC_0012_Segmentation.png"])
    assert paired(found) == {"ISIC_0012_Segmentation": "ISIC_0012_pred.png"}
    assert "_pred" in found.rule


def test_a_slice_number_is_not_mistaken_for_an_ending(tmp_path: Path) -> None:
    found = matched(tmp_path, ["x_0000_pred.png", "x_0001_pred.png"], ["x_0000.png", "x_0001.png"])
    assert paired(found) == {"x_0000": "x_0000_pred.png", "x_0001": "x_0001_pred.png"}


def test_a_missing_prediction_stays_in_the_list(tmp_path: Path) -> None:
    assert paired(matched(tmp_path, ["a.png"], ["a.png", "b.png"])) == {"a": "a.png", "b": None}


def test_an_extra_prediction_is_listed(tmp_path: Path) -> None:
    assert [path.name for path in matched(tmp_path, ["a.png", "z.png"], ["a.png"]).extra] == ["z.png"]


def test_two_predictions_for_one_truth_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a_mask.png, a_pred.png .* do not fit one to one"):
        matched(tmp_path, ["a_pred.png", "a_mask.png"], ["a.png"])


def test_numbers_written_differently_are_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no name fits.*case_1\.png.*case_001"):
        matched(tmp_path, ["case_1.png"], ["case_001.png"])


def test_hidden_files_are_no_masks(tmp_path: Path) -> None:
    assert paired(matched(tmp_path, ["a.png", "._a.png", ".DS_Store"], ["a.png"])) == {"a": "a.png"}


def test_swapped_arguments_are_a_warning_of_the_pairing(tmp_path: Path) -> None:
    assert "swapped" in matched(tmp_path, ["a.png"], ["a_pred.png"]).warnings[0]


def test_arguments_in_the_right_order_are_no_warning(tmp_path: Path) -> None:
    assert matched(tmp_path, ["a_pred.png"], ["a.png"]).warnings == []


def test_prepared_data_in_the_place_of_predictions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="PREDS TRUTH"):
        matched(tmp_path, ["cases.json"], ["a.png"])


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no masks"):
        matched(tmp_path, [], ["a.png"])


def test_two_truths_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two masks for a"):
        matched(tmp_path, ["a.png"], ["a.png", "a.jpg"])


def test_a_table_of_pairs_is_followed_to_the_letter(tmp_path: Path) -> None:
    table = tmp_path / "pairs.csv"
    table.write_text("case,prediction,truth,scanner\np1,x/one.png,y/uno.png,A\np2,,y/due.png,B\n", encoding="utf-8")
    found = read_pairs(table)
    assert [pair.prediction for pair in found.pairs] == [tmp_path / "x/one.png", None]
    assert found.pairs[1].truth.fields == {"scanner": "B"}


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(DataError, match="prediction,truth"):
        read_pairs(tmp_path / "pairs.csv")


def test_a_folder_with_masks_below_is_told_from_one_without(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    folder(tmp_path / "data" / "images", "a.jpg")
    folder(tmp_path / "data" / "masks", "a.png")
    with pytest.raises(DataError, match=r"holds no masks itself; below it are images/, masks/: did you mean .*masks\?"):
        find_truths(tmp_path / "data", split="test")


def _table(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["prediction,truth", *rows]))
    return path


def test_pairs_of_two_tables_are_brought_into_one_order(tmp_path: Path) -> None:
    tables = [
        _table(tmp_path / "1.csv", "x.png,a.png", "y.png,b.png"),
        _table(tmp_path / "2.csv", "v.png,b.png", ",a.png"),
    ]
    first, second = in_one_order([read_pairs(table) for table in tables], tables)
    assert paired(first) == {"a": "x.png", "b": "y.png"}
    assert list(paired(second).items()) == [("a", None), ("b", "v.png")]


@pytest.mark.parametrize(
    ("row", "said"), [("x.png,c.png", r"other cases than .*1\.csv \(a, c\)"), ("x.png,sub/a.png", "the truth of a is")]
)
def test_tables_with_other_truths_are_refused(row: str, said: str, tmp_path: Path) -> None:
    tables = [_table(tmp_path / "1.csv", "x.png,a.png"), _table(tmp_path / "2.csv", row)]
    with pytest.raises(DataError, match=said):
        in_one_order([read_pairs(table) for table in tables], tables)
