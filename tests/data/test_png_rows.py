"""PNGs written row by row: what any reader sees is what was given."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.data.png_rows import write_label_rows


def test_bands_are_read_back_as_one_image(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 255, (50, 37)).astype(np.uint8)
    write_label_rows(tmp_path / "a.png", (50, 37), [labels[:1], labels[1:33], labels[33:]])
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), labels)


def test_missing_rows_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="9 rows, expected 10"):
        write_label_rows(tmp_path / "a.png", (10, 4), [np.zeros((9, 4), dtype=np.uint8)])
    assert list(tmp_path.iterdir()) == []
