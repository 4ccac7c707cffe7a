"""Instances from files to files: prepare, train, predict, evaluate, and what is refused in one line."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

from guidino_cli.data.manifest import load_manifest
from guidino_cli.data.volumes.stored import open_array
from guidino_cli.engine.prediction.instance_threshold import THRESHOLDS

Run = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("figures_where_marked")

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
VOLUMES = """
model: {target: affinities, segmenter: {name: unet3d, options: {widths: [8, 16]}}}
data: {dims: 3, patch_size: [8, 16, 16], augment: light}
train: {epochs: 2, steps: 30, batch_size: 2, lr: 1e-2, weight_decay: 0, loss: {affinities: 1}}
predict: {mirror: false, overlap: 0.25}
"""
IMAGES = """
model: {target: affinities, segmenter: {name: unet, options: {width: 4}}}
data: {dims: 2, image_size: 32, resize: none, augment: none}
train: {epochs: 1, steps: 2, batch_size: 2, lr: 1e-2, loss: {affinities: 1}}
predict: {mirror: false, overlap: 0}
"""


def bricks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two touching bright bricks and one apart, each of its own grey, and their numbers 7, 300 and 12."""
    generator = np.random.default_rng(seed)
    labels = np.zeros((16, 16, 8), dtype=np.int16)
    split = int(generator.integers(4, 7))
    labels[1:9, 1:split, 1:7], labels[1:9, split:9, 1:7], labels[11:15, 3:13, 2:6] = 7, 300, 12
    grey = np.select([labels == 7, labels == 300, labels == 12], [60, 100, 80], 0)
    return grey + generator.integers(0, 8, labels.shape), labels


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values.astype(np.int16), AFFINE), path)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Four volumes of bricks."""
    for number in range(4):
        grey, labels = bricks(number)
        save(tmp_path / "source" / "images" / f"c{number}.nii.gz", grey)
        save(tmp_path / "source" / "masks" / f"c{number}.nii.gz", labels)
    return tmp_path / "source"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Four pictures whose masks are cells (255) between lines of 0."""
    for number in range(4):
        cells = np.full((40, 40), 255, dtype=np.uint8)
        cells[13 + number], cells[:, 20] = 0, 0
        for kind, values in (("images", cells // 2 + 20), ("masks", cells)):
            path = tmp_path / "source" / kind / f"c{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    return tmp_path / "source"


def error(outcome: Any, code: int) -> str:
    """The only line of an error."""
    assert outcome.code == code, outcome.stderr
    return str(outcome.stderr).strip().splitlines()[-1]


def prepare(guidino: Run, source: Path, *options: object) -> Any:
    return guidino("prepare", source, "-o", source.parent / "data", "--split", "50/25/25", *options)


def test_numbers_are_kept_apart_and_counted_without_gaps(guidino: Run, volumes: Path) -> None:
    assert prepare(guidino, volumes, "--instances", "numbers").code == 0
    manifest = load_manifest(volumes.parent / "data", takes_instances=True)
    assert (manifest.has_instances, manifest.classes) == (True, ["background", "instance"])
    assert json.loads((volumes.parent / "data" / "cases.json").read_text())["format"] == 3
    for number, case in enumerate(manifest.cases):
        assert case.volume is not None
        assert case.volume.labels is not None
        stored = np.asarray(open_array(case.volume.labels)[:])
        _, labels = bricks(number)
        # The order of the values: 7, 12, 300; the axes are those of the file, transposed.
        np.testing.assert_array_equal(stored, np.searchsorted([0, 7, 12, 300], labels.T))
        assert stored.dtype == np.uint16
        np.testing.assert_array_equal(np.asarray(nibabel.load(case.mask).dataobj).T, stored)


def test_components_of_the_foreground_of_pictures_are_instances(guidino: Run, pictures: Path) -> None:
    assert prepare(guidino, pictures, "--instances", "components").code == 0
    case = load_manifest(pictures.parent / "data", takes_instances=True).cases[1]
    mask = np.asarray(Image.open(case.mask))
    assert [int(mask[place]) for place in ((0, 0), (0, 39), (39, 0), (39, 39), (14, 5))] == [1, 2, 3, 4, 0]


def test_instances_of_volumes_are_learnt_predicted_and_scored(guidino: Run, volumes: Path, tmp_path: Path) -> None:
    prepare(guidino, volumes, "--instances", "numbers")
    (tmp_path / "tiny.yaml").write_text(VOLUMES)
    run, data = tmp_path / "run", tmp_path / "data"
    trained = guidino("train", "-p", tmp_path / "tiny.yaml", "-d", data, "-o", run, "--device", "cpu")
    assert trained.code == 0, trained.stderr
    assert "threshold" in trained.stdout
    chosen = json.loads((run / "instances.json").read_text())
    assert [point["threshold"] for point in chosen["curve"]] == list(THRESHOLDS)
    assert chosen["precision"] == "no"
    best = min(point["are"] for point in chosen["curve"])
    at = {point["threshold"]: point["are"] for point in chosen["curve"]}
    assert at[chosen["threshold"]] == best < 0.5
    with (run / "instances.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + len(THRESHOLDS)

    predicted = guidino("predict", run, data, "-o", tmp_path / "masks", "--device", "cpu")
    assert predicted.code == 0, predicted.stderr
    assert "instance numbers" in predicted.stdout
    (mask,) = (tmp_path / "masks").glob("*.nii.gz")
    image = nibabel.load(mask)
    assert image.shape == (16, 16, 8)
    np.testing.assert_allclose(image.affine, AFFINE)

    scored = guidino("evaluate", tmp_path / "masks", data, "--metrics", "are,voi", "-o", tmp_path / "report")
    assert scored.code == 0, scored.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert sum(count for name, count in report["instances"].items() if name != "extra") == 3
    assert report["summary"][0]["mean"] < 0.5

    again = guidino("tune-post", run, "--set", "predict.instances=waterz", "--device", "cpu")
    assert again.code == 0, again.stderr
    assert json.loads((run / "instances.json").read_text())["method"] == "waterz"
    refused = guidino("predict", run, data, "-o", tmp_path / "others", "--device", "cpu")
    assert "the threshold was chosen for method waterz, now it is watershed; choose one" in error(refused, 2)
    assert f"(guidino tune-post {run} --set predict.instances=watershed)" in error(refused, 2)
    given = ("--set", "predict.threshold=0.5")
    assert guidino("predict", run, data, "-o", tmp_path / "others", *given, "--device", "cpu").code == 0


def test_pictures_give_masks_of_instances_with_one_slice(
    guidino: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(guidino, pictures, "--instances", "components")
    (tmp_path / "tiny.yaml").write_text(IMAGES)
    run, data = tmp_path / "run", tmp_path / "data"
    with monkeypatch.context() as patch:
        # The threshold is chosen with the model that was trained: a second one may not fit beside it on a GPU.
        patch.setattr("guidino_cli.engine.runs.loading.load_run", None)
        trained = guidino("train", "-p", tmp_path / "tiny.yaml", "-d", data, "-o", run, "--device", "cpu")
    assert trained.code == 0, trained.stderr
    predicted = guidino("predict", run, pictures / "images", "-o", tmp_path / "masks", "--device", "cpu")
    assert predicted.code == 0, predicted.stderr
    assert np.asarray(Image.open(tmp_path / "masks" / "c0.png")).shape == (40, 40)
    # There is nothing to sort by, and nothing that tune-risk could fit.
    assert not list((tmp_path / "masks").glob("review.*"))
    assert "tune-risk" not in predicted.stderr
    for options, message in (
        (("--overlay",), "--overlay is for classes, but the run makes instances"),
        (("--post", "largest"), "--post largest is for classes, but the run makes instances"),
        (("--save-probabilities",), "--save-probabilities is for classes, but the run makes instances"),
        (("--values", "255"), "--values 255 is for classes, but the run makes instances"),
        (("--risk",), "--risk is for classes, but the run makes instances"),
        (("--format", "coco"), "--format is for images, but"),
    ):
        refused = guidino("predict", run, pictures / "images", "-o", tmp_path / "other", *options, "--device", "cpu")
        assert message in error(refused, 2)
    (run / "instances.json").unlink()
    refused = guidino("predict", run, pictures / "images", "-o", tmp_path / "other", "--device", "cpu")
    assert "no threshold was chosen on its validation cases" in error(refused, 2)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--instances", "labels"), 2, "--instances labels: expected numbers or components"),
        (("--instances", "numbers", "--binary"), 2, "--binary: says which class values are, but --instances"),
        (("--instances", "numbers", "--threshold", "5"), 2, "--threshold: says which class values are"),
        (("--instances", "components", "--ignore-label", "9"), 2, "--ignore-label: says which class values are"),
    ],
)
def test_options_that_make_classes_are_refused(
    guidino: Run, volumes: Path, options: tuple[str, ...], code: int, message: str
) -> None:
    assert message in error(prepare(guidino, volumes, *options), code)


def test_masks_of_one_value_are_no_instance_numbers(guidino: Run, pictures: Path) -> None:
    message = error(prepare(guidino, pictures, "--instances", "numbers"), 3)
    assert "all masks hold one value besides 0, 255, which is a class" in message
    assert "give --instances components" in message


def test_negative_instance_numbers_are_refused(guidino: Run, volumes: Path) -> None:
    _, labels = bricks(0)
    save(volumes / "masks" / "c0.nii.gz", np.where(labels == 7, -7, labels))
    assert "masks hold negative values (-7" in error(prepare(guidino, volumes, "--instances", "numbers"), 3)


def test_classes_cannot_be_learnt_as_affinities_nor_instances_as_classes(
    guidino: Run, volumes: Path, tmp_path: Path
) -> None:
    (tmp_path / "affinities.yaml").write_text(VOLUMES)
    (tmp_path / "classes.yaml").write_text("model: {segmenter: {name: unet3d}}\ndata: {dims: 3}\n")
    prepare(guidino, volumes)
    train = ("train", "-d", tmp_path / "data", "-o", tmp_path / "run", "--device", "cpu", "-p")
    message = error(guidino(*train, tmp_path / "affinities.yaml"), 2)
    assert "model.target is affinities, but the masks of source hold classes" in message
    prepare(guidino, volumes, "--instances", "numbers", "--overwrite")
    message = error(guidino(*train, tmp_path / "classes.yaml"), 2)
    assert "model.target is classes, but the masks of source hold instance numbers" in message
    sliced = error(guidino(*train, "instances-em"), 2)
    assert "data.dims is 2, which would cut the instances of source into slices: set data.dims=3" in sliced
    assert "masks hold instance numbers" in error(guidino("plan", tmp_path / "data"), 3)


def test_an_absent_waterz_is_one_line_before_training(
    guidino: Run, volumes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("guidino_cli.data.instances.agglomeration.find_spec", lambda name: None)
    prepare(guidino, volumes, "--instances", "numbers")
    (tmp_path / "tiny.yaml").write_text(VOLUMES)
    words = ("train", "-p", tmp_path / "tiny.yaml", "-d", tmp_path / "data", "-o", tmp_path / "run", "--device", "cpu")
    outcome = guidino(*words, "--set", "predict.instances=waterz")
    assert "predict.instances=waterz needs waterz: pip install 'guidino[em]'" in str(outcome.stderr)
    assert outcome.code == 5
    assert not (tmp_path / "run").exists()
