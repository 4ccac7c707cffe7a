"""NRRD and MetaImage through SimpleITK: axes, position, errors."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from guidino_cli.cli import app
from guidino_cli.data.volumes.reading import read_volume
from guidino_cli.errors import DataError, DependencyError
from guidino_cli.types import VolumeSource


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha"])
def test_axes_position_and_values_are_those_of_nifti(tmp_path: Path, name: str) -> None:
    itk = pytest.importorskip("SimpleITK")
    image = itk.GetImageFromArray(np.arange(120, dtype=np.int16).reshape(6, 5, 4))
    image.SetSpacing((0.5, 0.6, 3.0))
    image.SetOrigin((7.0, -8.0, 9.0))
    image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    for path in (tmp_path / name, tmp_path / "a.nii"):
        itk.WriteImage(image, str(path))
    found, expected = read_volume([VolumeSource(tmp_path / name)]), read_volume([VolumeSource(tmp_path / "a.nii")])
    assert found.grid.geometry.affine == pytest.approx(expected.grid.geometry.affine, abs=1e-5)
    assert np.array_equal(found.values, expected.values)
    assert found.spacing_mm == pytest.approx(expected.spacing_mm)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"NRRD0004\ntype: short\n", "hit end of header"), (b"", "its content is neither NRRD nor MetaImage")],
)
def test_a_damaged_file_is_named_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    pytest.importorskip("SimpleITK")
    (tmp_path / "a.nrrd").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.nrrd: not a readable volume \({reason}[^\n]*\); replace it"):
        read_volume([VolumeSource(tmp_path / "a.nrrd")])


def test_without_simpleitk_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(DependencyError, match=r"a\.mha: .*pip install 'guidino\[itk\]'"):
        read_volume([VolumeSource(tmp_path / "a.mha")])


def test_evaluate_compares_nrrd_with_nifti_by_their_place(tmp_path: Path) -> None:
    itk = pytest.importorskip("SimpleITK")
    labels = np.zeros((6, 8, 10), dtype=np.uint8)
    labels[1:4, 2:6, 3:9] = 1
    image = itk.GetImageFromArray(labels)
    image.SetSpacing((0.5, 0.6, 3.0))
    for folder, name in (("truth", "a.nrrd"), ("masks", "a.nii.gz")):
        (tmp_path / folder).mkdir()
        itk.WriteImage(image, str(tmp_path / folder / name))
    result = CliRunner().invoke(
        app, ["evaluate", str(tmp_path / "masks"), str(tmp_path / "truth"), "-o", str(tmp_path / "report")]
    )
    assert result.exit_code == 0, result.output
    rows = list(csv.DictReader((tmp_path / "report" / "per_case.csv").open()))
    assert [float(row["dice"]) for row in rows] == [1.0]
