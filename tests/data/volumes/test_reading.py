"""Reading of volumes and labels: channels, grids, types."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from guidino_cli.data.volumes.reading import as_storable, read_volume, read_volume_labels
from guidino_cli.errors import DataError
from guidino_cli.types import VolumeSource

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def _save(path: Path, values: np.ndarray, affine: np.ndarray = _LPS) -> VolumeSource:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return VolumeSource(path)


def _ramp(shape: tuple[int, ...] = (4, 5, 6), kind: type = np.int16) -> np.ndarray:
    return np.arange(np.prod(shape)).reshape(shape).astype(kind)


def test_a_volume_has_its_channel_first_and_canonical_axes(tmp_path: Path) -> None:
    values = _ramp()
    volume = read_volume([_save(tmp_path / "a.nii.gz", values, np.diag([-1.0, -2.0, 3.0, 1.0]))])
    assert volume.values.shape == (1, 6, 5, 4)
    assert np.array_equal(volume.values[0], values.T)
    assert volume.spacing_mm == (3.0, 2.0, 1.0)
    assert volume.grid.orientation == "LPS"


def test_a_slope_is_applied_and_whole_numbers_stay_integers(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(_ramp(), _LPS)
    image.header.set_slope_inter(2, -1024)
    nibabel.save(image, tmp_path / "a.nii")
    # nibabel divides by the slope when it saves: set it in the file.
    raw = bytearray((tmp_path / "a.nii").read_bytes())
    raw[112:120] = np.array([2, -1024], dtype="<f4").tobytes()
    raw[352:] = _ramp().tobytes(order="F")
    (tmp_path / "a.nii").write_bytes(raw)
    volume = read_volume([VolumeSource(tmp_path / "a.nii")])
    assert volume.values.dtype == np.int16
    assert np.array_equal(volume.values[0], 2 * _ramp().T - 1024)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([-5, 300], dtype=np.int64), np.int16),
        (np.array([0, 40000], dtype=np.uint16), np.int32),
        (np.array([1.0, -3.0]), np.int16),
        (np.array([0.5, 1.0]), np.float32),
        (np.array([np.nan, 1.0]), np.float32),
        (np.array([3e9]), np.float32),
        (np.array([True]), np.int16),
    ],
)
def test_values_are_kept_in_the_smallest_type_without_loss(values: np.ndarray, expected: type) -> None:
    stored = as_storable(values)
    assert stored.dtype == expected
    assert np.array_equal(stored, values, equal_nan=True)


def test_a_fourth_axis_is_channels_only_if_as_many_are_named(tmp_path: Path) -> None:
    source = _save(tmp_path / "a.nii", _ramp((4, 5, 6, 2)))
    assert read_volume([source], channels=2).values.shape == (2, 6, 5, 4)
    with pytest.raises(DataError, match=r"a\.nii: has four axes \(4 x 5 x 6 x 2\), expected three; .*time points"):
        read_volume([source])
    with pytest.raises(DataError, match="expected 3 channels; if the last axis holds channels, name all 2"):
        read_volume([source], channels=3)


def test_a_vector_of_each_voxel_is_channels(tmp_path: Path) -> None:
    source = _save(tmp_path / "a.nii", _ramp((4, 5, 6, 1, 3)))
    assert np.array_equal(read_volume([source], channels=3).values[2], _ramp((4, 5, 6, 1, 3))[..., 0, 2].T)


def test_a_channel_in_another_order_of_axes_is_turned(tmp_path: Path) -> None:
    first = _save(tmp_path / "a.nii", _ramp())
    # The same voxels in RAS: both in-plane axes run the other way, from the other corner.
    affine = np.array([[1.0, 0, 0, -3], [0, 1, 0, -4], [0, 0, 1, 0], [0, 0, 0, 1]])
    second = _save(tmp_path / "b.nii", _ramp()[::-1, ::-1], affine)
    volume = read_volume([first, second])
    assert np.array_equal(volume.values[0], volume.values[1])
    assert volume.notes == ()


def test_a_channel_on_another_grid_is_resampled_where_the_headers_place_it(tmp_path: Path) -> None:
    # A linear function of the position survives linear interpolation: x in mm, at 1 mm and at 2 mm.
    x = np.broadcast_to(np.arange(8.0)[:, None, None], (8, 4, 4))
    coarse = np.broadcast_to(2 * np.arange(4.0)[:, None, None], (4, 4, 4))
    first = _save(tmp_path / "t2.nii", x.astype(np.float32), np.eye(4))
    second = _save(tmp_path / "adc.nii", coarse.astype(np.float32), np.diag([2.0, 1.0, 1.0, 1.0]))
    volume = read_volume([first, second])
    # RAS is turned round in x; the last voxel at 7 mm lies in the last coarse one, which reaches from 5 to 7 mm.
    assert volume.values[1, 0, 0].tolist() == [6.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
    assert volume.notes == ("adc.nii resampled to the grid of t2.nii: 4x4x4 of 2x1x1 mm, t2.nii's 8x4x4 of 1x1x1 mm",)


def test_a_channel_elsewhere_is_refused(tmp_path: Path) -> None:
    far = np.eye(4)
    far[0, 3] = 500
    sources = [_save(tmp_path / "a.nii", _ramp(), np.eye(4)), _save(tmp_path / "b.nii", _ramp(), far)]
    with pytest.raises(DataError, match=r"b\.nii: lies outside the first channel by its header.*--ignore-headers"):
        read_volume(sources)
    assert np.array_equal(*read_volume(sources, ignore_headers=True).values)


def test_a_sheared_volume_is_read_and_said(tmp_path: Path) -> None:
    sheared = np.eye(4)
    sheared[0, 1] = 0.05
    volume = read_volume([_save(tmp_path / "a.nii", _ramp(), sheared)])
    # atan(0.05) = 2.86 degrees.
    assert volume.notes == ("its axes are sheared by 2.9 degrees, which distances in voxels leave out of account",)


def test_a_plane_and_colours_are_no_volume(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.nii: expected a volume of three axes, .* found 4 x 5 of int16"):
        read_volume([_save(tmp_path / "a.nii", _ramp((4, 5)))])
    colours = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    with pytest.raises(DataError, match="found 4 x 5 x 6 of colours"):
        read_volume([_save(tmp_path / "b.nii", colours)])


def test_labels_are_turned_to_the_grid_of_their_volume(tmp_path: Path) -> None:
    volume = read_volume([_save(tmp_path / "a.nii", _ramp())])
    affine = np.array([[1.0, 0, 0, -3], [0, 1, 0, -4], [0, 0, 1, 0], [0, 0, 0, 1]])
    labels = read_volume_labels(
        _save(tmp_path / "m.nii", (_ramp() % 3)[::-1, ::-1].astype(np.float32), affine), volume.grid
    )
    assert labels.dtype.kind == "i"
    assert np.array_equal(labels, (_ramp() % 3).T)


def test_rounding_of_headers_is_no_other_grid(tmp_path: Path) -> None:
    volume = read_volume([_save(tmp_path / "a.nii", _ramp())])
    almost = _LPS.copy()
    almost[0, 0], almost[1, 3] = -1.0000001, 1e-5
    assert read_volume_labels(_save(tmp_path / "m.nii", _ramp(), almost), volume.grid).shape == (6, 5, 4)


def test_labels_on_another_grid_are_refused_with_the_difference(tmp_path: Path) -> None:
    volume = read_volume([_save(tmp_path / "a.nii", _ramp())])
    shifted = _LPS.copy()
    shifted[2, 3] = 3
    source = _save(tmp_path / "m.nii", _ramp(), shifted)
    with pytest.raises(DataError, match=r"m\.nii: is on another grid than a\.nii: shifted by 3 mm \(0, 0, 3\)"):
        read_volume_labels(source, volume.grid)
    assert read_volume_labels(source, volume.grid, ignore_headers=True).shape == (6, 5, 4)
    smaller = _save(tmp_path / "s.nii", _ramp((4, 5, 5)))
    with pytest.raises(DataError, match=r"s\.nii: is on another grid than a\.nii: 4x5x5, a\.nii's 4x5x6"):
        read_volume_labels(smaller, volume.grid)


def test_labels_that_are_no_whole_numbers_are_refused(tmp_path: Path) -> None:
    volume = read_volume([_save(tmp_path / "a.nii", _ramp())])
    soft = np.full((4, 5, 6), 0.25, dtype=np.float32)
    with pytest.raises(DataError, match=r"m\.nii: has values such as 0\.25, expected whole numbers"):
        read_volume_labels(_save(tmp_path / "m.nii", soft), volume.grid)
    soft[0, 0, 0] = np.nan
    with pytest.raises(DataError, match=r"m\.nii: 1 voxels of the mask are NaN or infinite"):
        read_volume_labels(_save(tmp_path / "m.nii", soft), volume.grid)


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    source = _save(tmp_path / "a.nii.gz", np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16))
    source.path.write_bytes(source.path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"a\.nii\.gz: cannot be read as NIfTI"):
        read_volume([source])


def test_a_channel_without_any_number_is_refused(tmp_path: Path) -> None:
    values = np.full((4, 5, 6), np.nan, dtype=np.float32)
    with pytest.raises(DataError, match=r"a\.nii: all voxels of a channel are NaN or infinite"):
        read_volume([_save(tmp_path / "a.nii", values)])
    values[0, 0, 0] = 1
    assert np.isfinite(read_volume([_save(tmp_path / "a.nii", values)]).values).sum() == 1
