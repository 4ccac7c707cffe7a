"""Names of mask files: common suffixes, and signs of swapped arguments."""

from pathlib import Path

import pytest

from guidino_cli.evaluation.names import file_stem, find_swapped_arguments, strip_suffixes


def test_suffixes_are_removed_one_at_a_time() -> None:
    assert strip_suffixes("ISIC_12_seg_Pred") == ["isic_12_seg_pred", "isic_12_seg", "isic_12"]


def test_the_extension_of_a_compressed_volume_is_removed_whole() -> None:
    assert file_stem(Path("x/la_003.nii.gz")) == "la_003"


def sign(predictions: list[str], truths: list[str]) -> str:
    ours, theirs = ([Path(name) for name in side] for side in (predictions, truths))
    return find_swapped_arguments(ours[0].parent, ours, theirs)


@pytest.mark.parametrize(
    ("predictions", "truths", "message"),
    [
        (["a/1.png", "a/2.png"], ["b/1_pred.png", "b/2_pred.png"], "TRUTH are named as predictions (1_pred.png)"),
        (["a/1_Segmentation.png"], ["b/1.png"], "PREDS are named as truth"),
        (["a/1_manual1.gif"], ["b/1_pred.png"], "TRUTH are named as predictions"),
        (["a/1_gt.png"], ["b/1.png"], "PREDS are named as truth"),
        (["labelsTs/1.nii.gz"], ["predictions/1.nii.gz"], "PREDS is the folder labelsTs, TRUTH the folder predictions"),
    ],
)
def test_swapped_sides_are_detected(predictions: list[str], truths: list[str], message: str) -> None:
    assert message in sign(predictions, truths)
    assert sign(truths, predictions) == ""


@pytest.mark.parametrize(
    ("predictions", "truths"),
    [
        (["a/1.png"], ["b/1.png"]),
        (["a/1_mask.png"], ["b/1.png"]),
        (["a/1_segmentation.png"], ["b/1_segmentation.png"]),
        (["a/1_pred.png"], ["b/1_pred.png"]),
        (["masks/1.png"], ["truth/1.png"]),
        (["outputs/1.png"], ["predictions/1.png"]),
        (["a/1.png", "a/2.png", "a/3_gt.png"], ["b/1.png", "b/2.png", "b/3.png"]),
    ],
)
def test_common_names_are_no_sign_of_swapped_sides(predictions: list[str], truths: list[str]) -> None:
    assert sign(predictions, truths) == ""


def test_predictions_json_marks_the_predictions(tmp_path: Path) -> None:
    predicted, drawn = tmp_path / "a" / "1.png", tmp_path / "b" / "1.png"
    predicted.parent.mkdir()
    (tmp_path / "a" / "predictions.json").write_text("{}")
    assert "predictions.json" in find_swapped_arguments(drawn.parent, [drawn], [predicted])
    assert find_swapped_arguments(predicted.parent, [predicted], [drawn]) == ""


def test_masks_of_prepared_data_are_recognised_as_truth(tmp_path: Path) -> None:
    (tmp_path / "cases.json").write_text("{}")
    assert "prepared data" in find_swapped_arguments(
        tmp_path / "masks", [tmp_path / "masks" / "1.png"], [Path("b/1.png")]
    )
