"""`guidino register train` and `register --network` through the command line."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

Guidino = Callable[..., Any]
pytest.importorskip("monai")
CPU = ("--device", "cpu")
SHORT = ("--steps", "3", "--learning-rate", "1e-3", *CPU)
SHAPE = (32, 40)


def base_image() -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(0).normal(size=SHAPE), 2)
    return np.asarray((noise - noise.min()) / np.ptp(noise))


def smooth_field(seed: int) -> np.ndarray:
    """(2, H, W) pixels, 2.5 at most."""
    generator = np.random.default_rng(seed)
    field = np.stack([gaussian_filter(generator.normal(size=SHAPE), 6) for _ in range(2)])
    return np.asarray(field * (2.5 / np.abs(field).max()))


def warp(image: np.ndarray, field: np.ndarray) -> np.ndarray:
    """What lies at x + u(x) in the image."""
    return np.asarray(map_coordinates(image, np.indices(image.shape) + field, order=1, mode="nearest"))


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray((255 * image).round().astype(np.uint8)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight pictures, each the same one warped by another smooth field."""
    for seed in range(8):
        save(tmp_path / "in" / f"{seed}.png", warp(base_image(), smooth_field(seed + 1)))
    return tmp_path / "in"


def read_field(out: Path) -> np.ndarray:
    """(2, H, W) rows and columns; the file has columns and rows of (X, Y)."""
    values = np.asarray(nibabel.load(out / "displacement.nii.gz").dataobj)[:, :, 0, 0, :2]
    return np.asarray(values.transpose(2, 1, 0)[::-1])


@pytest.mark.slow
def test_known_warps_of_new_pairs_are_found_by_a_network_that_never_saw_them(
    folder: Path, tmp_path: Path, guidino: Guidino
) -> None:
    options = ("--loss", "features", "--smoothness", 0.3, "--steps", 500, "--learning-rate", 1e-3, *CPU)
    outcome = guidino("register", "train", folder, "-o", tmp_path / "net", *options)
    assert outcome.code == 0, outcome.stderr
    moving = save(tmp_path / "new/base.png", base_image())
    errors, lengths = [], []
    for seed in (101, 102, 103):
        field = smooth_field(seed)
        fixed = save(tmp_path / "new" / f"{seed}.png", warp(base_image(), field))
        out = tmp_path / "out" / str(seed)
        outcome = guidino("register", fixed, moving, "-o", out, "--network", tmp_path / "net", "--no-figures", *CPU)
        assert outcome.code == 0, outcome.stderr
        errors.append(np.linalg.norm(read_field(out) - field, axis=0).mean())
        lengths.append(np.linalg.norm(field, axis=0).mean())
    # In so few steps a quarter of the way; a field in the wrong direction would double the distance.
    assert np.mean(errors) < 0.85 * np.mean(lengths)


def test_outputs_are_those_of_convexadam_and_tell_the_network(folder: Path, tmp_path: Path, guidino: Guidino) -> None:
    assert guidino("register", "train", folder, "-o", tmp_path / "net", *SHORT).code == 0
    mask = np.zeros(SHAPE)
    mask[10:20, 10:20] = 1
    masks = ("--fixed-mask", save(tmp_path / "m/a.png", mask), "--moving-mask", save(tmp_path / "m/b.png", mask))
    out = tmp_path / "out"
    pair = (folder / "0.png", folder / "1.png")
    outcome = guidino("register", *pair, "-o", out, "--network", tmp_path / "net", *masks, *CPU, "--json")
    assert outcome.code == 0, outcome.stderr
    names = {"displacement.nii.gz", "warped.png", "warped_mask.png", "figure.png", "result.json", "report.html"}
    assert names <= {path.name for path in out.iterdir()}
    report = json.loads(outcome.stdout)
    assert (report["settings"]["features"], report["settings"]["loss"]) == ("image", "lncc")
    assert len(report["settings"]["network_sha256"]) == 64
    assert report["results"][0]["scores"]["dice_before"] == 1
    # Another training is another method.
    assert guidino("register", "train", folder, "-o", tmp_path / "net", *SHORT, "--seed", 1, "--overwrite").code == 0
    again = ("--network", tmp_path / "net", *masks, *CPU, "--skip-existing")
    outcome = guidino("register", *pair, "-o", out, *again)
    assert (outcome.code, "made with other settings" in outcome.stderr) == (3, True)


@pytest.mark.parametrize("features", ["mind", "dino", "both"])
def test_a_network_on_features_registers_volumes(features: str, tmp_path: Path, guidino: Guidino) -> None:
    for seed in range(3):
        noise = gaussian_filter(np.random.default_rng(seed).normal(size=(16, 18, 12)), 2)
        (tmp_path / "in").mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(noise.astype(np.float32), np.eye(4)), tmp_path / f"in/{seed}.nii.gz")
    table = tmp_path / "in/pairs.csv"
    table.write_text("fixed,moving\n0.nii.gz,1.nii.gz\n1.nii.gz,2.nii.gz\n")
    small = ("--random-weights", "1", "--px", "28", "--components", "4")
    backbone = () if features == "mind" else small
    words = ("-o", tmp_path / "net", "-f", features, *backbone, "--cell", 2, *SHORT)
    outcome = guidino("register", "train", table, *words)
    assert outcome.code == 0, outcome.stderr
    out = tmp_path / "out"
    outcome = guidino("register", table, "-o", out, "--network", tmp_path / "net", "--no-figures", *CPU)
    assert outcome.code == 0, outcome.stderr
    assert nibabel.load(out / "1-to-0/displacement.nii.gz").shape == (16, 18, 12, 1, 3)
    facts = json.loads((tmp_path / "net/network.json").read_text())
    channels = {"mind": 12, "dino": 4, "both": 16}[features]
    assert (facts["shape"]["dims"], facts["shape"]["channels"]) == (3, channels)


def test_a_resumed_training_is_the_uninterrupted_one(folder: Path, tmp_path: Path, guidino: Guidino) -> None:
    words = ("register", "train", folder, "--learning-rate", 1e-2, *CPU)
    assert guidino(*words, "-o", tmp_path / "whole", "--steps", 4).code == 0
    assert guidino(*words, "-o", tmp_path / "parts", "--steps", 2).code == 0
    outcome = guidino(*words, "-o", tmp_path / "parts", "--steps", 4, "--resume")
    assert outcome.code == 0, outcome.stderr
    weights = [(tmp_path / name / "network.safetensors").read_bytes() for name in ("whole", "parts")]
    assert weights[0] == weights[1]
    steps = [json.loads(line)["step"] for line in (tmp_path / "parts/history.jsonl").read_text().splitlines()]
    assert steps == [2, 4]


def test_resuming_with_other_options_names_the_first(folder: Path, tmp_path: Path, guidino: Guidino) -> None:
    words = ("register", "train", folder, "-o", tmp_path / "net", *SHORT)
    assert guidino(*words).code == 0
    outcome = guidino(*words, "--resume", "--seed", 5)
    assert (outcome.code, "was trained with seed 0, this is 5" in outcome.stderr) == (2, True)
    os.utime(folder / "7.png", (0, 0))
    outcome = guidino(*words, "--resume")
    assert (outcome.code, "or they have changed since" in outcome.stderr) == (2, True)
    (folder / "7.png").unlink()
    outcome = guidino(*words, "--resume")
    assert (outcome.code, "learned from other files" in outcome.stderr) == (2, True)


BAD_TRAININGS: dict[str, tuple[tuple[object, ...], int, str]] = {
    "features": (("-f", "sift"), 2, "expected image, mind, dino or both"),
    "loss": (("--loss", "mse"), 2, "--loss mse: expected lncc or features"),
    "backbone of images": (("--backbone", "random"), 2, "--backbone is for --features dino or both; image needs no"),
    "rate": (("--learning-rate", "0"), 2, "expected a number above 0"),
    "infinite rate": (("--learning-rate", "inf"), 2, "--learning-rate inf: expected a number above 0"),
    "smoothness": (("--smoothness", "inf"), 2, "--smoothness inf: expected a number of 0 or more"),
    "resume nothing": (("--resume",), 2, "has no network.json, so it is no network"),
    "both ways": (("--resume", "--overwrite"), 2, "choose one"),
    "unstable": (("--learning-rate", "1e30", "--steps", "9"), 2, "choose a lower --learning-rate than 1e+30"),
}


@pytest.mark.parametrize("name", BAD_TRAININGS)
def test_bad_options_of_a_training_are_answered_in_one_line(
    name: str, folder: Path, tmp_path: Path, guidino: Guidino
) -> None:
    words, code, message = BAD_TRAININGS[name]
    options = ("--steps", 1, *CPU, *words)
    outcome = guidino("register", "train", folder, "-o", tmp_path / "net", *options)
    assert (outcome.code, message in outcome.stderr) == (code, True), outcome.stderr


def test_images_that_do_not_fit_together_are_named(folder: Path, tmp_path: Path, guidino: Guidino) -> None:
    save(folder / "9.png", np.random.default_rng(0).random((20, 20)))
    outcome = guidino("register", "train", folder, "-o", tmp_path / "net", *SHORT)
    assert (outcome.code, "9.png: is 20x20 px (width x height)" in outcome.stderr) == (3, True)
    # Nothing is left that would have to be overwritten.
    assert list((tmp_path / "net").iterdir()) == []
    lonely = save(tmp_path / "one/a.png", base_image()).parent
    outcome = guidino("register", "train", lonely, "-o", tmp_path / "net", *SHORT)
    assert (outcome.code, "has 1 images, expected 2 at least" in outcome.stderr) == (3, True)


def test_what_is_no_network_is_refused(folder: Path, tmp_path: Path, guidino: Guidino) -> None:
    pair = ("register", folder / "0.png", folder / "1.png", "-o", tmp_path / "out", *CPU)
    outcome = guidino(*pair, "--network", folder)
    assert (outcome.code, "has no network.json, so it is no network" in outcome.stderr) == (2, True)
    outcome = guidino(*pair, "--network", tmp_path / "net", "-f", "dino")
    assert (outcome.code, "--features does not go with --network" in outcome.stderr) == (2, True)
    assert guidino("register", "train", folder, "-o", tmp_path / "net", *SHORT).code == 0
    (tmp_path / "net/network.safetensors").write_bytes(b"no weights")
    outcome = guidino(*pair, "--network", tmp_path / "net")
    assert (outcome.code, "network.safetensors: is damaged" in outcome.stderr) == (3, True)
    (tmp_path / "net/network.safetensors").unlink()
    outcome = guidino(*pair, "--network", tmp_path / "net")
    assert (outcome.code, "its training is not finished" in outcome.stderr) == (2, True)
    assert not (tmp_path / "out").exists()


def test_a_network_of_pictures_does_not_take_volumes(folder: Path, tmp_path: Path, guidino: Guidino) -> None:
    assert guidino("register", "train", folder, "-o", tmp_path / "net", *SHORT).code == 0
    for name in "ab":
        values = np.random.default_rng(ord(name)).random((12, 12, 12)).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}.nii.gz")
    pair = (tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    outcome = guidino("register", *pair, "-o", tmp_path / "out", "--network", tmp_path / "net", *CPU)
    message = "has 3 axes of more than one pixel, the network learned from images of 2"
    assert (outcome.code, message in outcome.stderr) == (3, True)
