"""Labels in the grid of their source: header, type and bytes."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from guidino_cli.data.volumes.reading import read_volume
from guidino_cli.data.volumes.writing import write_volume_labels
from guidino_cli.types import VolumeSource

_OBLIQUE = np.array([[0.0, 0.5, 0.1, 7], [-0.6, 0.0, 0.0, -8], [0.0, 0.1, -3.0, 9], [0, 0, 0, 1]])


def _source(path: Path, *, kind: type = nibabel.Nifti1Image, affine: np.ndarray = _OBLIQUE) -> VolumeSource:
    image = kind(np.arange(120, dtype=np.int16).reshape(4, 5, 6), affine)
    image.set_sform(affine, code=2)
    # Another position than the sform's, as scanners and registrations leave it.
    image.set_qform(np.diag([0.6, 0.5, 3.0, 1.0]), code=1, strip_shears=True)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"a scan"
    nibabel.save(image, path)
    return VolumeSource(path)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_labels_come_back_voxel_for_voxel_with_the_header_of_the_source(tmp_path: Path, kind: type) -> None:
    source = _source(tmp_path / "a.nii.gz", kind=kind)
    volume = read_volume([source])
    write_volume_labels(tmp_path / "m.nii.gz", volume.values[0] % 7, volume.grid)
    image, written = nibabel.load(source.path), nibabel.load(tmp_path / "m.nii.gz")
    assert np.array_equal(np.asarray(written.dataobj), np.arange(120).reshape(4, 5, 6) % 7)
    assert written.get_data_dtype() == np.uint8
    assert np.array_equal(written.affine, image.affine)
    for name in ("dim", "pixdim", "qform_code", "sform_code", "xyzt_units", "descrip"):
        assert np.array_equal(written.header[name], image.header[name]), name
    for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "srow_x", "srow_y", "srow_z"):
        assert np.array_equal(written.header[name], image.header[name]), name


def test_what_describes_intensities_is_not_kept(tmp_path: Path) -> None:
    source = _source(tmp_path / "a.nii")
    image = nibabel.load(source.path)
    image.header["cal_max"] = 500
    image.header.set_intent("z score")
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"name of a patient"))
    nibabel.save(image, tmp_path / "b.nii")
    volume = read_volume([VolumeSource(tmp_path / "b.nii")])
    write_volume_labels(tmp_path / "m.nii", np.zeros((6, 4, 5), dtype=np.uint8), volume.grid)
    written = nibabel.load(tmp_path / "m.nii")
    assert written.header["cal_max"] == 0
    assert written.header.get_intent()[0] == "none"
    assert len(written.header.extensions) == 0
    assert b"patient" not in (tmp_path / "m.nii").read_bytes()


def test_the_labels_of_a_volume_of_channels_have_three_axes(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6, 2), np.int16), _OBLIQUE), tmp_path / "a.nii")
    volume = read_volume([VolumeSource(tmp_path / "a.nii")], channels=2)
    write_volume_labels(tmp_path / "m.nii", np.zeros(volume.grid.shape, dtype=np.uint8), volume.grid)
    assert nibabel.load(tmp_path / "m.nii").shape == (4, 5, 6)


def test_more_than_255_classes_are_16_bit(tmp_path: Path) -> None:
    volume = read_volume([_source(tmp_path / "a.nii")])
    labels = np.full(volume.grid.shape, 300)
    write_volume_labels(tmp_path / "m.nii.gz", labels, volume.grid)
    written = nibabel.load(tmp_path / "m.nii.gz")
    assert written.get_data_dtype() == np.uint16
    assert np.unique(written.dataobj).tolist() == [300]


def test_equal_labels_are_equal_files(tmp_path: Path) -> None:
    volume = read_volume([_source(tmp_path / "a.nii")])
    for name in ("m.nii.gz", "n.nii.gz"):
        write_volume_labels(tmp_path / name, volume.values[0] % 2, volume.grid)
    assert (tmp_path / "m.nii.gz").read_bytes() == (tmp_path / "n.nii.gz").read_bytes()


def test_labels_of_another_size_are_a_mistake_of_the_caller(tmp_path: Path) -> None:
    volume = read_volume([_source(tmp_path / "a.nii")])
    with pytest.raises(ValueError, match="labels"):
        write_volume_labels(tmp_path / "m.nii", np.zeros((1, 2, 3)), volume.grid)
