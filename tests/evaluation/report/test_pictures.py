"""Pictures of the errors of volumes: in the canonical axes of the truth, whatever the axes of the files."""

from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from guidino_cli.errors import DataError
from guidino_cli.evaluation.evaluator import EvaluationConfig, evaluate
from guidino_cli.evaluation.matching import attach_images, match_predictions
from guidino_cli.evaluation.report.pictures import draw_case, view_case
from guidino_cli.evaluation.summary import EvaluationResult
from guidino_cli.evaluation.truths import find_truths
from guidino_cli.options.evaluation import ScoringOptions

AXES = ["".join(axes) for order in permutations(("RL", "AP", "SI")) for axes in product(*order)]
"""The 48 orders and directions of three axes."""
# Axes to the right, to the front and up, voxels of 1 x 2 x 3 mm.
SHAPE, AFFINE = (6, 8, 4), np.diag([1.0, 2.0, 3.0, 1.0])


def left_front_top() -> np.ndarray:
    """The eighth of a volume (X, Y, Z) at the patient's left, front and head."""
    block = np.zeros(SHAPE, dtype=np.uint8)
    block[:3, 4:, 2:] = 1
    return block


def save(path: Path, values: np.ndarray, axes: str = "RAS", affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(exist_ok=True)
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(tuple(axes)))), path)


def score(folder: Path, *, images: Path | None = None, **options: object) -> EvaluationResult:
    truths = find_truths(folder / "truth", split="test")
    pairing = match_predictions(folder / "predictions", truths)
    pairing = pairing if images is None else attach_images(pairing, images)
    config = EvaluationConfig(metrics=("dice",), options=ScoringOptions(**options))
    return evaluate(pairing, truths, config)


def test_the_patients_left_front_and_head_are_at_the_same_place_for_all_axes(tmp_path: Path) -> None:
    for number, axes in enumerate(AXES):
        save(tmp_path / "truth" / f"{axes}.nii", left_front_top(), axes)
        save(tmp_path / "predictions" / f"{axes}.nii", left_front_top(), AXES[number - 7])
        save(tmp_path / "images" / f"{axes}.nii", left_front_top() * np.int16(90) + np.int16(10), AXES[number - 20])
    result = score(tmp_path, images=tmp_path / "images")
    assert len(result.cases) == 48
    for case in result.cases:
        view, note = view_case(case, result)
        assert note == ""
        assert view.oriented
        assert view.shape == (4, 8, 6)
        assert view.spacing_mm == (3.0, 2.0, 1.0)
        assert view.truth is not None
        # Rows from the front or the head, columns from the patient's right or the front: see the letters of `PLANES`.
        expected = [np.zeros((8, 6)), np.zeros((4, 6)), np.zeros((4, 8))]
        expected[0][:4, 3:], expected[1][:2, 3:], expected[2][:2, :4] = 1, 1, 1
        for planes in (view.truth, view.labels):
            assert all(np.array_equal(plane, right) for plane, right in zip(planes, expected, strict=True))
        assert all(np.array_equal(plane > 0.5, right) for plane, right in zip(view.image, expected, strict=True))


def test_a_prediction_on_a_finer_grid_is_drawn_on_that_of_the_truth(tmp_path: Path) -> None:
    save(tmp_path / "truth" / "a.nii", left_front_top(), "PSR")
    fine = left_front_top().repeat(2, axis=0)
    affine = AFFINE.copy()
    affine[0, 0], affine[0, 3] = 0.5, -0.25
    save(tmp_path / "predictions" / "a.nii", fine, "LAS", affine)
    result = score(tmp_path, resample="nearest")
    view, _ = view_case(result.cases[0], result)
    assert np.array_equal(view.labels.axial, view.truth.axial)
    assert view.truth.axial.shape == (8, 6)


def test_an_image_on_a_coarser_grid_is_drawn_on_that_of_the_truth(tmp_path: Path) -> None:
    save(tmp_path / "truth" / "a.nii", left_front_top())
    save(tmp_path / "predictions" / "a.nii", left_front_top())
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    affine[0, 3] = 0.5
    save(tmp_path / "images" / "a.nii", np.arange(3 * 8 * 4, dtype=np.int16).reshape(3, 8, 4), "LPI", affine)
    result = score(tmp_path, images=tmp_path / "images")
    view, note = view_case(result.cases[0], result)
    assert note == ""
    # Each of the three columns of the image covers two of the truth, from the patient's right: the largest first.
    assert np.array_equal(view.image.axial[:, ::2], view.image.axial[:, 1::2])
    assert (np.diff(view.image.axial[:, ::2], axis=1) <= 0).all()


def test_the_first_channel_of_nnunets_files_is_the_image(tmp_path: Path) -> None:
    for side in ("truth", "predictions"):
        save(tmp_path / side / "case_1.nii.gz", left_front_top())
    for channel in range(2):
        save(tmp_path / "images" / f"case_1_000{channel}.nii.gz", left_front_top())
    result = score(tmp_path, images=tmp_path / "images")
    assert result.cases[0].pair.truth.image == tmp_path / "images" / "case_1_0000.nii.gz"


def test_the_dicom_series_in_a_folder_of_the_cases_name_is_the_image(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from dicom_files import make_dataset

    (tmp_path / "images" / "a").mkdir(parents=True)
    for number in range(3):
        pixels = np.full((4, 6), 10 * (number + 1), dtype=np.int16)
        slices = make_dataset(pixels, ImagePositionPatient=[-10.0, -20.0, 2.0 * number])
        slices.save_as(tmp_path / "images" / "a" / f"{number}.dcm", enforce_file_format=True)
    # The series has columns of 0.5 mm to the left, rows of 0.75 mm to the back and slices of 2 mm from the feet.
    affine = np.diag([-0.5, -0.75, 2.0, 1.0])
    affine[:2, 3] = 10, 20
    labels = np.zeros((6, 4, 3), dtype=np.uint8)
    labels[3:, :2, 1:] = 1
    for side, axes in (("truth", "SRA"), ("predictions", "LPS")):
        save(tmp_path / side / "a.nii", labels, axes, affine)
    result = score(tmp_path, images=tmp_path / "images")
    view, note = view_case(result.cases[0], result)
    assert note == ""
    assert view.spacing_mm == pytest.approx((2.0, 0.75, 0.5))
    assert view.truth.axial.tolist() == [[0, 0, 0, 1, 1, 1]] * 2 + [[0] * 6] * 2
    assert (np.diff(view.image.coronal[:, 0]) < 0).all()  # the head, 30, on top


def test_an_image_that_cannot_be_read_is_said_and_the_errors_are_drawn_all_the_same(tmp_path: Path) -> None:
    for side in ("truth", "predictions"):
        save(tmp_path / side / "a.nii", left_front_top())
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.nii").write_bytes(b"damaged")
    result = score(tmp_path, images=tmp_path / "images")
    picture = draw_case(result.cases[0], result)
    assert picture.is_volume
    assert picture.note.startswith("drawn without its image: ")
    assert "a.nii" in picture.note


def test_volumes_without_a_stated_orientation_get_no_letters(tmp_path: Path) -> None:
    for side in ("truth", "predictions"):
        (tmp_path / side).mkdir()
        image = nibabel.Nifti1Image(left_front_top(), None)
        image.header.set_zooms((1, 2, 3))
        nibabel.save(image, tmp_path / side / "a.nii")
    result = score(tmp_path)
    view, _ = view_case(result.cases[0], result)
    assert not view.oriented
    assert view.spacing_mm == (3.0, 2.0, 1.0)


def test_slices_go_through_a_false_positive_that_is_larger_than_the_truth(tmp_path: Path) -> None:
    truth, prediction = np.zeros(SHAPE, dtype=np.uint8), np.zeros(SHAPE, dtype=np.uint8)
    truth[5, 0, 0] = 1
    prediction[0:2, 6, 3] = 1
    save(tmp_path / "truth" / "a.nii", truth)
    save(tmp_path / "predictions" / "a.nii", prediction)
    result = score(tmp_path)
    # z counts from the feet as the file does, y from the front: 7 - 6.
    assert view_case(result.cases[0], result)[0].position[:2] == (3, 1)


def test_a_folder_without_the_image_of_any_case_is_an_error(tmp_path: Path) -> None:
    for side in ("truth", "predictions"):
        save(tmp_path / side / "a.nii", left_front_top())
    save(tmp_path / "images" / "b_0000.nii", left_front_top())
    with pytest.raises(DataError, match="no image has the name of a case, such as a"):
        score(tmp_path, images=tmp_path / "images")


def test_grey_values_are_those_of_the_volume_where_the_truth_is_empty(tmp_path: Path) -> None:
    save(tmp_path / "truth" / "a.nii", np.zeros(SHAPE, dtype=np.uint8))
    save(tmp_path / "predictions" / "a.nii", left_front_top())
    save(tmp_path / "images" / "a.nii", np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE))
    result = score(tmp_path, images=tmp_path / "images")
    view, note = view_case(result.cases[0], result)
    assert note == ""
    assert view.image is not None
    # Percentiles 0.5 and 99.5 of 0 to 191 are 0.955 and 190.045; slice 3 holds every fourth value from 3 to 191.
    assert float(view.image.axial.min()) == pytest.approx((3 - 0.955) / 189.09, abs=1e-4)
    assert float(view.image.axial.max()) == pytest.approx((191 - 0.955) / 189.09, abs=1e-4)


def test_greys_span_three_times_those_of_the_object_with_its_border(tmp_path: Path) -> None:
    labels = np.zeros((20, 20, 20), dtype=np.uint8)
    labels[8:12, 8:12, 8:12] = 1
    image = np.full((20, 20, 20), -1000, dtype=np.int16)
    image[6:14, 6:14, 6:14] = 0
    image[8:12, 8:12, 8:12] = 100
    image[0] = 3000
    for side, values in (("truth", labels), ("predictions", labels), ("images", image)):
        save(tmp_path / side / "a.nii", values)
    result = score(tmp_path, images=tmp_path / "images")
    view, _ = view_case(result.cases[0], result)
    # 0 and 100 are the ends of the object with its border, so -100 is black and 200 white; air and bone are beyond.
    assert view.image is not None
    assert sorted({round(float(value), 3) for value in np.unique(view.image.axial)}) == [-3.0, 0.333, 0.667, 10.333]
