"""PET/CT from two grids to false-positive volumes. The data is an imitation: ramps of CT, hot balls of PET."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from guidino_cli.config import load_preset
from guidino_cli.data.manifest import load_manifest
from guidino_cli.data.volumes.stored import open_array

Run = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("figures_where_marked")

PET_MM, CT_MM = (4.0, 4.0, 4.0), (2.0, 2.0, 3.0)
EXTENT_MM = (48.0, 48.0, 48.0)
TINY = """
model: {segmenter: {name: unet3d, options: {widths: [4, 8]}}}
data: {dims: 3, patch_size: [8, 8, 8], intensity: [ct, suv], augment: nnunet}
train: {epochs: 1, steps: 3, batch_size: 2, lr: 1e-2}
predict: {overlap: 0, mirror: false}
"""


def affine(voxel_mm: tuple[float, ...], shift_mm: float = 0.0) -> np.ndarray:
    """Voxels fill the extent from 0 on, so their first centre is half a voxel inside."""
    matrix = np.diag([*voxel_mm, 1.0])
    matrix[:3, 3] = np.array(voxel_mm) / 2 + shift_mm
    return matrix


def positions(voxel_mm: tuple[float, ...]) -> np.ndarray:
    """(3, X, Y, Z) scanner millimetres of the voxels."""
    axes = [np.arange(round(extent / step)) * step + step / 2 for extent, step in zip(EXTENT_MM, voxel_mm, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def make_case(root: Path, name: str, *, has_lesion: bool = True, on_ct: bool = False, pet_shift_mm: float = 0) -> None:
    """CT is a ramp of 10 HU a mm along x, which begins higher by the number of the case.

    PET has SUV 10 in a ball of 10 mm and 1 elsewhere.
    """
    ct, pet = positions(CT_MM), positions(PET_MM)
    centre = np.array([24.0, 24.0, 24.0])[:, None, None, None]
    mm = CT_MM if on_ct else PET_MM
    lesion = (np.linalg.norm(positions(mm) - centre, axis=0) < 10) & has_lesion
    uptake = np.where((np.linalg.norm(pet - centre, axis=0) < 10) & has_lesion, 10.0, 1.0)
    files = {
        f"images/{name}_0000.nii.gz": (10 * ct[0] + int(name[1:]), affine(CT_MM)),
        f"images/{name}_0001.nii.gz": (uptake, affine(PET_MM, pet_shift_mm)),
        f"masks/{name}.nii.gz": (lesion.astype(np.uint8), affine(mm)),
    }
    for path, (values, matrix) in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        kind = np.uint8 if path.startswith("masks") else np.float32
        nibabel.save(nibabel.Nifti1Image(values.astype(kind), matrix), root / path)


def prepare(guidino: Run, root: Path, *options: object) -> Any:
    return guidino("prepare", root, "-o", root.parent / "data", "--channels", "CT,PT", "--split", "50/25/25", *options)


def test_ct_is_brought_to_the_grid_of_pet_on_request(tmp_path: Path, guidino: Run) -> None:
    for number in range(4):
        make_case(tmp_path / "source", f"c{number}")
    outcome = prepare(guidino, tmp_path / "source", "--onto", "PT")
    assert outcome.code == 0, outcome.stderr
    case = load_manifest(tmp_path / "data").cases[0]
    assert case.volume is not None
    assert (case.volume.shape, case.volume.spacing_mm) == ((12, 12, 12), (4.0, 4.0, 4.0))
    ct, pet = np.asarray(open_array(case.volume.image)[:])
    # Stored from right to left, that is against x; a ramp stays a ramp under linear interpolation.
    np.testing.assert_allclose(ct[5, 5], 10 * (np.arange(12) * 4 + 2)[::-1], rtol=1e-5)
    assert set(np.unique(pet)) == {1, 10}


def test_pet_is_brought_to_the_grid_of_ct_by_default(tmp_path: Path, guidino: Run) -> None:
    for number in range(4):
        make_case(tmp_path / "source", f"c{number}", on_ct=True)
    assert prepare(guidino, tmp_path / "source").code == 0
    case = load_manifest(tmp_path / "data").cases[0]
    assert case.volume is not None
    assert (case.volume.shape, case.volume.spacing_mm) == ((16, 24, 24), (3.0, 2.0, 2.0))


def test_a_run_on_pet_s_grid_predicts_on_it_and_is_scored_in_ml(tmp_path: Path, guidino: Run) -> None:
    for number in range(4):
        make_case(tmp_path / "source", f"c{number}", has_lesion=number != 1)
    prepare(guidino, tmp_path / "source", "--onto", "PT", "--split", "50/25/25")
    (tmp_path / "tiny.yaml").write_text(TINY)
    run, data, masks = tmp_path / "run", tmp_path / "data", tmp_path / "masks"
    trained = guidino("train", "-p", tmp_path / "tiny.yaml", "-d", data, "-o", run, "--device", "cpu")
    assert trained.code == 0, trained.stderr
    assert json.loads((run / "run.json").read_text())["volumes"]["onto"] == 1
    predicted = guidino("predict", run, tmp_path / "source" / "images", "-o", masks, "--device", "cpu")
    assert predicted.code == 0, predicted.stderr
    mask = nibabel.load(masks / "c0.nii.gz")
    assert mask.shape == (12, 12, 12)
    np.testing.assert_allclose(mask.affine, affine(PET_MM))
    metrics = ("--metrics", "dice,fp_volume,fn_volume", "--policy", "autopet")
    scored = guidino("evaluate", masks, tmp_path / "source" / "masks", *metrics, "-o", tmp_path / "report")
    assert scored.code == 0, scored.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["cases_without_truth"] == {"foreground": ["c1"]}
    summary = {line["metric"]: line for line in report["summary"]}
    assert (summary["fp_volume"]["used"], summary["fn_volume"]["used"]) == (4, 3)


def test_grids_that_do_not_overlap_are_one_line_with_the_file(tmp_path: Path, guidino: Run) -> None:
    make_case(tmp_path / "source", "c0")
    make_case(tmp_path / "source", "c1", pet_shift_mm=500)
    outcome = prepare(guidino, tmp_path / "source", "--onto", "PT")
    assert outcome.code == 3
    message = outcome.stderr.strip().splitlines()[-1]
    assert "c1_0000.nii.gz: lies outside c1_0001.nii.gz, whose grid is taken, by its header" in message


def test_a_mask_on_the_other_grid_is_refused_with_both_grids(tmp_path: Path, guidino: Run) -> None:
    make_case(tmp_path / "source", "c0")
    outcome = prepare(guidino, tmp_path / "source", "--onto", "CT")
    assert outcome.code == 3
    assert "is on another grid than c0_0000.nii.gz: 12x12x12 of 4x4x4 mm" in outcome.stderr


def test_an_unknown_channel_is_answered_with_those_there_are(tmp_path: Path, guidino: Run) -> None:
    make_case(tmp_path / "source", "c0")
    outcome = prepare(guidino, tmp_path / "source", "--onto", "PET")
    assert outcome.code == 2
    assert "--onto: unknown channel 'PET'" in outcome.stderr
    assert "PT" in outcome.stderr


def test_the_preset_has_an_intensity_for_each_of_ct_and_pet() -> None:
    assert load_preset("autopet-nnunet3d").data.intensity == ["ct", "suv"]
