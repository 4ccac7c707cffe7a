"""Matching of predictions with truths by name."""

from collections.abc import Callable

import pytest

from guidino_cli.errors import DataError
from guidino_cli.evaluation.cases import Pairing

Matched = Callable[[list[str], list[str]], Pairing]
Paired = Callable[[Pairing], dict[str, str | None]]


def test_equal_stems_match_whatever_the_extension(matched: Matched, paired: Paired) -> None:
    found = matched(["a.png", "b.png"], ["a.jpg", "b.nii.gz"])
    assert paired(found) == {"a": "a.png", "b": "b.png"}
    assert found.rule == "same name"


def test_common_suffixes_are_removed_on_both_sides(matched: Matched, paired: Paired) -> None:
    found = matched(["ISIC_0012_pred.png"], ["ISIC_0012_Segmentation.png"])
    assert paired(found) == {"ISIC_0012_Segmentation": "ISIC_0012_pred.png"}
    assert "_pred" in found.rule


def test_a_slice_number_is_not_mistaken_for_a_suffix(matched: Matched, paired: Paired) -> None:
    found = matched(["x_0000_pred.png", "x_0001_pred.png"], ["x_0000.png", "x_0001.png"])
    assert paired(found) == {"x_0000": "x_0000_pred.png", "x_0001": "x_0001_pred.png"}


def test_a_missing_prediction_stays_in_the_list(matched: Matched, paired: Paired) -> None:
    assert paired(matched(["a.png"], ["a.png", "b.png"])) == {"a": "a.png", "b": None}


def test_an_extra_prediction_is_listed(matched: Matched) -> None:
    assert [path.name for path in matched(["a.png", "z.png"], ["a.png"]).extra] == ["z.png"]


def test_two_predictions_for_one_truth_are_an_error(matched: Matched) -> None:
    with pytest.raises(DataError, match=r"a_mask.png, a_pred.png .* do not fit one to one"):
        matched(["a_pred.png", "a_mask.png"], ["a.png"])


def test_numbers_with_other_padding_do_not_match(matched: Matched) -> None:
    with pytest.raises(DataError, match=r"no name fits.*case_1\.png.*case_001"):
        matched(["case_1.png"], ["case_001.png"])


def test_swapped_arguments_give_a_warning(matched: Matched) -> None:
    assert "swapped" in matched(["a.png"], ["a_pred.png"]).warnings[0]


def test_arguments_in_the_right_order_give_no_warning(matched: Matched) -> None:
    assert matched(["a_pred.png"], ["a.png"]).warnings == []


def test_prepared_data_as_predictions_is_an_error(matched: Matched) -> None:
    with pytest.raises(DataError, match="PREDS TRUTH"):
        matched(["cases.json"], ["a.png"])
