"""pydicom and highdicom are optional, and nothing imports them before a DICOM file is read."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from guidino_cli.data.volumes.dicom.segment_writing import write_segmentation
from guidino_cli.data.volumes.dicom.segments import read_labels
from guidino_cli.data.volumes.dicom.series import choose_series, find_series
from guidino_cli.errors import DependencyError

Write = Callable[..., Path]


def test_readers_of_images_and_volumes_import_neither() -> None:
    code = (
        "import sys, guidino_cli.data.readers, guidino_cli.data.volumes.reading\n"
        "import guidino_cli.data.volumes.dicom.segment_writing\n"
        "print(*sorted({'pydicom', 'highdicom', 'SimpleITK', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_without_pydicom_one_line_names_the_extra(write_series: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_series()
    monkeypatch.setitem(sys.modules, "pydicom", None)
    for read in (find_series, lambda path: read_labels(next(path.iterdir()))):
        with pytest.raises(DependencyError, match=r"need pydicom, which is missing: pip install 'guidino\[dicom\]'$"):
            read(folder)


def test_without_highdicom_one_line_names_the_extra(
    write_series: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series = choose_series(write_series(), None)
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(DependencyError, match=r"need highdicom, which is missing: pip install 'guidino\[dicom\]'$"):
        write_segmentation(tmp_path / "a.dcm", np.zeros(series.size, dtype=np.uint8), series, ["background", "liver"])
