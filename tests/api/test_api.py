"""`from guidino_cli import load_run, evaluate, prepare, train`: the same results as the commands, as values."""

import csv
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image

import guidino_cli
from guidino_cli.errors import ConfigError, DataError

SMALL = {
    "model.segmenter.options": {"width": 4},
    "model.backbone": {"name": "random", "options": {"hidden_size": 32, "depth": 2, "heads": 2, "layers": [2]}},
    "data.image_size": 32,
    "train.epochs": 1,
    "train.batch_size": 2,
}


@pytest.fixture(scope="module")
def trained(make_data_in: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data and a run trained by `guidino_cli.train`."""
    folder = tmp_path_factory.mktemp("api")
    data = make_data_in(folder)
    return data, guidino_cli.train("demo", data, folder / "run", settings=SMALL, seed=3, device="cpu")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, guidino_cli; print(sorted({'torch', 'numpy', 'typer', 'rich', 'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(("before", "warnings"), [("import guidino_cli, torch", 0), ("import torch", 1)])
def test_a_torch_whose_threads_spin_is_warned_of(before: str, warnings: int) -> None:
    code = f"{before}\nfrom guidino_cli import prepare"
    environment = {"PATH": "", "PYTHONPATH": str(Path(guidino_cli.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr.count("import guidino_cli first")) == (0, warnings), done.stderr


def test_every_public_name_exists() -> None:
    assert all(callable(getattr(guidino_cli, name)) for name in guidino_cli.__all__)
    assert set(guidino_cli.__all__) <= set(dir(guidino_cli))
    with pytest.raises(AttributeError, match="has no attribute 'lode_run'"):
        guidino_cli.lode_run  # noqa: B018


def test_masks_and_guides_are_those_of_predict(
    trained: tuple[Path, Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    data, run_folder = trained
    image = data / "images" / "case6.png"
    assert guidino("predict", run_folder, image, "-o", tmp_path / "out", "--save-guide").code == 0
    run = guidino_cli.load_run(run_folder, device="cpu")
    mask, guide = run.predict(image)
    assert run.classes == ["background", "a"]
    assert not run.takes_volumes
    assert run.device.type == "cpu"
    np.testing.assert_array_equal(mask, np.asarray(Image.open(tmp_path / "out" / "case6.png")))
    assert guide is not None
    assert guide.shape == (1, 40, 48)
    assert guide.dtype == np.float32
    saved = np.asarray(Image.open(tmp_path / "out" / "guides" / "case6.png")) / 65535
    np.testing.assert_allclose(guide[0], saved, atol=1 / 65535)


def test_an_array_is_the_image_that_its_file_holds(trained: tuple[Path, Path]) -> None:
    data, run_folder = trained
    image = data / "images" / "case6.png"
    run = guidino_cli.load_run(str(run_folder), device="cpu", settings={"predict.mirror": False})
    pixels = np.asarray(Image.open(image))
    np.testing.assert_array_equal(run.predict_proba(pixels), run.predict_proba(image))
    probabilities = run.predict_proba(pixels)
    assert probabilities.shape == (2, 40, 48)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    np.testing.assert_array_equal(probabilities.argmax(axis=0), run.predict(pixels).mask)
    grey = pixels[:, :, 0]
    np.testing.assert_array_equal(run.predict_proba(grey), run.predict_proba(np.stack([grey] * 3, axis=2)))


def test_features_are_a_token_for_each_patch(trained: tuple[Path, Path]) -> None:
    data, run_folder = trained
    features = guidino_cli.load_run(run_folder, device="cpu").features(data / "images" / "case6.png")
    # 40 x 48 pixels in patches of 16, rounded up; tokens of 32 numbers.
    assert features.shape == (32, 3, 3)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), dtype=np.float32), np.zeros((4, 4, 4), dtype=np.uint8), np.zeros((0, 4), dtype=np.uint8)]
)
def test_an_array_that_is_no_image_is_refused(trained: tuple[Path, Path], array: np.ndarray) -> None:
    run = guidino_cli.load_run(trained[1], device="cpu")
    with pytest.raises(DataError, match=r"an array \(.*expected an image \(H, W\) or \(H, W, 3\) of uint8"):
        run.predict(array)


@pytest.mark.parametrize("name", ["volume.nii.gz", "values.npy"])
def test_a_file_that_is_no_image_is_refused(trained: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    if name.endswith(".npy"):
        np.save(tmp_path / name, np.zeros((4, 5), dtype=np.float32))
    else:
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 3), dtype=np.uint8), np.eye(4)), tmp_path / name)
    run = guidino_cli.load_run(trained[1], device="cpu")
    for method in (run.predict, run.features):
        with pytest.raises(DataError, match=rf"{re.escape(name)}: holds .* values, but the run takes images"):
            method(tmp_path / name)


def test_errors_have_the_words_of_the_command_line(
    trained: tuple[Path, Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    said = guidino("predict", tmp_path / "gone", trained[0], "-o", tmp_path / "out").stderr
    with pytest.raises(DataError) as caught:
        guidino_cli.load_run(tmp_path / "gone")
    assert str(caught.value) in said
    with pytest.raises(ConfigError, match="did you mean 'mirror'"):
        guidino_cli.load_run(trained[1], settings={"predict.miror": True})
    with pytest.raises(ConfigError, match="unknown argument 'metric'; did you mean 'metrics'"):
        guidino_cli.evaluate(trained[0], trained[0], metric="dice")
    with pytest.raises(ConfigError, match="unknown argument 'min_dice'"):
        guidino_cli.evaluate(trained[0], trained[0], min_dice=["0.5"])
    with pytest.raises(ConfigError, match="needs a run folder"):
        guidino_cli.load_run()


def test_scores_are_those_of_evaluate(
    trained: tuple[Path, Path], guidino: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = trained
    masks = tmp_path / "masks"
    masks.mkdir()
    for name in ("case0", "case1"):
        labels = np.asarray(Image.open(data / "masks" / f"{name}.png"))
        Image.fromarray(np.roll(labels, 2, axis=1)).save(masks / f"{name}.png")
    assert guidino("evaluate", masks, data, "--split", "train", "-o", tmp_path / "report").code == 6
    capsys.readouterr()
    scores = guidino_cli.evaluate(masks, data, split="train")
    assert capsys.readouterr() == ("", "")
    with (tmp_path / "report" / "per_case.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["case"] for row in rows] == [record["case"] for record in scores.cases]
    for row, record in zip(rows, scores.cases, strict=True):
        assert (row["status"], float(row["dice"])) == (record["status"], record["dice"])
    # A square of 14 x 14 moved by 2 shares 12 of its 14 columns; two of the four cases have no mask.
    assert scores.mean("dice") == pytest.approx((12 / 14 * 2 + 0 + 0) / 4)
    assert [record["status"] for record in scores.cases] == ["ok", "ok", "missing", "missing"]
    assert "without a usable prediction: 2 of 4 cases; they count as the worst result" in scores.warnings
    with pytest.raises(KeyError, match="no dice of liver"):
        scores.mean("dice", "liver")


def test_preparing_gives_a_folder_to_train_on(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / "source" / kind).mkdir(parents=True)
    for index in range(6):
        labels = np.zeros((32, 32), dtype=np.uint8)
        labels[4 + index : 20, 8:24] = 1
        Image.fromarray(labels * 150 + index).save(tmp_path / "source" / "images" / f"a{index}.png")
        Image.fromarray(labels).save(tmp_path / "source" / "masks" / f"a{index}.png")
    data = guidino_cli.prepare(tmp_path / "source", tmp_path / "data", classes="background,square", split="60/20/20")
    assert data == tmp_path / "data"
    assert (data / "cases.json").is_file()
    run = guidino_cli.train(
        "own-plain-unet", data, tmp_path / "run", device="cpu",
        settings={"data.image_size": 32, "train.epochs": 1, "model.segmenter.options": {"width": 4}},
    )  # fmt: skip
    assert guidino_cli.load_run(run, device="cpu").predict(data / ".." / "source" / "images" / "a0.png").guide is None


def test_a_run_on_volumes_gives_masks_with_the_axes_of_the_file(guidino: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "source" / "images").mkdir(parents=True)
    (tmp_path / "source" / "labels").mkdir()
    # The first axis from front to back, the second upwards, the third to the right.
    affine = np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]], dtype=float)
    for index in range(5):
        labels = np.zeros((20, 8, 18), dtype=np.uint8)
        labels[4:12, 2 + index % 3 : 6, 5:15] = 1
        values = (labels * 100 + np.random.default_rng(index).integers(0, 40, labels.shape)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "source" / "images" / f"v{index}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "source" / "labels" / f"v{index}.nii.gz")
    data = guidino_cli.prepare(
        tmp_path / "source", tmp_path / "data", classes="background,box", channels="MR", split="60/20/20"
    )
    folder = guidino_cli.train(
        "volumes-unet", data, tmp_path / "run", device="cpu",
        settings={"data.image_size": 32, "train.epochs": 1, "train.steps": 2, "model.segmenter.options": {"width": 4}},
    )  # fmt: skip
    source = tmp_path / "source" / "images" / "v0.nii.gz"
    run = guidino_cli.load_run(folder, device="cpu")
    mask, guide = run.predict(source)
    assert guidino("predict", folder, source, "-o", tmp_path / "out").code == 0
    np.testing.assert_array_equal(mask, np.asarray(nibabel.load(tmp_path / "out" / "v0.nii.gz").dataobj))
    assert mask.shape == (20, 8, 18)
    assert guide is None
    assert run.takes_volumes
    with pytest.raises(DataError, match="give the path of a file"):
        run.predict(np.zeros((20, 8), dtype=np.uint8))
    with pytest.raises(ConfigError, match="was trained on volumes"):
        run.features(source)
