"""`guidino slices`: written slices, resuming, refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Three small volumes of three slices, one of them in a folder below."""
    for number, name in enumerate(("a.nii.gz", "b.nii", "deep/c.nii.gz")):
        (tmp_path / "ct" / name).parent.mkdir(parents=True, exist_ok=True)
        # 192 different values, as in an image; the last quarter is air in HU.
        values = np.arange(192, dtype=np.int16).reshape(8, 8, 3) + 10 * number
        values[6:] -= 1200
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "ct" / name)
    return tmp_path / "ct"


def _pictures(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))


def test_every_volume_becomes_a_folder_of_its_slices(volumes: Path, guidino: Callable[..., Any]) -> None:
    out = volumes.parent / "slices"
    result = guidino("slices", volumes, "-o", out, "--size", "16")
    assert result.code == 0
    assert result.stdout.startswith("9 slices of 3 volumes")
    assert _pictures(out) == [f"{name}/{number:04d}.png" for name in ("a", "b", "deep/c") for number in range(3)]


def test_finished_volumes_are_skipped_and_other_settings_refused(volumes: Path, guidino: Callable[..., Any]) -> None:
    out = volumes.parent / "slices"
    assert guidino("slices", volumes, "-o", out, "--shard", "1/2").stdout.startswith("6 slices of 2 volumes")
    written = (out / "a" / "0000.png").stat().st_mtime_ns
    assert guidino("slices", volumes, "-o", out).stdout.startswith("3 slices of 1 volume")
    assert (out / "a" / "0000.png").stat().st_mtime_ns == written
    result = guidino("slices", volumes, "-o", out, "--window", "50,100")
    assert result.code == 2
    assert "was begun with window [40.0, 400.0], not [50.0, 100.0]" in result.stderr


def test_a_damaged_volume_is_named_and_the_others_are_done(volumes: Path, guidino: Callable[..., Any]) -> None:
    (volumes / "b.nii").write_bytes(b"no volume")
    out = volumes.parent / "slices"
    result = guidino("slices", volumes, "-o", out)
    assert result.code == 6
    assert "b.nii" in result.stderr
    assert len(_pictures(out)) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--window", "soft"), "expected two numbers"),
        (("--window", "40,-400"), "--window 40,-400: expected a level and a width above 0"),
        (("--window", "40,nan"), "expected a level and a width above 0"),
        (("--shard", "3/2"), "expected NUMBER/COUNT such as 2/8"),
        (("--shard", "0/2"), "the first is 1/8"),
        (("--shard", "1.5/2"), "--shard 1.5/2: expected NUMBER/COUNT"),
        (("--shard", "inf/inf"), "--shard inf/inf: expected NUMBER/COUNT"),
    ],
)
def test_invalid_options_are_refused(
    volumes: Path, guidino: Callable[..., Any], options: tuple[str, str], message: str
) -> None:
    result = guidino("slices", volumes, "-o", volumes.parent / "slices", *options)
    assert result.code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.nii", "a.nii and a.nii.gz would both be cut into a/; rename or remove one"),
        ("b/x.nii.gz", "b.nii would be cut into b/, as would b/x.nii.gz; rename one of them"),
    ],
)
@pytest.mark.parametrize("shard", ["1/1", "3/4"])
def test_volumes_that_would_be_cut_into_one_folder_are_refused_in_every_shard(
    volumes: Path, guidino: Callable[..., Any], name: str, message: str, shard: str
) -> None:
    (volumes / name).parent.mkdir(exist_ok=True)
    (volumes / name).write_bytes(b"")
    result = guidino("slices", volumes, "-o", volumes.parent / "slices", "--shard", shard)
    assert result.code == 3
    assert message in result.stderr
    assert not (volumes.parent / "slices").exists()


def _save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)


def test_label_maps_are_left_out_and_named(volumes: Path, guidino: Callable[..., Any]) -> None:
    labels = np.zeros((8, 8, 3), dtype=np.float32)
    labels[2:5, 2:5] = 2
    _save(volumes / "labels" / "a.nii.gz", labels)
    out = volumes.parent / "slices"
    result = guidino("slices", volumes, "-o", out)
    assert result.code == 0
    assert "left out 1 label map" in result.stderr
    assert "labels/a.nii.gz (2 values)" in result.stderr
    assert {name.split("/")[0] for name in _pictures(out)} == {"a", "b", "deep"}


def test_label_maps_are_cut_on_request(volumes: Path, guidino: Callable[..., Any]) -> None:
    _save(volumes / "labels.nii.gz", np.ones((8, 8, 3), dtype=np.uint8))
    result = guidino("slices", volumes, "-o", volumes.parent / "slices", "--keep-label-maps")
    assert result.stdout.startswith("12 slices of 4 volumes")


def test_a_folder_of_label_maps_only_is_refused(volumes: Path, guidino: Callable[..., Any]) -> None:
    _save(volumes.parent / "seg" / "a.nii.gz", np.ones((8, 8, 3), dtype=np.uint8))
    result = guidino("slices", volumes.parent / "seg", "-o", volumes.parent / "slices")
    assert result.code == 3
    assert "no image among 1 volume: 1 label map" in result.stderr
    assert "next:" not in result.stdout


def test_a_window_in_hu_on_mr_is_warned_of_with_what_to_type(volumes: Path, guidino: Callable[..., Any]) -> None:
    # Half of the voxels are above 240, the upper end of the window.
    _save(volumes.parent / "mr" / "a.nii.gz", np.arange(128, 384, dtype=np.int16).reshape(8, 8, 4))
    result = guidino("slices", volumes.parent / "mr", "-o", volumes.parent / "slices", "--size", "8")
    assert result.code == 0
    assert "1 of 1 volume hold no HU" in result.stderr
    assert "a.nii.gz with values from 128 to 383" in result.stderr
    assert "56 % of their pixels are white" in result.stderr
    assert "--window auto" in result.stderr


@pytest.mark.parametrize("options", [(), ("--window", "auto"), ("--window", "200,300")])
def test_ct_in_hu_and_windows_that_are_not_hu_are_not_warned_of(
    volumes: Path, guidino: Callable[..., Any], options: tuple[str, ...]
) -> None:
    result = guidino("slices", volumes, "-o", volumes.parent / "slices", *options)
    assert "HU" not in result.stderr


def test_files_of_other_formats_are_named_whatever_their_suffix(volumes: Path, guidino: Callable[..., Any]) -> None:
    for name in ("dicom/IM_0001", "dicom/1.2.840.10008", "x.nrrd", "notes.txt"):
        (volumes / name).parent.mkdir(exist_ok=True)
        (volumes / name).write_bytes(b"\0" * 128 + b"DICM")
    result = guidino("slices", volumes, "-o", volumes.parent / "slices")
    assert result.code == 0
    assert "2 DICOM files (dicom/1.2.840.10008, dicom/IM_0001)" in result.stderr
    assert "1 NRRD file (x.nrrd)" in result.stderr
    assert "notes.txt" not in result.stderr


def test_a_folder_without_nifti_says_what_it_holds(tmp_path: Path, guidino: Callable[..., Any]) -> None:
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "1.dcm").write_bytes(b"")
    result = guidino("slices", tmp_path / "ct", "-o", tmp_path / "slices")
    assert result.code == 3
    assert "found 1 DICOM file (1.dcm): convert them to NIfTI first, DICOM with dcm2niix" in result.stderr


def test_a_folder_of_damaged_volumes_is_unusable(tmp_path: Path, guidino: Callable[..., Any]) -> None:
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "a.nii").write_bytes(b"no volume")
    result = guidino("slices", tmp_path / "ct", "-o", tmp_path / "slices")
    assert result.code == 3
    assert "no image among 1 volume: 1 could not be read" in result.stderr


def test_what_cannot_be_cut_is_named_and_the_others_are_done(volumes: Path, guidino: Callable[..., Any]) -> None:
    (volumes / "dead.nii.gz").symlink_to(volumes / "gone.nii.gz")
    (volumes / "dir.nii.gz").mkdir()
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 4, 4, 2), np.float32), np.eye(4)), volumes / "series.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 4), np.nan, np.float32), np.eye(4)), volumes / "empty.nii.gz")
    result = guidino("slices", volumes, "-o", volumes.parent / "slices")
    text = " ".join(result.stderr.split())
    assert result.code == 6
    assert "dead.nii.gz: is a link to" in text
    assert "folders without a NIfTI file: dir.nii.gz" in text
    assert "series.nii.gz: is a volume of 4 axes (4 x 4 x 4 x 2), expected 3" in text
    assert "empty.nii.gz: all its voxels are NaN" in text
    assert "3 of 6 volumes could not be read" in text
    assert len(_pictures(volumes.parent / "slices")) == 9


def test_a_folder_named_like_its_volume_is_no_mistake(volumes: Path, guidino: Callable[..., Any]) -> None:
    (volumes / "a.nii.gz").rename(volumes / "file")
    (volumes / "a.nii.gz").mkdir()
    (volumes / "file").rename(volumes / "a.nii.gz" / "a.nii.gz")
    result = guidino("slices", volumes, "-o", volumes.parent / "slices")
    assert result.code == 0
    assert "skipped" not in result.stderr


def test_voxels_without_a_value_are_counted_and_black(tmp_path: Path, guidino: Callable[..., Any]) -> None:
    values = np.arange(192, dtype=np.float32).reshape(8, 8, 3) + 0.5
    values[:4, :4, 1] = np.nan
    (tmp_path / "ct").mkdir()
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0])), tmp_path / "ct" / "a.nii.gz")
    result = guidino("slices", tmp_path / "ct", "-o", tmp_path / "out", "--size", "8")
    assert result.code == 0
    assert "1 volume with NaN, which is cut as black: a.nii.gz (16 voxels)" in " ".join(result.stderr.split())
    picture = np.asarray(Image.open(tmp_path / "out" / "a" / "0001.png"))
    assert (picture == 0).sum() == 16
