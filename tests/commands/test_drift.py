"""`guidino drift` through the command line: what it writes, its gate, and what cannot be compared."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from guidino_cli.engine.drift.descriptors import describe_pixels, load_instrument
from guidino_cli.engine.drift.reference import DRIFT_FILE
from guidino_cli.models.base import Backbone

Guidino = Callable[..., Any]
SMALL = (
    "--set", "model.backbone={name: random, options: {hidden_size: 32, depth: 1, heads: 2}}",
    "--set", "data.image_size=48", "--set", "model.segmenter.options.radius=1", "--device", "cpu",
)  # fmt: skip


class Colours(Backbone):
    """Tokens of the mean colours of cells, in two resolutions: an instrument that costs nothing."""

    channels, stride, identity, is_frozen = 3, 16, {"weights": "none", "sha256": "a" * 64}, True

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(image, 8), F.avg_pool2d(image, 16)]


@pytest.fixture(autouse=True)
def _cheap_instrument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guidino_cli.commands.drift.load_instrument", lambda device: Colours())


@pytest.fixture
def data(make_data: Callable[..., Path]) -> Path:
    return make_data(train=40, val=25, test=30)


@pytest.fixture
def run(data: Path, tmp_path: Path, guidino: Guidino) -> Path:
    assert guidino("fewshot", data, "-o", tmp_path / "run", *SMALL, "--labels", 3, "--unlabelled-count", 2).code == 0
    return tmp_path / "run"


def make_bright(data: Path, folder: Path) -> Path:
    """The test images, 40 grey values brighter: of another device."""
    folder.mkdir()
    for number in range(65, 95):
        pixels = np.asarray(Image.open(data / "images" / f"case{number}.png"))
        Image.fromarray((pixels.astype(int) + 40).clip(0, 255).astype(np.uint8)).save(folder / f"new{number}.png")
    return folder


def test_images_of_the_same_source_are_no_drift(run: Path, data: Path, tmp_path: Path, guidino: Guidino) -> None:
    outcome = guidino("drift", run, data, "-o", tmp_path / "drift", "--max", 1, "--show", 3)
    assert outcome.code == 0, outcome.stderr
    assert f"statistics of 65 images written to {run / DRIFT_FILE}" in outcome.stderr
    assert "no drift found" in outcome.stdout
    assert "gate drift <= 1 (set)" in outcome.stdout
    assert "and 27 more" in outcome.stdout
    rows = list(csv.DictReader((tmp_path / "drift" / "images.csv").read_text().splitlines()))
    assert {Path(row["image"]).stem for row in rows} == {f"case{number}" for number in range(65, 95)}
    distances = [float(row["distance"]) for row in rows]
    assert distances == sorted(distances, reverse=True)
    report = json.loads((tmp_path / "drift" / "drift.json").read_text())
    assert report["reference"] == {"training": 40, "held_back": 25, "held_back_are": "validation images"}
    assert (report["images"], report["is_drift"], report["gate"]["passed"]) == (30, False, True)


def test_brighter_images_are_drift_and_fail_the_gate(run: Path, data: Path, tmp_path: Path, guidino: Guidino) -> None:
    new = make_bright(data, tmp_path / "new")
    outcome = guidino("drift", run, new, "-o", tmp_path / "drift", "--max", 1)
    assert outcome.code == 8
    assert "drift <= 1 (set)" in outcome.stderr
    assert "drift: the images differ" in outcome.stdout
    assert json.loads((tmp_path / "drift" / "drift.json").read_text())["beyond_1"] == 30
    assert guidino("drift", run, new).code == 0


def test_json_is_the_only_output(run: Path, data: Path, guidino: Guidino) -> None:
    outcome = guidino("drift", run, data, "--json")
    assert json.loads(outcome.stdout)["set"]["p_value"] > 0.05


def test_the_statistics_stay_in_the_run(run: Path, data: Path, tmp_path: Path, guidino: Guidino) -> None:
    assert guidino("drift", run, "--fit").code == 0
    new = copytree(data / "images", tmp_path / "new")
    rmtree(data)
    outcome = guidino("drift", run, new)
    assert (outcome.code, "written to" in outcome.stderr) == (0, False)
    (run / DRIFT_FILE).unlink()
    outcome = guidino("drift", run, new)
    assert outcome.code == 3
    assert f"guidino drift {run} --fit --data FOLDER" in outcome.stderr
    assert guidino("drift", run, "--fit", "--data", new).code == 0
    assert (run / DRIFT_FILE).is_file()


def test_an_unreadable_image_does_not_stop_the_others(run: Path, data: Path, tmp_path: Path, guidino: Guidino) -> None:
    new = copytree(data / "images", tmp_path / "new")
    (new / "broken.png").write_bytes(b"no image")
    outcome = guidino("drift", run, new, "-o", tmp_path / "drift")
    assert (outcome.code, "1 of 96 images could not be read" in outcome.stderr) == (6, True)
    report = json.loads((tmp_path / "drift" / "drift.json").read_text())
    assert (report["images"], len(report["failed"])) == (95, 1)


def test_no_readable_image_is_an_error(run: Path, tmp_path: Path, guidino: Guidino) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.png").write_bytes(b"no image")
    outcome = guidino("drift", run, tmp_path / "new", "--max", 1)
    assert (outcome.code, "none of 1 image could be read" in outcome.stderr) == (3, True)


def test_too_few_images_in_the_data_are_refused_before_any_is_described(
    make_data: Callable[..., Path], tmp_path: Path, guidino: Guidino, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_data(train=10, val=2)
    guidino("fewshot", data, "-o", tmp_path / "run", *SMALL, "--labels", 3)
    monkeypatch.setattr("guidino_cli.commands.drift.describe_files", None)
    outcome = guidino("drift", tmp_path / "run", data)
    assert outcome.code == 3
    assert "12 images (expected 60, or 20 of training and 20 of validation)" in outcome.stderr
    assert not (tmp_path / "run" / DRIFT_FILE).exists()


def test_data_of_which_no_image_can_be_read_is_refused(run: Path, tmp_path: Path, guidino: Guidino) -> None:
    (tmp_path / "own").mkdir()
    for number in range(60):
        (tmp_path / "own" / f"{number}.png").write_bytes(b"no image")
    outcome = guidino("drift", run, "--fit", "--data", tmp_path / "own")
    assert (outcome.code, "none of its training images could be read" in outcome.stderr) == (3, True)


def test_statistics_of_another_backbone_are_refused(run: Path, data: Path, guidino: Guidino) -> None:
    guidino("drift", run, "--fit")
    text = (run / DRIFT_FILE).read_bytes()
    (run / DRIFT_FILE).write_bytes(text.replace(b"a" * 64, b"b" * 64))
    outcome = guidino("drift", run, data)
    assert (outcome.code, "other weights of the backbone" in outcome.stderr) == (3, True)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["RUN"], 2, "no IMAGES: give images to compare, or --fit"),
        (["RUN", "NOWHERE"], 3, "no such file or folder"),
        (["NOWHERE", "DATA"], 3, "no such folder; give the folder that `guidino train -o` wrote"),
        (["RUN", "DATA", "--max", "0"], 2, "expected a number above 0"),
        (["RUN", "DATA", "--max", "nan"], 2, "expected a number above 0"),
        (["RUN", "--fit", "--max", "1"], 2, "is for IMAGES"),
        (["RUN", "DATA", "--data", "DATA"], 2, "is for --fit"),
        (["RUN", "DATA", "--split", "tests"], 3, "no cases in split 'tests'"),
        (["RUN", "--fit", "--data", "NOWHERE"], 3, "no such folder"),
        (["RUN", "DATA", "-o", "DATA"], 2, "holds the input"),
    ],
)
def test_bad_input_is_answered_in_one_line(
    run: Path, data: Path, tmp_path: Path, guidino: Guidino, words: list[str], code: int, message: str
) -> None:
    places = {"RUN": run, "DATA": data, "NOWHERE": tmp_path / "nowhere"}
    outcome = guidino("drift", *(places.get(word, word) for word in words))
    assert (outcome.code, message in outcome.stderr) == (code, True), outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1


def test_the_instrument_sees_an_image_of_any_size() -> None:
    instrument = load_instrument(torch.device("cpu"))
    random = np.random.default_rng(0)
    for size in ((100, 300), (224, 224)):
        found = describe_pixels(instrument, random.integers(0, 255, (*size, 3)).astype(np.uint8))
        # Two views, two blocks, mean and standard deviation of 384 channels.
        assert found.shape == (2 * 2 * 2 * 384,)
        assert np.isfinite(found).all()


def test_the_middle_of_a_large_image_is_seen_as_it_is_stored() -> None:
    pixels = np.zeros((448, 448, 3), dtype=np.uint8)
    # A pattern that is gone when the image is made half as large.
    pixels[112:336:2, 112:336] = 255
    found = describe_pixels(Colours(), pixels).reshape(2, 2, 2, 3)
    whole, middle = found[:, 0, 0, 0]
    assert middle == pytest.approx(0.5, abs=1e-3)
    assert whole == pytest.approx(0.125, abs=0.02)
