"""Metrics of one pair: small masks whose counts and distances are found by hand."""

from collections.abc import Callable
from math import hypot, isnan, log2
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from guidino_cli.evaluation.cases import Pair, Truth
from guidino_cli.evaluation.mask_survey import make_reader
from guidino_cli.evaluation.masks import MaskReader, ReadOptions, index_reader
from guidino_cli.evaluation.scoring import score_case
from guidino_cli.evaluation.types import CaseResult, Hd95Definition, Policy, ScoringConfig, Target
from guidino_cli.options.evaluation import ScoringOptions

FOREGROUND = (Target("foreground", (1,)),)


@pytest.fixture
def scored(tmp_path: Path) -> Callable[..., CaseResult]:
    """Score a prediction (None if it is missing) and a truth, given as label arrays."""

    def score(
        prediction: np.ndarray | None,
        truth: np.ndarray,
        *metrics: str,
        targets: tuple[Target, ...] = FOREGROUND,
        reader: MaskReader | None = None,
        policy: Policy | None = None,
        spacing: tuple[float, ...] | None = None,
        medpy: bool = False,
        options: ScoringOptions | None = None,
    ) -> CaseResult:
        paths = [tmp_path / "prediction.png", tmp_path / "truth.png"]
        for path, labels in zip(paths, (prediction, truth), strict=True):
            if labels is not None:
                Image.fromarray(labels.astype(np.uint8)).save(path)
        readers = reader or index_reader(3)
        config = ScoringConfig(
            targets, metrics, policy or Policy(), readers, index_reader(3), spacing, medpy, options or ScoringOptions()
        )
        return score_case(Pair(Truth("a", paths[1], ("a",)), paths[0] if prediction is not None else None), config)

    return score


Scored = Callable[..., CaseResult]


def row(*spans: tuple[int, int], size: int = 20) -> np.ndarray:
    """One row of pixels in which the spans are 1."""
    labels = np.zeros((1, size), dtype=np.uint8)
    for start, stop in spans:
        labels[:, start:stop] = 1
    return labels


@pytest.mark.parametrize(("limit", "found"), [(0.1, 1.0), (0.3, 1.0), (0.5, 0.0)])
def test_an_object_of_iou_point_3_is_found_up_to_this_limit(scored: Scored, limit: float, found: float) -> None:
    """13 pixels each, 6 in common: 6 / 20."""
    prediction, truth = row((7, 20)), row((0, 13))
    options = ScoringOptions(lesion_iou=limit)
    values = (
        scored(prediction, truth, "lesion_f1", "lesion_recall", "lesion_precision", options=options).scores[0].values
    )
    assert values == {"lesion_f1": found, "lesion_recall": found, "lesion_precision": found}


def test_objects_have_a_recall_and_a_precision(scored: Scored) -> None:
    """Two of three true objects are found, by two of four."""
    truth, prediction = row((0, 2), (4, 6), (8, 10)), row((0, 2), (4, 6), (12, 14), (16, 18))
    values = scored(prediction, truth, "lesion_f1", "lesion_recall", "lesion_precision").scores[0].values
    assert values == pytest.approx({"lesion_f1": 4 / 7, "lesion_recall": 2 / 3, "lesion_precision": 1 / 2})


def test_every_share_of_a_missing_prediction_is_0_even_the_specificity(scored: Scored) -> None:
    """As an empty prediction it would have a specificity of 1."""
    shares = ("dice", "iou", "precision", "recall", "specificity", "nsd", "lesion_f1", "lesion_precision")
    result = scored(None, row((0, 5)), *shares)
    assert result.scores[0].status == "missing"
    assert result.note == "no prediction"
    assert result.is_problem
    assert result.scores[0].values == dict.fromkeys(shares, 0.0)


def test_distances_of_a_missing_prediction_are_the_diagonal_of_the_image(scored: Scored) -> None:
    truth = np.zeros((3, 4), dtype=np.uint8)
    truth[0, 0] = 1
    assert scored(None, truth, "hd95", "assd").scores[0].values == {"hd95": 5.0, "assd": 5.0}
    assert scored(None, truth, "hd", spacing=(2.0, 0.5)).scores[0].values == {"hd": hypot(6, 2)}


@pytest.mark.parametrize(("true", "error"), [(2, 4.0), (8, 1.0)])
def test_the_size_error_of_a_missing_prediction_is_that_of_a_full_one(scored: Scored, true: int, error: float) -> None:
    """8 wrong of 2 true pixels are 4; 2 wrong of 8 would be 0.25, less than that of predicting nothing."""
    assert scored(None, row((0, true), size=10), "size_error").scores[0].values == {"size_error": error}


def test_a_prediction_of_nothing_has_size_error_1(scored: Scored) -> None:
    assert scored(row(), row((0, 2)), "size_error").scores[0].values == {"size_error": 1.0}


def test_counts_of_an_unnecessary_prediction_stay_measured(scored: Scored) -> None:
    """4 of 40 pixels: the specificity is 0.9, not the worst."""
    score = scored(row((0, 4), size=40), row(size=40), "dice", "specificity", "hd95").scores[0]
    assert score.status == "truth_empty"
    assert score.values == {"dice": 0.0, "specificity": 0.9, "hd95": hypot(1, 40)}


@pytest.mark.parametrize(
    ("prediction", "truth", "status", "dice"),
    [
        (row((0, 2)), row((0, 2)), "ok", 1.0),
        (row(), row((0, 2)), "prediction_empty", 0.0),
        (row((0, 2)), row(), "truth_empty", 0.0),
        (row(), row(), "both_empty", 1.0),
    ],
)
def test_which_mask_is_empty_decides_the_status(
    scored: Scored, prediction: np.ndarray, truth: np.ndarray, status: str, dice: float
) -> None:
    score = scored(prediction, truth, "dice").scores[0]
    assert (score.status, score.values["dice"]) == (status, dice)


def test_a_policy_may_leave_out_what_was_measured(scored: Scored) -> None:
    policy = Policy(truth_empty="exclude")
    assert isnan(scored(row((0, 4)), row(), "specificity", policy=policy).scores[0].values["specificity"])


def test_a_target_is_the_union_of_its_labels(scored: Scored) -> None:
    """Labels 1 and 2 together are right although they are swapped."""
    prediction, truth = np.array([[1, 2, 0, 0]]), np.array([[2, 1, 0, 0]])
    targets = (Target("one", (1,)), Target("both", (1, 2)))
    result = scored(prediction, truth, "dice", targets=targets)
    assert [(score.target, score.values["dice"]) for score in result.scores] == [("one", 0.0), ("both", 1.0)]


def test_ignored_pixels_are_counted_nowhere(scored: Scored, tmp_path: Path) -> None:
    """Of 8 pixels 2 are ignored: 2 right, 1 false, 1 missed, 2 right background."""
    truth = np.array([[1, 1, 1, 0, 0, 0, 9, 9]])
    prediction = np.array([[1, 1, 0, 1, 0, 0, 1, 0]])
    reader = index_reader(3, ignore=9)
    score = scored(prediction, truth, "dice", "specificity", reader=reader).scores[0]
    assert score.counts is not None
    assert (score.counts.tp, score.counts.fp, score.counts.fn, score.counts.tn) == (2, 1, 1, 2)
    assert score.values == pytest.approx({"dice": 4 / 6, "specificity": 2 / 3})


def test_distances_are_in_pixels_without_a_spacing_and_else_in_mm(scored: Scored) -> None:
    """One pixel each, two rows apart."""
    prediction, truth = np.zeros((2, 5, 5), dtype=np.uint8)
    prediction[0, 2], truth[2, 2] = 1, 1
    plain = scored(prediction, truth, "hd")
    assert (plain.scores[0].values, plain.unit, plain.spacing) == ({"hd": 2.0}, "px", (1.0, 1.0))
    two = scored(prediction, truth, "hd", spacing=(0.5, 3.0))
    assert (two.scores[0].values, two.unit, two.spacing) == ({"hd": 1.0}, "mm", (0.5, 3.0))
    one = scored(prediction, truth, "hd", spacing=(0.25,))
    assert (one.scores[0].values, one.spacing) == ({"hd": 0.5}, (0.25, 0.25))


def volume_config(tmp_path: Path, spacing: tuple[float, ...] | None) -> tuple[Pair, ScoringConfig]:
    """One voxel each, two slices apart, in voxels of 1 x 2 x 4 mm."""
    paths = [tmp_path / "prediction.nii", tmp_path / "truth.nii"]
    for path, z in zip(paths, (0, 2), strict=True):
        labels = np.zeros((3, 3, 3), dtype=np.uint8)
        labels[1, 1, z] = 1
        nibabel.save(nibabel.Nifti1Image(labels, np.diag([1.0, 2.0, 4.0, 1.0])), path)
    reader = make_reader(paths, ReadOptions())
    return Pair(Truth("a", paths[1], ("a",)), paths[0]), ScoringConfig(
        FOREGROUND, ("hd",), Policy(), reader, reader, spacing
    )


def test_a_volume_for_which_two_spacings_are_given_is_a_failed_case(tmp_path: Path) -> None:
    case = score_case(*volume_config(tmp_path, (1.0, 1.0)))
    assert (case.scores[0].status, case.note) == ("failed", "--spacing has 2 numbers, the masks 3 axes")


@pytest.mark.parametrize(("spacing", "distance"), [(None, 8.0), ((1.5,), 3.0), ((1.0, 1.0, 5.0), 10.0)])
def test_a_spacing_replaces_that_of_the_volume(
    tmp_path: Path, spacing: tuple[float, ...] | None, distance: float
) -> None:
    assert score_case(*volume_config(tmp_path, spacing)).scores[0].values == {"hd": distance}


def test_an_unreadable_truth_is_a_failed_case(scored: Scored, tmp_path: Path) -> None:
    pair, config = volume_config(tmp_path, None)
    pair.truth.path.write_bytes(b"")
    result = score_case(pair, config)
    assert (result.scores[0].status, result.scores[0].counts, result.shape) == ("failed", None, None)
    assert (result.unit, result.spacing) == ("px", None)
    assert "truth.nii" in result.note
    assert isnan(result.scores[0].values["hd"])


def test_too_little_memory_for_a_prediction_is_said(scored: Scored, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **options: object) -> None:
        raise MemoryError

    monkeypatch.setattr("guidino_cli.evaluation.scoring.align_to_truth", full)
    result = scored(row((0, 2)), row((0, 2)), "dice")
    assert (result.scores[0].status, result.note) == ("failed", "not enough memory")
    assert result.scores[0].values == {"dice": 0.0}


@pytest.mark.parametrize(("definition", "distance"), [("pooled", 0.0), ("max", 5.0), ("to-mask", 0.0)])
def test_hd95_follows_the_definition_of_the_policy(scored: Scored, definition: Hd95Definition, distance: float) -> None:
    """One of 11 predicted pixels lies 10 away: pooled with 10 zeros the 20th of 21, alone the middle of 0 and 10."""
    prediction, truth = row((0, 10), (19, 20)), row((0, 10))
    assert scored(prediction, truth, "hd95", policy=Policy(hd95=definition)).scores[0].values == {"hd95": distance}


@pytest.mark.parametrize(("definition", "distance"), [("pooled", 6 / 8), ("to-mask", 0.0)])
def test_only_to_mask_counts_a_border_inside_the_other_mask_as_0(
    scored: Scored, definition: Hd95Definition, distance: float
) -> None:
    """Of the 8 border pixels of the middle square, 6 lie one pixel from the border of the column, but inside the larger
    mask."""
    column, square = np.zeros((2, 3, 11), dtype=np.uint8)
    column[:, 5], square[:, 4:7] = 1, 1
    prediction, truth = (square, column) if definition == "pooled" else (column, square)
    assert scored(prediction, truth, "asd", policy=Policy(hd95=definition)).scores[0].values == {"asd": distance}


def test_nsd_counts_what_is_within_the_tolerance(scored: Scored) -> None:
    """Two pixels 3 apart."""
    prediction, truth = row((4, 5)), row((7, 8))
    for tolerance, share in ((2.9, 0.0), (3.0, 1.0)):
        values = scored(prediction, truth, "nsd", options=ScoringOptions(tolerance=tolerance)).scores[0].values
        assert values == {"nsd": share}


def test_medpy_replaces_the_distances_and_its_deviation_is_kept(
    scored: Scored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guidino_cli.evaluation.scoring.medpy_metrics", lambda *arguments: {"hd": 3.5, "assd": 2.75})
    score = scored(row((4, 5)), row((7, 8)), "hd", "assd", "dice", medpy=True).scores[0]
    assert score.values == {"hd": 3.5, "assd": 2.75, "dice": 0.0}
    assert score.deviation == 0.5


def test_instance_metrics_need_instances(scored: Scored) -> None:
    with pytest.raises(ValueError, match="readers that keep instances"):
        scored(row((0, 2)), row((0, 2)), "voi")


def instance_values(tmp_path: Path, prediction: np.ndarray | None, truth: np.ndarray) -> dict[str, float]:
    paths = [tmp_path / "prediction.png", tmp_path / "truth.png"]
    for path, labels in zip(paths, (prediction, truth), strict=True):
        if labels is not None:
            Image.fromarray(labels.astype(np.uint8)).save(path)
    reader = make_reader(paths[1:], ReadOptions(instances=True))
    metrics = ("are", "voi", "voi_merge", "voi_split")
    config = ScoringConfig(FOREGROUND, metrics, Policy(), reader, reader)
    pair = Pair(Truth("a", paths[1], ("a",)), None if prediction is None else paths[0])
    return score_case(pair, config).scores[0].values


def test_a_true_instance_in_two_halves_is_split_by_one_bit(tmp_path: Path) -> None:
    """Four pixels, two pieces of two: H(prediction | truth) is 1 bit; 12 pairs share the truth, 4 both."""
    values = instance_values(tmp_path, np.array([[1, 1, 2, 2]]), np.array([[1, 1, 1, 1]]))
    assert values["voi_split"] == pytest.approx(1.0)
    assert values["voi_merge"] == pytest.approx(0.0)
    assert values["voi"] == pytest.approx(1.0)
    swapped = instance_values(tmp_path, np.array([[1, 1, 1, 1]]), np.array([[1, 1, 2, 2]]))
    assert (swapped["voi_split"], swapped["voi_merge"]) == pytest.approx((0.0, 1.0))


def test_a_missing_instance_map_has_the_most_bits_that_its_pixels_allow(tmp_path: Path) -> None:
    values = instance_values(tmp_path, None, np.array([[1, 1, 2, 0]]))
    assert values == {"are": 1.0, "voi": log2(4), "voi_merge": log2(4), "voi_split": log2(4)}


@pytest.mark.parametrize("width", [4, 49])
def test_an_empty_prediction_is_not_the_one_instance_that_fills_the_image(tmp_path: Path, width: int) -> None:
    bits = log2(width)
    values = instance_values(tmp_path, np.zeros((1, width)), np.ones((1, width)))
    assert values == {"are": 1.0, "voi": bits, "voi_merge": bits, "voi_split": bits}


def test_an_empty_prediction_merges_all_instances_with_the_background(tmp_path: Path) -> None:
    """H(truth | prediction) of shares 1/2, 1/4, 1/4."""
    values = instance_values(tmp_path, np.zeros((1, 4)), np.array([[0, 0, 1, 2]]))
    assert values == {"are": 1.0, "voi": 1.5, "voi_merge": 1.5, "voi_split": 0.0}


@pytest.mark.parametrize("predicted", [0, 1])
def test_no_prediction_has_a_specificity_where_the_truth_fills_the_image(
    predicted: int, scored: Callable[..., CaseResult]
) -> None:
    prediction, truth = np.full((3, 3), predicted, dtype=np.uint8), np.ones((3, 3), dtype=np.uint8)
    assert isnan(scored(prediction, truth, "specificity").scores[0].values["specificity"])
