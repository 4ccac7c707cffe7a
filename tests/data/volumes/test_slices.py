"""Axial slices of NIfTI volumes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from guidino_cli.data.volumes.nifti import read, read_labels
from guidino_cli.data.volumes.slices import SliceSettings, cut_slices, open_grey_volume, parse_orientation
from guidino_cli.errors import ConfigError, DataError

_WHOLE = SliceSettings(window=(0.0, 200.0), size=None, spacing_mm=1.0, least=0.0)
_RAS, _LPS = np.diag([1.0, 1.0, 1.0, 1.0]), np.diag([-1.0, -1.0, 1.0, 1.0])


def _save(path: Path, values: np.ndarray, affine: np.ndarray = _RAS) -> Path:
    nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), affine), path)
    return path


def _read_slices(path: Path, settings: SliceSettings) -> Iterator[tuple[int, np.ndarray]]:
    return cut_slices(open_grey_volume(path), settings)


def test_a_window_runs_from_black_to_white(tmp_path: Path) -> None:
    values = np.array([-500, -100, 0, 50, 100, 900]).reshape(6, 1, 1)
    ((_, pixels),) = _read_slices(_save(tmp_path / "a.nii.gz", values), _WHOLE)
    # From -100 to 100. Columns run from the patient's right: the last voxel, where the first axis points there.
    assert pixels[0].tolist() == [255, 255, 191, 128, 0, 0]


@pytest.mark.parametrize("affine", [_RAS, _LPS])
def test_the_patients_right_front_is_on_the_top_left_for_any_axis_order(tmp_path: Path, affine: np.ndarray) -> None:
    values = np.full((5, 7, 2), -100)
    corner = (-1, -1) if affine[0, 0] > 0 else (0, 0)
    values[*corner, :] = 100
    _, pixels = next(_read_slices(_save(tmp_path / "a.nii", values, affine), _WHOLE))
    assert pixels.shape == (7, 5)
    assert pixels[0, 0] == 255
    assert int((pixels > 0).sum()) == 1


def test_slices_are_numbered_from_the_feet_up(tmp_path: Path) -> None:
    values = np.zeros((4, 4, 3))
    values[:, :, 0] = 100
    down = np.diag([1.0, 1.0, -1.0, 1.0])
    slices = [
        (number, int(pixels.max())) for number, pixels in _read_slices(_save(tmp_path / "a.nii", values, down), _WHOLE)
    ]
    assert slices == [(0, 128), (1, 128), (2, 255)]


def test_slices_of_air_are_left_out_and_every_nth_is_taken(tmp_path: Path) -> None:
    values = np.full((10, 10, 6), -1000)
    values[:2, :, 1:5] = 40  # A fifth of the area.
    path = _save(tmp_path / "a.nii.gz", values)
    assert [number for number, _ in _read_slices(path, SliceSettings(least=0.1))] == [1, 2, 3, 4]
    assert [number for number, _ in _read_slices(path, SliceSettings(least=0.1, every=2))] == [2, 4]
    assert [number for number, _ in _read_slices(path, SliceSettings(least=0.3))] == []


def test_slices_have_the_given_spacing_or_size(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.nii", np.full((20, 10, 1), 50), np.diag([0.9, 1.8, 5.0, 1.0]))
    ((_, fine),) = _read_slices(path, SliceSettings(size=None, spacing_mm=0.45))
    assert fine.shape == (40, 40)
    ((_, square),) = _read_slices(path, SliceSettings(size=16))
    assert square.shape == (16, 16)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.array([[[0]], [[10]]], dtype=np.int16), _RAS)
    image.header.set_slope_inter(0.5, -3.0)
    nibabel.save(image, tmp_path / "a.nii")
    # -3 and 2, in a window from -2 to 2; the patient's right comes first.
    assert np.asarray(nibabel.load(tmp_path / "a.nii").dataobj).ravel().tolist() == [-3, 2]
    settings = SliceSettings(window=(0.0, 4.0), size=None, spacing_mm=1.0, least=0.0)
    assert next(_read_slices(tmp_path / "a.nii", settings))[1].tolist() == [[255, 0]]


def test_without_a_window_the_percentiles_of_the_volume_are_the_limits(tmp_path: Path) -> None:
    values = np.arange(31**3).reshape(31, 31, 31) / 5
    pixels = np.stack(
        [
            pixels
            for _, pixels in _read_slices(
                _save(tmp_path / "a.nii", values), SliceSettings(window=None, size=None, spacing_mm=1.0)
            )
        ]
    )
    assert (int(pixels.min()), int(pixels.max())) == (0, 255)
    assert 120 < np.median(pixels) < 136


def test_a_damaged_or_flat_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.nii.gz").write_bytes(b"no volume")
    with pytest.raises(DataError, match=r"bad\.nii\.gz: cannot be read as NIfTI"):
        next(_read_slices(tmp_path / "bad.nii.gz", _WHOLE))
    with pytest.raises(DataError, match=r"flat\.nii: expected a grey three-dimensional volume"):
        next(_read_slices(_save(tmp_path / "flat.nii", np.zeros((4, 4))), _WHOLE))


def test_the_voxel_size_is_that_of_the_affine_and_a_contradiction_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = nibabel.Nifti1Image(np.ones((2, 2, 2), dtype=np.uint8), np.diag([0.7, 1.3, 5.0, 1.0]))
    image.header["pixdim"][1:4] = 1
    image.to_filename(tmp_path / "a.nii")
    for reader in (read_labels, read, read):
        _, geometry = reader(tmp_path / "a.nii")
        assert geometry.spacing == pytest.approx((0.7, 1.3, 5.0))
    assert capsys.readouterr().err.count("contradicts itself") == 1


def _save_without_orientation(path: Path, values: np.ndarray) -> Path:
    image = nibabel.Nifti1Image(values.astype(np.int16), None)
    image.header.set_zooms((0.5, 0.5, 2.0))
    nibabel.save(image, path)
    return path


def test_slices_of_a_volume_without_orientation_need_to_be_told_its_axes(tmp_path: Path) -> None:
    """One bright voxel at the start of the first axis and the end of the second: left (RAS) or right (LPS), front."""
    values = np.full((5, 7, 2), -100)
    values[0, -1, :] = 100
    path = _save_without_orientation(tmp_path / "a.nii", values)
    with pytest.raises(DataError, match=r"sform_code and qform_code are 0.*--orientation RAS"):
        next(_read_slices(path, _WHOLE))
    settings = SliceSettings(window=(0.0, 200.0), size=None, spacing_mm=0.5, least=0.0, orientation="RAS")
    _, pixels = next(_read_slices(path, settings))
    assert np.argwhere(pixels).tolist() == [[0, 4]]  # columns run from the patient's right
    _, pixels = next(_read_slices(path, replace(settings, orientation="LAS")))
    assert np.argwhere(pixels).tolist() == [[0, 0]]


def test_a_volume_without_orientation_has_the_voxel_size_of_its_header_and_no_affine(tmp_path: Path) -> None:
    _, geometry = read(_save_without_orientation(tmp_path / "a.nii", np.ones((2, 3, 4))))
    assert geometry.affine is None
    assert geometry.spacing_mm == (0.5, 0.5, 2.0)


@pytest.mark.parametrize("text", ["RA", "RLS", "RASS", "XYZ", ""])
def test_an_orientation_names_each_axis_once(text: str) -> None:
    assert parse_orientation("lsp") == "LSP"
    with pytest.raises(ConfigError, match="expected three letters"):
        parse_orientation(text)


def test_an_unknown_unit_of_length_is_named_with_those_that_exist(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.nii", np.ones((2, 2, 2)))
    content = bytearray(path.read_bytes())
    content[123] = 7
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a.nii: its header gives lengths in a unit of code 7, expected .* 2 \(mm\)"):
        read_labels(path)


def test_slices_are_those_of_ct_3m_by_default() -> None:
    assert SliceSettings() == SliceSettings((40.0, 400.0), 256, 0.45, 1, 0.05, None)
