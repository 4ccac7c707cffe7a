"""`guidino predict` with runs on volumes: inputs, outputs in the grid of the source, records and resuming."""

import json
from collections.abc import Callable
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from guidino_cli.config import (
    ComponentSettings,
    DataSettings,
    ModelSettings,
    PredictSettings,
    RunConfig,
    dump_config,
)
from guidino_cli.engine.prediction import volume_ensemble
from guidino_cli.engine.prediction.volumes import VolumePredictor
from guidino_cli.engine.runs.folder import RunFolder, run_facts
from guidino_cli.engine.runs.loading import load_run
from guidino_cli.engine.runs.settings import resolve_run_config
from guidino_cli.models import build_model
from guidino_cli.types import Prediction

CLASSES = ["background", "liver", "spleen", "kidney"]
STATISTICS = {"minimum": 0, "maximum": 3, "mean": 1, "std": 1, "median": 1, "percentile_00_5": 0, "percentile_99_5": 3}


class Truth(nn.Module):
    """Class k where the first channel is k tenths: a volume that holds its own labels gets them back."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.mean, self.segmenter, self.guide = torch.zeros(1), nn.Identity(), None
        self.classes = classes

    def forward(self, image: Tensor, *, get_or_compute: Any = None) -> Prediction:
        wanted = torch.arange(self.classes).reshape(1, -1, *[1] * (image.ndim - 2))
        return Prediction([-100 * (image[:, :1] * 10 - wanted).abs()], image[:, :1])


@pytest.fixture
def truth_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write the folder of a run whose network returns the truth: `truth_run(channels=["T1"], dims=2)`."""

    def make(
        name: str = "run",
        *,
        channels: tuple[str, ...] = ("MR",),
        spacing: tuple[Any, ...] = (None, None, None),
        of_images: bool = False,
        classes: list[str] = CLASSES,
        **data: Any,
    ) -> Path:
        settings = {"resize": "none", "image_size": 16, "intensity": "window", "window": [5.0, 10.0], **data}
        config = RunConfig(data=DataSettings(**settings), predict=PredictSettings(mirror=False))
        facts: dict[str, Any] = {
            "format": 1,
            "segmenter_revision": 1,
            "classes": classes,
            "data": {"cases": "DATA/cases.json", "sha256": "0"},
            "backbone": None,
            "volumes": {
                "dims": config.data.dims,
                "channels": list(channels),
                "spacing_mm": list(spacing),
                "statistics": [STATISTICS] * len(channels),
                "slice_axis": 0,
            },
        }
        if of_images:
            del facts["volumes"]
        run = tmp_path / name
        (run / "best").mkdir(parents=True)
        (run / "run.json").write_text(json.dumps(facts))
        (run / "config.yaml").write_text(dump_config(config))
        save_file({"weight": torch.zeros(1)}, run / "best" / "model.safetensors")
        return run

    def load(path: Path, *, overrides: tuple[str, ...], **_: Any) -> tuple[Any, RunConfig, dict[str, Any]]:
        facts = RunFolder(path).facts()
        return Truth(len(facts["classes"])), resolve_run_config(path, overrides), facts

    monkeypatch.setattr(volume_ensemble, "load_run", load)
    monkeypatch.setattr(volume_ensemble, "prepare_for_prediction", lambda model: model)
    return make


def _labels(shape: tuple[int, ...] = (5, 6, 7), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, len(CLASSES), shape).astype(np.int16)


def _save(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-2.0, -2.0, 3.0, 1.0]) if affine is None else affine), path)
    return path


def _rotation(degrees: float) -> np.ndarray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])


def _matrix(directions: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = (11, -7, 30)
    return affine


# The first axis from front to back (P), the second upwards (S), the third to the right (R), as in a sagittal T2.
_PSR = np.array([[0, 0, 1], [-1, 0, 0], [0, 1, 0]], dtype=float)
AFFINES = {
    "RAS": _matrix(np.eye(3), (1, 2, 3)),
    "LAS": _matrix(np.diag([-1.0, 1, 1]), (0.5, 0.5, 7.5)),
    "LPS": _matrix(np.diag([-1.0, -1, 1]), (1, 1, 1.5)),
    "PSR": _matrix(_PSR, (1, 1, 2)),
    "oblique": _matrix(_PSR @ _rotation(20), (0.8, 0.9, 3)),
    "sheared": _matrix(np.array([[1, 0.1, 0], [0, 1, 0], [0, 0, 1.0]]), (1, 1, 2)),
}


def _odd_file(kind: str, folder: Path) -> tuple[Path, np.ndarray]:
    """A file whose numbers are its labels, and the labels in its own axes."""
    labels = _labels()
    affine = AFFINES.get(kind, AFFINES["oblique"])
    image: Any = nibabel.Nifti2Image(labels, affine) if kind == "NIfTI-2" else nibabel.Nifti1Image(labels, affine)
    if kind == "scaled":
        # Stored 2 k + 3, with slope 0.5 and intercept -1.5.
        image = nibabel.Nifti1Image((2 * labels + 3).astype(np.int16), affine)
        image.header.set_slope_inter(0.5, -1.5)
    header = image.header
    if kind == "q is not s":
        image.set_qform(AFFINES["PSR"], code=1)
        image.set_sform(AFFINES["oblique"], code=4)
    elif kind == "only q":
        image.set_qform(AFFINES["oblique"], code=1)
        image.set_sform(None, code=0)
    elif kind == "sheared":
        image.set_sform(affine, code=2)
    header.set_xyzt_units("mm", "sec")
    header["descrip"] = b"a scanner"
    path = folder / f"{kind.replace(' ', '_')}.nii.gz"
    folder.mkdir(exist_ok=True)
    if kind == "scaled":
        _save_scaled(image, path)
    else:
        nibabel.save(image, path)
    return path, labels


def _save_scaled(image: Any, path: Path) -> None:
    """nibabel chooses slope and intercept anew for arrays, but keeps those of stored numbers."""
    stored = np.asarray(image.dataobj)
    written = nibabel.Nifti1Image(stored.astype(np.float32) * 0.5 - 1.5, image.affine, image.header)
    written.header.set_data_dtype(np.int16)
    nibabel.save(written, path)


KINDS = [*AFFINES, "q is not s", "only q", "NIfTI-2", "scaled"]


@pytest.mark.parametrize("settings", [{"dims": 2}, {"dims": 3, "patch_size": [4, 4, 4]}], ids=["slices", "patches"])
@pytest.mark.parametrize("kind", KINDS)
def test_labels_come_back_in_the_grid_of_the_source(
    kind: str, settings: dict[str, Any], truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    path, labels = _odd_file(kind, tmp_path / "in")
    outcome = guidino("predict", truth_run(**settings), path, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    source: Any = nibabel.load(path)
    found: Any = nibabel.load(tmp_path / "out" / path.name)
    assert type(found) is type(source)
    assert found.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(found.dataobj), labels)
    np.testing.assert_array_equal(found.affine, source.affine)
    for name in ("qform_code", "sform_code", "xyzt_units", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c"):
        np.testing.assert_array_equal(found.header[name], source.header[name])
    for name in ("quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "dim", "pixdim"):
        np.testing.assert_array_equal(found.header[name], source.header[name])
    assert found.header.get_slope_inter() in {(None, None), (1.0, 0.0)}


def _write_all_axis_orders(folder: Path, values: np.ndarray) -> None:
    """The same volume with its axes in all 48 orders and directions."""
    from nibabel.orientations import apply_orientation, inv_ornt_aff

    affine = _matrix(np.diag([-1.0, -1, 1]), (1, 1, 1))
    for number, (order, flips) in enumerate(product(permutations(range(3)), product((1, -1), repeat=3))):
        orientation = np.array([order, flips]).T
        turned = np.ascontiguousarray(apply_orientation(values, orientation))
        _save(folder / f"{number:02d}.nii.gz", turned, affine @ inv_ornt_aff(orientation, values.shape))


def _tiny_run(folder: Path, spacing: list[Any], **data: Any) -> Path:
    """A run of an untrained U-Net on volumes of one channel."""
    settings = {"resize": "none", "image_size": 16, "intensity": "percentile", **data}
    config = RunConfig(
        model=ModelSettings(segmenter=ComponentSettings("unet", {"width": 4})),
        data=DataSettings(**settings),
        predict=PredictSettings(overlap=0.5),
    )
    torch.manual_seed(0)
    model = build_model(config.model, num_classes=3, in_channels=1)
    # Without the offsets of its classes an untrained network predicts all of them.
    logits = model.eval()(torch.rand(4, 1, 16, 16)).logits[0]
    heads = [module for module in model.modules() if isinstance(module, nn.Conv2d) and module.out_channels == 3]
    heads[-1].bias.data -= logits.mean(dim=(0, 2, 3)).detach()  # type: ignore[union-attr]
    cases = folder / "DATA"
    cases.mkdir(parents=True)
    (cases / "cases.json").write_text("{}")
    facts = run_facts(model, classes=["background", "a", "b"], data=cases)
    facts["volumes"] = {
        "dims": 2,
        "channels": ["MR"],
        "spacing_mm": spacing,
        "statistics": [STATISTICS],
        "slice_axis": 0,
    }
    run = RunFolder(folder / "run")
    run.create(config, facts)
    run.save_weights(model)
    return run.path


@pytest.fixture
def one_thread() -> Any:
    """Sums are in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_all_48_axis_orders_of_a_file_give_the_same_labels(guidino: Callable[..., Any], tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 300, (9, 8, 6)).astype(np.int16)
    _write_all_axis_orders(tmp_path / "in", values)
    run = _tiny_run(tmp_path, [None, 1.3, 1.3])
    outcome = guidino("predict", run, tmp_path / "in", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    masks: list[Any] = [nibabel.load(path) for path in sorted((tmp_path / "out").glob("*.nii.gz"))]
    turned = [np.asarray(nibabel.as_closest_canonical(mask).dataobj) for mask in masks]
    assert len(turned) == 48
    assert len(np.unique(turned[0])) > 1
    for labels in turned[1:]:
        np.testing.assert_array_equal(labels, turned[0])


@pytest.mark.usefixtures("one_thread")
def test_a_loaded_run_predicts_like_its_network(guidino: Callable[..., Any], tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 300, (16, 16, 2)).astype(np.int16)
    _save(tmp_path / "in" / "a.nii.gz", values, np.diag([-1.0, -1, 1, 1]))
    run = _tiny_run(tmp_path, [None, None, None])
    assert guidino("predict", run, tmp_path / "in", "-o", tmp_path / "out", "--set", "predict.mirror=false").code == 0
    model, _, _ = load_run(run)
    low, high = np.percentile(values, (0.5, 99.5))
    slices = torch.from_numpy(((values - low) / (high - low)).clip(0, 1).astype(np.float32)).permute(2, 1, 0)[:, None]
    with torch.inference_mode():
        expected = model(slices).logits[0].argmax(1).permute(2, 1, 0).numpy()
    found: Any = nibabel.load(tmp_path / "out" / "a.nii.gz")
    assert (np.asarray(found.dataobj) == expected).mean() > 0.999


def test_files_of_several_channels_are_put_together_by_their_numbers(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    labels = _labels()
    for case in ("a", "b.1"):
        _save(tmp_path / "in" / f"{case}_0000.nii.gz", labels)
        _save(tmp_path / "in" / f"{case}_0001.nii.gz", np.zeros_like(labels))
    _save(tmp_path / "in" / "c_0000.nii.gz", labels)
    outcome = guidino("predict", truth_run(channels=("T1", "T2")), tmp_path / "in", "-o", tmp_path / "out")
    assert outcome.code == 6
    assert (
        "c_0000.nii.gz: the case has the files _0000, but the run was trained on _0000 (T1), _0001 (T2)"
        in outcome.stderr
    )
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz", "b.1.nii.gz"]
    found: Any = nibabel.load(tmp_path / "out" / "b.1.nii.gz")
    np.testing.assert_array_equal(np.asarray(found.dataobj), labels)


def test_one_file_is_completed_by_the_other_channels_beside_it(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    for case, channel in product("ab", (0, 1)):
        _save(tmp_path / "in" / f"{case}_{channel:04d}.nii.gz", _labels())
    run = truth_run(channels=("T1", "T2"))
    assert guidino("predict", run, tmp_path / "in" / "a_0000.nii.gz", "-o", tmp_path / "out").code == 0
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["a.nii.gz"]


def test_the_fourth_axis_of_a_file_holds_channels(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    labels = _labels()
    path = _save(tmp_path / "in" / "a.nii.gz", np.stack([labels, 0 * labels], axis=3))
    assert guidino("predict", truth_run(channels=("T1", "T2")), path, "-o", tmp_path / "out").code == 0
    found: Any = nibabel.load(tmp_path / "out" / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(found.dataobj), labels)


def test_a_bad_file_does_not_stop_the_others(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    run, folder, out = truth_run(), tmp_path / "in", tmp_path / "out"
    for name in "ac":
        _save(folder / f"{name}.nii.gz", _labels())
    (folder / "b.nii.gz").write_bytes((folder / "a.nii.gz").read_bytes()[:200])
    outcome = guidino("predict", run, folder, "-o", out)
    assert outcome.code == 6
    assert "b.nii.gz" in outcome.stderr
    assert "1 of 3 volumes could not be read" in outcome.stderr
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["a.nii.gz", "c.nii.gz"]
    records = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [(item["mask"], item["status"]) for item in records] == [
        ("a.nii.gz", "ok"),
        (None, "error"),
        ("c.nii.gz", "ok"),
    ]
    # Known to be bad, until it is replaced.
    again = guidino("predict", run, folder, "-o", out, "--skip-existing")
    assert again.code == 6
    assert "not tried again, its file is unchanged" in again.stderr
    _save(folder / "b.nii.gz", _labels())
    assert guidino("predict", run, folder, "-o", out, "--skip-existing").code == 0
    assert len(list(out.glob("*.nii.gz"))) == 3


def test_an_empty_prediction_is_a_result(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    path = _save(tmp_path / "in" / "a.nii.gz", np.zeros((4, 5, 6), dtype=np.int16))
    assert guidino("predict", truth_run(), path, "-o", tmp_path / "out").code == 0
    found: Any = nibabel.load(tmp_path / "out" / "a.nii.gz")
    assert not np.asarray(found.dataobj).any()


def test_an_interrupted_prediction_is_resumed(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder, out = truth_run(), tmp_path / "in", tmp_path / "out"
    for number in range(4):
        _save(folder / f"{number}.nii.gz", _labels(seed=number))
    segment, calls = VolumePredictor.segment, []

    def interrupted(self: VolumePredictor, *arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return segment(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(VolumePredictor, "segment", interrupted)
        outcome = guidino("predict", run, folder, "-o", out)
    assert outcome.code == 130
    assert "holds 2 masks; resume with the same command and --skip-existing" in outcome.stderr
    assert not json.loads((out / "predictions.json").read_text())["complete"]
    first = {path.name: path.stat().st_mtime_ns for path in out.glob("*.nii.gz")}
    assert sorted(first) == ["0.nii.gz", "1.nii.gz"]
    assert guidino("predict", run, folder, "-o", out).code == 2
    assert guidino("predict", run, folder, "-o", out, "--skip-existing").code == 0
    assert json.loads((out / "predictions.json").read_text())["skipped"] == 2
    for number in range(4):
        found: Any = nibabel.load(out / f"{number}.nii.gz")
        np.testing.assert_array_equal(np.asarray(found.dataobj), _labels(seed=number))
    assert all((out / name).stat().st_mtime_ns == time for name, time in first.items())


def test_masks_of_other_settings_are_not_added(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    run, path = truth_run(), _save(tmp_path / "in" / "a.nii.gz", _labels())
    assert guidino("predict", run, path, "-o", tmp_path / "out").code == 0
    outcome = guidino("predict", run, path, "-o", tmp_path / "out", "--skip-existing", "--set", "predict.mirror=true")
    assert outcome.code == 2
    assert "its masks were made with mirror false, now it is true" in outcome.stderr


def test_shards_share_the_volumes(truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path) -> None:
    run = truth_run()
    for name in "abc":
        _save(tmp_path / "in" / f"{name}.nii.gz", _labels())
    words = ("predict", run, tmp_path / "in", "-o", tmp_path / "out")
    assert guidino(*words, "--shard", "1/2").code == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz", "c.nii.gz"]
    assert guidino(*words, "--shard", "2/2").code == 0
    summary = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert (summary["complete"], summary["made"]) == (True, 3)


def test_class_names_are_written_beside_as_nnunet_does(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    path = _save(tmp_path / "in" / "a.nii.gz", _labels())
    assert guidino("predict", truth_run(), path, "-o", tmp_path / "out").code == 0
    assert json.loads((tmp_path / "out" / "dataset.json").read_text()) == {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "liver": 1, "spleen": 2, "kidney": 3},
        "file_ending": ".nii.gz",
    }


def test_probabilities_have_the_stored_grid_and_the_guide_that_of_the_source(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = _labels((5, 6, 8))
    path = _save(tmp_path / "in" / "a.nii.gz", labels, np.diag([-1.0, -1, 1, 1]))
    monkeypatch.setattr(volume_ensemble.LoadedVolumeEnsemble, "has_guide", True)
    run = truth_run(spacing=(2.0, 1.0, 1.0))
    outcome = guidino("predict", run, path, "-o", tmp_path / "out", "--save-probabilities", "--save-guide")
    assert outcome.code == 0, outcome.stderr
    assert "probabilities have axes (class, z, y, x) and the grid of the prepared data" in outcome.stderr
    with np.load(tmp_path / "out" / "probabilities" / "a.npz") as content:
        assert content["probabilities"].shape == (4, 4, 6, 5)
        np.testing.assert_allclose(content["probabilities"].sum(axis=0), 1, atol=5e-3)
    guide: Any = nibabel.load(tmp_path / "out" / "guides" / "a.nii.gz")
    assert guide.shape == labels.shape
    assert guide.get_data_dtype() == np.float32
    assert 0 <= np.asarray(guide.dataobj).min() < np.asarray(guide.dataobj).max() <= 1


def test_post_processing_keeps_components_in_three_dimensions(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    labels = np.zeros((6, 6, 6), dtype=np.int16)
    # Three slices that touch at corners only, and a larger square apart from them within one slice.
    for number in range(3):
        labels[number, number, number : number + 3] = 1
    labels[5, 4:6, 4:6] = 1
    path = _save(tmp_path / "in" / "a.nii.gz", labels)
    assert guidino("predict", truth_run(), path, "-o", tmp_path / "out", "--post", "largest").code == 0
    found: Any = nibabel.load(tmp_path / "out" / "a.nii.gz")
    expected = labels.copy()
    expected[5] = 0
    np.testing.assert_array_equal(np.asarray(found.dataobj), expected)


def test_a_volume_without_directions_needs_them(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    image = nibabel.Nifti1Image(_labels(), None)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, tmp_path / "a.nii.gz")
    run = truth_run()
    refused = guidino("predict", run, tmp_path / "a.nii.gz", "-o", tmp_path / "out")
    assert refused.code == 3
    assert "--orientation RAS or LPS tells where they point" in refused.stderr
    # The file is the same, but it is read in another way now.
    words = ("--orientation", "RAS", "--skip-existing")
    assert guidino("predict", run, tmp_path / "a.nii.gz", "-o", tmp_path / "out", *words).code == 0
    found: Any = nibabel.load(tmp_path / "out" / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(found.dataobj), _labels())


def test_prepared_volumes_are_predicted_and_scored_by_split(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path, read_rows: Callable[..., Any]
) -> None:
    for number in range(10):
        _save(tmp_path / "raw" / "images" / f"c{number}.nii.gz", _labels(seed=number), AFFINES["PSR"])
        _save(tmp_path / "raw" / "masks" / f"c{number}.nii.gz", _labels(seed=number), AFFINES["PSR"])
    data = tmp_path / "data"
    prepared = guidino("prepare", tmp_path / "raw", "-o", data, "--channels", "MR")
    assert prepared.code == 0, prepared.stderr
    run, out = truth_run(), tmp_path / "out"
    assert guidino("predict", run, data, "-o", tmp_path / "test").code == 0
    assert len(list((tmp_path / "test").glob("*.nii.gz"))) == 2
    assert guidino("predict", run, data, "-o", out, "--split", "all").code == 0
    scores = guidino("evaluate", out, data, "--split", "all", "-o", tmp_path / "report")
    assert scores.code == 0, scores.stderr
    rows = read_rows(tmp_path / "report" / "per_case.csv")
    assert len(rows) == 30
    assert {float(row["dice"]) for row in rows} == {1.0}
    refused = guidino("predict", truth_run("other", channels=("CT",)), data, "-o", tmp_path / "no")
    assert refused.code == 3
    assert "has the channels MR, but the run was trained on CT" in refused.stderr


def test_an_overlay_shows_the_prediction_in_three_planes(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guidino_cli.commands.prediction import volume_outputs

    seen: list[Any] = []
    original = volume_outputs.volume_overlay
    monkeypatch.setattr(
        volume_outputs, "volume_overlay", lambda view, **others: seen.append(view) or original(view, **others)
    )
    # Axes to the right, to the front and up; a block at the patient's left, front and head.
    labels = np.zeros((6, 8, 4), dtype=np.int16)
    labels[:3, 4:, 2:] = 2
    path = _save(tmp_path / "in" / "a.nii.gz", labels, np.diag([1.0, 2.0, 3.0, 1.0]))
    assert guidino("predict", truth_run(), path, "-o", tmp_path / "out", "--overlay").code == 0
    assert (tmp_path / "out" / "overlays" / "a.png").read_bytes()[:4] == b"\x89PNG"
    view = seen[0]
    assert view.spacing_mm == (3.0, 2.0, 1.0)
    assert np.array_equal(view.labels.axial, np.pad(np.full((4, 3), 2), ((0, 4), (3, 0))))
    assert np.array_equal(view.labels.coronal, np.pad(np.full((2, 3), 2), ((0, 2), (3, 0))))
    # The window of the run is 0 to 10.
    assert float(view.image.axial.max()) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--save-guide",), "has no guide to save"),
        (("--values", "255"), "--values 255 is for two classes, the run has 4"),
        (("--dicom-seg",), "--dicom-seg refers to the files of a DICOM series"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    words: tuple[str, ...], message: str, truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    path = _save(tmp_path / "in" / "a.nii.gz", _labels())
    outcome = guidino("predict", truth_run(), path, "-o", tmp_path / "out", *words)
    assert outcome.code == 2
    assert message in outcome.stderr
    assert len(outcome.stderr.strip().splitlines()) == 1


def test_other_inputs_are_refused_in_one_line(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    from PIL import Image

    run = truth_run()
    (tmp_path / "pictures").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "pictures" / "a.png")
    (tmp_path / "notes.txt").write_text("a")
    expected = {
        "pictures": "no volume directly in this folder (it holds images)",
        "pictures/a.png": "is an image, but the run was trained on volumes",
        "notes.txt": "not a volume; expected NIfTI, NRRD or MetaImage files, or DICOM series",
        "missing": "no such file or folder",
    }
    for name, message in expected.items():
        outcome = guidino("predict", run, tmp_path / name, "-o", tmp_path / "out")
        assert outcome.code == 3
        assert message in outcome.stderr
        assert len(outcome.stderr.strip().splitlines()) == 1


def test_volumes_and_their_options_are_refused_by_a_run_on_images(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    path, run = _save(tmp_path / "in" / "a.nii.gz", _labels()), truth_run(of_images=True)
    outcome = guidino("predict", run, path, "-o", tmp_path / "out")
    assert outcome.code == 3
    assert "is a NIfTI file; volumes need a run that was trained on volumes" in outcome.stderr
    outcome = guidino("predict", run, path, "-o", tmp_path / "out", "--orientation", "RAS")
    assert outcome.code == 2
    assert "--orientation is for volumes, but the run was trained on images" in outcome.stderr


def test_runs_on_images_and_on_volumes_are_not_averaged(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    path, images = _save(tmp_path / "in" / "a.nii.gz", _labels()), truth_run("images", of_images=True)
    outcome = guidino("predict", truth_run(), path, "-o", tmp_path / "out", "--ensemble", images)
    assert outcome.code == 2
    assert "images: was trained on images" in outcome.stderr


def test_an_ensemble_of_other_channels_is_refused(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    path = _save(tmp_path / "in" / "a.nii.gz", _labels())
    other = truth_run("other", channels=("CT",))
    outcome = guidino("predict", truth_run(), path, "-o", tmp_path / "out", "--ensemble", other)
    assert outcome.code == 2
    assert "was trained on the channels CT, but" in outcome.stderr


def test_an_ensemble_of_different_spacings_is_averaged_on_the_grid_of_the_source(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    labels = np.zeros((16, 16, 8), dtype=np.int16)
    labels[4:12, 4:12] = 2
    path = _save(tmp_path / "in" / "a.nii.gz", labels, np.diag([-1.0, -1, 1, 1]))
    other = truth_run("other", spacing=(1.0, 2.0, 2.0))
    outcome = guidino("predict", truth_run(), path, "-o", tmp_path / "out", "--ensemble", other)
    assert outcome.code == 0, outcome.stderr
    found: Any = nibabel.load(tmp_path / "out" / "a.nii.gz")
    np.testing.assert_array_equal(np.asarray(found.dataobj)[5:11, 5:11], labels[5:11, 5:11])
    probabilities = guidino(
        "predict", truth_run("third"), path, "-o", tmp_path / "p", "--ensemble", other, "--save-probabilities"
    )
    assert probabilities.code == 2
    assert "runs with different spacings have no grid in common" in probabilities.stderr


def test_post_processing_is_chosen_on_volumes_and_applied(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    # Truths are one block; what the network sees has the other corner of the volume marked, too.
    for number in range(16):
        truth = np.zeros((10, 10, 8), dtype=np.int16)
        truth[1:6, 1 : 5 + number % 3, 1:5] = 1
        seen = truth.copy()
        seen[8:, 8:, 6:] = 1
        _save(tmp_path / "raw" / "images" / f"c{number}.nii.gz", seen, AFFINES["PSR"])
        _save(tmp_path / "raw" / "masks" / f"c{number}.nii.gz", truth, AFFINES["PSR"])
    data, run, out = tmp_path / "data", truth_run(classes=["background", "liver"]), tmp_path / "out"
    words = ("--channels", "MR", "--classes", "background,liver", "--split", "10/80/10")
    prepared = guidino("prepare", tmp_path / "raw", "-o", data, *words)
    assert prepared.code == 0, prepared.stderr
    chosen = guidino("tune-post", run, "--data", data)
    assert chosen.code == 0, chosen.stderr
    assert "liver: " in chosen.stdout
    assert guidino("predict", run, data, "-o", out, "--split", "all", "--post", "auto").code == 0
    for number in range(16):
        found: Any = nibabel.load(out / f"c{number}.nii.gz")
        truth_file: Any = nibabel.load(tmp_path / "raw" / "masks" / f"c{number}.nii.gz")
        np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(truth_file.dataobj))


def _write_series(folder: Path, labels: np.ndarray, *, description: str, patient: str = "P") -> None:
    """A CT series whose numbers are labels (X, Y, Z)."""
    pydicom = pytest.importorskip("pydicom")
    folder.mkdir(parents=True)
    kind = "1.2.840.10008.5.1.4.1.1.2"
    for number in range(labels.shape[2]):
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = kind
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        dataset.StudyInstanceUID = f"1.2.{len(patient)}"
        dataset.SeriesInstanceUID = f"1.2.3.{len(description)}.{len(patient)}"
        dataset.SliceThickness = 2
        dataset.FrameOfReferenceUID, dataset.PatientID, dataset.PatientName = "1.2.9", patient, "Doe^Jane"
        dataset.Modality, dataset.SeriesDescription, dataset.InstanceNumber = "CT", description, number + 1
        dataset.Rows, dataset.Columns, dataset.PixelSpacing = labels.shape[1], labels.shape[0], [0.5, 0.5]
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 2.0 * number]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated = dataset.BitsStored = 16
        dataset.HighBit, dataset.PixelRepresentation = 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        dataset.PixelData = np.ascontiguousarray(labels[:, :, number].T).astype(np.int16).tobytes()
        dataset.save_as(folder / f"{(7 * number) % 31:03d}.dcm", enforce_file_format=True)


def test_a_dicom_series_is_predicted_to_nifti_and_to_a_segmentation_of_its_files(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    pytest.importorskip("highdicom")
    from guidino_cli.data.volumes.dicom.segments import read_segmentation

    labels, run, study = _labels((8, 4, 5)), truth_run(), tmp_path / "study"
    _write_series(study / "one", labels, description="thorax")
    _write_series(study / "two", 0 * labels, description="abdomen")
    several = guidino("predict", run, study, "-o", tmp_path / "out")
    assert several.code == 3
    assert "holds 2 DICOM series" in several.stderr
    assert "--series" in several.stderr
    outcome = guidino("predict", run, study, "-o", tmp_path / "out", "--series", "THORAX", "--dicom-seg")
    assert outcome.code == 0, outcome.stderr
    (mask,) = (tmp_path / "out").glob("*.nii.gz")
    found: Any = nibabel.load(mask)
    np.testing.assert_array_equal(np.asarray(found.dataobj), labels)
    # LPS millimetres of DICOM are RAS in NIfTI; the distance of the positions is 2 mm.
    np.testing.assert_allclose(found.affine, np.diag([-0.5, -0.5, 2, 1]))
    segmentation = read_segmentation(tmp_path / "out" / "dicom_seg" / f"{mask.name[:12]}.dcm")
    np.testing.assert_array_equal(segmentation.labels, labels)
    written = [path.read_bytes() for path in (tmp_path / "out").glob("*.json*")]
    assert not any(b"Doe" in content for content in written)


def test_series_of_several_channels_are_chosen_in_their_order(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    labels, study = _labels((6, 5, 4)), tmp_path / "study"
    _write_series(study / "one", 0 * labels, description="native")
    _write_series(study / "two", labels, description="contrast")
    run = truth_run(channels=("contrast", "native"))
    assert guidino("predict", run, study, "-o", tmp_path / "out", "--series", "contrast,native").code == 0
    (mask,) = (tmp_path / "out").glob("*.nii.gz")
    found: Any = nibabel.load(mask)
    np.testing.assert_array_equal(np.asarray(found.dataobj), labels)
    refused = guidino("predict", run, study, "-o", tmp_path / "no", "--series", "contrast")
    assert refused.code == 3
    assert "names 1 series, but the run was trained on 2 channels" in refused.stderr


def test_series_are_predicted_of_each_patient(
    truth_run: Callable[..., Path], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    for patient in ("A", "BB"):
        _write_series(tmp_path / "study" / patient, _labels((6, 5, 4)), description="thorax", patient=patient)
    outcome = guidino("predict", truth_run(), tmp_path / "study", "-o", tmp_path / "out", "--series", "thorax")
    assert outcome.code == 0, outcome.stderr
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 2
