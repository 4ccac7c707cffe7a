"""The statistics of a run's images: their axes, which images are held back, and the file."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from guidino_cli.engine.drift.reference import DRIFT_FILE, DriftReference
from guidino_cli.errors import DataError


def descriptors(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.normal(size=(count, 6)) * np.array([1, 10, 100, 0.1, 1, 0]) + 5


def test_training_images_have_mean_0_and_variance_1_on_every_axis_and_no_two_axes_go_together() -> None:
    found = DriftReference.fit(descriptors(50), descriptors(25, 1), instrument="0")
    # One of the six numbers is the same for all images.
    assert found.training.shape == (50, 5)
    assert np.allclose(found.training.mean(axis=0), 0, atol=1e-4)
    assert np.allclose(np.cov(found.training.T), np.eye(5), atol=1e-3)


def test_validation_images_are_held_back() -> None:
    validation = descriptors(25, 1)
    found = DriftReference.fit(descriptors(50), validation, instrument="0")
    assert found.is_validation
    assert np.allclose(found.place(validation), found.held_back, atol=1e-5)


def test_with_few_validation_images_a_third_of_all_is_held_back() -> None:
    found = DriftReference.fit(descriptors(50), descriptors(10, 1), instrument="0")
    assert not found.is_validation
    assert (len(found.training), len(found.held_back)) == (40, 20)


@pytest.mark.parametrize("counts", [(19, 20), (59, 0), (40, 19)])
def test_too_few_images_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"{sum(counts)} images .expected 60, or 20 of training and 20 of validation"):
        DriftReference.fit(descriptors(counts[0]), descriptors(counts[1], 1), instrument="0")


def test_images_that_are_all_alike_are_refused() -> None:
    with pytest.raises(ValueError, match="all alike"):
        DriftReference.fit(np.ones((30, 6)), np.ones((30, 6)), instrument="0")


def test_a_saved_reference_is_read_back(tmp_path: Path) -> None:
    saved = DriftReference.fit(descriptors(50), descriptors(25, 1), instrument="abc")
    saved.save(tmp_path)
    found = DriftReference.load(tmp_path)
    assert (found.instrument, found.is_validation) == ("abc", True)
    assert all((getattr(found, name) == getattr(saved, name)).all() for name in ("center", "axes", "training"))
    assert [path.name for path in tmp_path.iterdir()] == [DRIFT_FILE]
    (tmp_path / "other").touch()
    assert (tmp_path / DRIFT_FILE).stat().st_mode == (tmp_path / "other").stat().st_mode


def damage(path: Path, kind: str) -> None:
    tensors = load_file(path)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "format":
        save_file(tensors, path, {"format": "9", "facts": "{}"})
    elif kind == "shapes":
        save_file({**tensors, "training": tensors["training"][:, 1:].copy()}, path, {"format": "1", "facts": "{}"})
    elif kind == "tensor":
        save_file({"axes": tensors["axes"]}, path, {"format": "1", "facts": "{}"})
    else:
        tensors["held_back"][0, 0] = np.nan
        save_file(tensors, path, {"format": "1", "facts": "{}"})


@pytest.mark.parametrize("kind", ["cut", "empty", "format", "shapes", "tensor", "nan"])
def test_a_damaged_file_is_named_with_the_command_that_writes_it_again(tmp_path: Path, kind: str) -> None:
    DriftReference.fit(descriptors(50), descriptors(25, 1), instrument="0").save(tmp_path)
    damage(tmp_path / DRIFT_FILE, kind)
    with pytest.raises(DataError, match=rf"{DRIFT_FILE}.*guidino drift .* --fit") as caught:
        DriftReference.load(tmp_path)
    assert "\n" not in str(caught.value)
