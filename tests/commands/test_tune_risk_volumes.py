"""`guidino tune-risk --risk` and `predict --risk` on volumes: bounds, and masks in the grid of the source."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from volumes_data import make_volumes

pytestmark = pytest.mark.usefixtures("no_figures")

_SLICES = """
model: {segmenter: {name: unet, options: {width: 4}}}
data: {dims: 2, image_size: 32, resize: none, intensity: zscore}
"""
_PATCHES = """
model: {segmenter: {name: unet3d, options: {widths: [4, 8]}}}
data: {dims: 3, patch_size: [8, 16, 16], intensity: zscore}
"""
_TRAIN = """
train: {epochs: 1, steps: 8, batch_size: 2, lr: 1e-2, loss: {dice: 1, cross_entropy: 1}}
predict: {overlap: 0, mirror: false}
"""


@pytest.mark.parametrize("preset", [_SLICES, _PATCHES])
def test_the_masks_of_volumes_are_nested_and_keep_the_bound(guidino: Any, tmp_path: Path, preset: str) -> None:
    data = make_volumes(tmp_path, val=4)
    (tmp_path / "p.yaml").write_text(preset + _TRAIN)
    run, out = tmp_path / "run", tmp_path / "out"
    trained = guidino("train", "-p", tmp_path / "p.yaml", "-d", data, "-o", run, "--device", "cpu")
    assert trained.code == 0, trained.stderr
    tuned = guidino("tune-risk", run, "--risk", "0.4", "--device", "cpu")
    assert tuned.code == 0, tuned.stderr
    predicted = guidino("predict", run, data, "-o", out, "--split", "val", "--risk", "--device", "cpu")
    assert predicted.code == 0, predicted.stderr

    missed, wrong = [], []
    names = sorted(path.name for path in out.glob("*.nii.gz"))
    assert len(names) == 4
    for name in names:
        truth = nibabel.load(data / "masks" / name)
        true = np.asarray(truth.dataobj) > 0
        images = [nibabel.load(folder / name) for folder in (out / "outer", out, out / "inner")]
        for image in images:
            assert image.shape == truth.shape
            np.testing.assert_allclose(image.affine, truth.affine)
        outer, middle, inner = (np.asarray(image.dataobj) > 0 for image in images)
        assert ((outer >= middle) & (middle >= inner)).all()
        missed.append((true & ~outer).sum() / true.sum())
        wrong.append((inner & ~true).sum() / max(inner.sum(), 1))
    bounds = json.loads((run / "risk.json").read_text())
    assert bounds["outer"]["groups"][""]["a"]["loss_of_region"] == pytest.approx(np.mean(missed))
    assert bounds["inner"]["groups"][""]["a"]["loss_of_region"] == pytest.approx(np.mean(wrong))
    # The conformal bound with one more case of the worst loss.
    assert (sum(missed) + 1) / 5 <= 0.4
    assert (sum(wrong) + 1) / 5 <= 0.4


def test_a_volume_run_without_bounds_is_told_to_fit_them(guidino: Any, tmp_path: Path) -> None:
    data = make_volumes(tmp_path, val=1)
    (tmp_path / "p.yaml").write_text(_PATCHES + _TRAIN)
    assert guidino("train", "-p", tmp_path / "p.yaml", "-d", data, "-o", tmp_path / "run", "--device", "cpu").code == 0
    refused = guidino("predict", tmp_path / "run", data, "-o", tmp_path / "out", "--risk", "--device", "cpu")
    assert (refused.code, refused.stderr.count("\n")) == (2, 1)
    assert "--risk: nothing was fitted for" in refused.stderr
    few = guidino("tune-risk", tmp_path / "run", "--risk", "0.4", "--device", "cpu")
    assert (few.code, few.stderr.count("\n")) == (3, 1)
    assert "1 validation case, but a level of 0.4 needs 2" in few.stderr
