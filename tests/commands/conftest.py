"""What the tests of the commands share: masks as files, folders of them, the rows of a report."""

import csv
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Exit code of a command line run in this process; what it prints is left to `capsys`."""
    from guidino_cli.cli import main

    def call(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["guidino", *map(str, words)])
        try:
            main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    return call


@pytest.fixture(scope="module")
def no_pictures() -> Iterator[None]:
    """Training leaves out its pictures, which take longer than it does with tiny networks."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("draw_curve", "draw_validation"):
            patch.setattr(f"guidino_cli.commands.train.{name}", lambda *_, **__: None)
        patch.setattr("guidino_cli.commands.train.curve_keeper", lambda *_: None)
        yield


@pytest.fixture
def coarse_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn whole, but in few pixels, which takes a fraction of the time.

    A test that looks at the pixels of a picture is marked with `pictures` and gets all of them.
    """
    if "pictures" in request.keywords:
        return
    from matplotlib.figure import Figure

    original = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, place, **others: original(self, place, **others | {"dpi": 20}))


@pytest.fixture
def save_mask() -> Callable[[Path, np.ndarray], Path]:
    """Write an 8-bit mask, with the folder it lies in."""

    def save(path: Path, mask: np.ndarray) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask.astype(np.uint8)).save(path)
        return path

    return save


@pytest.fixture
def mask_folders(tmp_path: Path, save_mask: Callable[[Path, np.ndarray], Path]) -> Callable[..., Path]:
    """Folders of masks below tmp_path: `mask_folders(truth={"a": mask}, predictions={"a": mask})`."""

    def make(**sides: dict[str, np.ndarray]) -> Path:
        for side, masks in sides.items():
            for name, mask in masks.items():
                save_mask(tmp_path / side / f"{name}.png", mask)
        return tmp_path

    return make


@pytest.fixture
def read_rows() -> Callable[[Path], list[dict[str, str]]]:
    """The rows of a CSV."""

    def read(path: Path) -> list[dict[str, str]]:
        with path.open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    return read
