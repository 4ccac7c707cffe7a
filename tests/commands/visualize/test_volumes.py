"""`guidino visualize-guide` for runs on volumes: the figures' data, the scores, and what is refused."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from guidino_cli.commands.visualize import volume_figures
from guidino_cli.config import parse_config
from guidino_cli.data.manifest import load_manifest
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing
from guidino_cli.data.volumes.stored import open_array
from guidino_cli.engine.prediction.volumes import VolumePredictor
from guidino_cli.engine.runs.folder import RunFolder, run_facts, with_data_root
from guidino_cli.engine.runs.loading import load_run
from guidino_cli.metrics.overlap import auroc
from guidino_cli.models import build_model
from guidino_cli.plots.volume_guide import VolumeGuideView

SHAPE, AFFINE = (24, 20, 4), np.diag([1.0, 1.0, 5.0, 1.0])
"""Axes to the right, to the front and up."""
CHANNELS = ["T1", "T2", "ADC"]

pytestmark = pytest.mark.usefixtures("coarse_figures")


def save(path: Path, values: np.ndarray, axes: str = "RAS") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(values, AFFINE)
    nibabel.save(image.as_reoriented(ornt_transform(io_orientation(AFFINE), axcodes2ornt(tuple(axes)))), path)
    return path


def make_case(number: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Three channels of noise, and a block at the patient's left, front and head of which the channels know."""
    generator = np.random.default_rng(number)
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[2:12, 10:18, 2:] = 1
    return [(generator.random(SHAPE) * 100 + 80 * labels).astype(np.int16) for _ in CHANNELS], labels


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An nnU-Net raw folder of three cases."""
    folder = tmp_path_factory.mktemp("raw")
    for number in range(3):
        channels, labels = make_case(number)
        for channel, values in enumerate(channels):
            save(folder / "imagesTr" / f"case_{number}_{channel:04d}.nii.gz", values)
        save(folder / "labelsTr" / f"case_{number}.nii.gz", labels)
    names = {str(index): name for index, name in enumerate(CHANNELS)}
    content = {"channel_names": names, "labels": {"background": 0, "tumour": 1}, "numTraining": 3}
    (folder / "dataset.json").write_text(json.dumps(content | {"file_ending": ".nii.gz"}))
    return folder


@pytest.fixture(scope="module")
def data(raw: Path, tmp_path_factory: pytest.TempPathFactory, guidino_once: Callable[..., None]) -> Path:
    out = tmp_path_factory.mktemp("prepared") / "data"
    guidino_once("prepare", raw, "-o", out, "--split", "100/0/0")
    return out


def make_run(data: Path, path: Path, *, guided: bool = True) -> Path:
    """A run on volumes, cut into slices, with the random weights it began with."""
    settings: dict[str, Any] = {"segmenter": {"name": "unet", "options": {"width": 4}}}
    if guided:
        tiny = {"hidden_size": 16, "depth": 1, "heads": 2, "registers": 1}
        settings["backbone"] = {"name": "random", "options": tiny}
        settings["guide"] = {"name": "tokenbook", "options": {"prototypes": 4}}
    config = with_data_root(parse_config({"model": settings, "data": {"image_size": 32}}), data)
    manifest = load_manifest(data)
    torch.manual_seed(0)
    model = build_model(config.model, num_classes=2)
    facts = run_facts(model, classes=list(manifest.classes), data=data)
    facts["volumes"] = {"dims": 2, **VolumePreprocessing.from_manifest(manifest, config.data).to_facts()}
    folder = RunFolder(path)
    folder.create(config, facts)
    folder.save_weights(model)
    return path


@pytest.fixture(scope="module")
def run_folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(data, tmp_path_factory.mktemp("runs") / "mine")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[VolumeGuideView]:
    """What figures are drawn of."""
    seen: list[VolumeGuideView] = []
    original = volume_figures.volume_guide_figure

    def spy(item: VolumeGuideView, style: Any) -> Any:
        seen.append(item)
        return original(item, style)

    monkeypatch.setattr(volume_figures, "volume_guide_figure", spy)
    return seen


def read_rows(out: Path) -> list[dict[str, str]]:
    with (out / "guides.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_prepared_volume_has_a_figure_and_the_scores_of_its_guide(
    guidino: Callable[..., Any], data: Path, run_folder: Path, tmp_path: Path, drawn: list[VolumeGuideView]
) -> None:
    out = tmp_path / "guides"
    done = guidino("visualize-guide", data, "--run", run_folder, "--split", "train", "-o", out)
    assert done.code == 0
    names = ["case_0", "case_1", "case_2"]
    pictures = [f"{name}_guide.png" for name in names]
    assert {path.name for path in out.iterdir()} == {
        *pictures, "contact_sheet.png", "guides.html", "guides.csv", "guides.json",
    }  # fmt: skip
    model, config, facts = load_run(run_folder)
    predictor = VolumePredictor.from_config(
        model, config, VolumePreprocessing.from_facts(facts["volumes"], config.data)
    )
    cases = {case.id: case.volume for case in load_manifest(data).cases}
    for row, item in zip(read_rows(out), drawn, strict=True):
        volume = cases[row["name"]]
        assert volume is not None
        assert volume.labels is not None
        found = predictor.segment_stored(open_array(volume.image), volume.statistics, volume.spacing_mm)
        truth = np.asarray(open_array(volume.labels)[:]) > 0
        assert found.guide is not None
        assert float(row["auroc"]) == pytest.approx(auroc(found.guide[0], truth), abs=1e-4)
        assert float(row["foreground"]) == pytest.approx(10 * 8 * 2 / (24 * 20 * 4), abs=1e-6)
        assert item.true_ml == pytest.approx(10 * 8 * 2 * 5 / 1000)
        assert item.predicted_ml == pytest.approx(np.count_nonzero(found.labels) * 5 / 1000)
        # Largest foreground: z 2 and 3 of 4, y 2 to 9 from the front, x 12 to 21 from the patient's right.
        assert item.view.position == (3, 6, 17)
        assert np.array_equal(item.maps[0].projections.axial, found.guide[0].max(axis=0))
        assert np.array_equal(item.maps[0].slices.coronal, found.guide[0][::-1, 6])
        assert item.maps[0].silhouette is not None
        assert item.maps[0].silhouette.axial[2:10, 12:22].all()
        assert item.maps[0].silhouette.axial.sum() == 80
    page = (out / "guides.html").read_text(encoding="utf-8")
    assert "All volumes" in page
    assert "images" not in page.replace("imagesTr", "")


def test_files_in_another_orientation_have_the_scores_of_the_prepared_case(
    guidino: Callable[..., Any], data: Path, run_folder: Path, tmp_path: Path
) -> None:
    channels, labels = make_case(1)
    files = [save(tmp_path / "new" / f"x_{n:04d}.nii.gz", values, "PSR") for n, values in enumerate(channels)]
    save(tmp_path / "truth" / "x.nii.gz", labels, "LAI")
    before = {path: path.read_bytes() for path in files}
    scores = []
    for place, extra in ((data, ["--split", "train"]), (tmp_path / "new", ["--truth", tmp_path / "truth"])):
        out = tmp_path / f"out{len(scores)}"
        assert guidino("visualize-guide", place, "--run", run_folder, "-o", out, *extra).code == 0
        scores.append({row["name"]: row for row in read_rows(out)})
    first, second = scores[0]["case_1"], scores[1]["x"]
    for key in ("auroc", "iou_0.5", "low", "mean", "high", "dice", "foreground"):
        assert float(first[key]) == pytest.approx(float(second[key]), abs=1e-6), key
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [path.name for path in files]
    assert {path: path.read_bytes() for path in files} == before


def test_without_truth_only_the_range_is_said(
    guidino: Callable[..., Any], raw: Path, run_folder: Path, tmp_path: Path, drawn: list[VolumeGuideView]
) -> None:
    image = raw / "imagesTr" / "case_0_0000.nii.gz"
    done = guidino("visualize-guide", image, "--run", run_folder, "-o", tmp_path / "out", "--range", "0,1")
    assert done.code == 0
    assert "give --truth" in done.stdout
    assert drawn[0].view.truth is None
    assert drawn[0].dice is None
    # One picture needs neither a contact sheet nor a page.
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"case_0_guide.png", "guides.csv", "guides.json"}


@pytest.mark.parametrize("option", [["--at", "3,4"], ["--tokens"], ["--scale", "2"], ["--spacing", "1"]])
def test_options_for_images_are_refused_in_one_line(
    guidino: Callable[..., Any], data: Path, run_folder: Path, tmp_path: Path, option: list[str]
) -> None:
    done = guidino("visualize-guide", data, "--run", run_folder, "-o", tmp_path / "out", *option)
    assert done.code == 2
    assert f"was trained on volumes; {option[0]} is for" in done.stderr
    assert not (tmp_path / "out").exists()


def test_two_runs_on_volumes_are_not_compared(
    guidino: Callable[..., Any], data: Path, run_folder: Path, tmp_path: Path
) -> None:
    arguments = ("--run", run_folder, "--compare", run_folder, "-o", tmp_path / "out")
    done = guidino("visualize-guide", data, *arguments)
    assert done.code == 2
    assert "--compare draws two runs on images" in done.stderr


def test_a_run_without_a_guide_is_refused(guidino: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    run = make_run(data, tmp_path / "plain", guided=False)
    done = guidino("visualize-guide", data, "--run", run, "-o", tmp_path / "out")
    assert done.code == 2
    assert "was trained without a guide" in done.stderr


def test_an_image_is_no_volume(guidino: Callable[..., Any], run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    done = guidino("visualize-guide", tmp_path / "a.png", "--run", run_folder, "-o", tmp_path / "out")
    assert done.code == 3
    assert "a.png: is an image, but the run was trained on volumes" in done.stderr


def test_a_missing_channel_is_named(guidino: Callable[..., Any], run_folder: Path, tmp_path: Path) -> None:
    for number, values in enumerate(make_case(0)[0][:2]):
        save(tmp_path / "new" / f"x_{number:04d}.nii.gz", values)
    done = guidino("visualize-guide", tmp_path / "new", "--run", run_folder, "-o", tmp_path / "out")
    assert done.code == 3
    assert "has the files _0000, _0001, but the run was trained on _0000 (T1), _0001 (T2), _0002 (ADC)" in done.stderr


def test_a_truth_on_another_grid_stops_only_its_own_volume(
    guidino: Callable[..., Any], run_folder: Path, tmp_path: Path
) -> None:
    for name in "xy":
        channels, labels = make_case(0)
        for number, values in enumerate(channels):
            save(tmp_path / "new" / f"{name}_{number:04d}.nii.gz", values)
        save(tmp_path / "truth" / f"{name}.nii.gz", labels if name == "x" else labels[:-1])
    arguments = ("--run", run_folder, "--truth", tmp_path / "truth", "-o", tmp_path / "out")
    done = guidino("visualize-guide", tmp_path / "new", *arguments)
    assert done.code == 6
    assert "y.nii.gz: does not fit its volume y_0000.nii.gz: " in done.stderr
    assert (tmp_path / "out" / "x_guide.png").is_file()


@pytest.mark.parametrize("extra", [[], ["--backbone", "random"]])
def test_volumes_without_a_run_on_volumes_are_refused(
    guidino: Callable[..., Any], raw: Path, data: Path, tmp_path: Path, extra: list[str]
) -> None:
    image = raw / "imagesTr" / "case_0_0000.nii.gz"
    for place, found in ((image, "is a volume"), (data, "holds volumes")):
        done = guidino("visualize-guide", place, "-o", tmp_path / "out", *extra)
        assert done.code == 3
        assert f"{found}; give --run with a run that was trained on volumes, or images" in done.stderr


@pytest.mark.parametrize("option", [["--series", "T1"], ["--orientation", "RAS"], ["--ignore-headers"]])
def test_options_for_volumes_are_refused_for_images(
    guidino: Callable[..., Any], raw: Path, tmp_path: Path, option: list[str]
) -> None:
    done = guidino("visualize-guide", raw, "-o", tmp_path / "out", *option)
    assert done.code == 2
    assert f"{option[0]} is for volumes and runs on them" in done.stderr


def test_a_volume_that_states_no_orientation_needs_one(
    guidino: Callable[..., Any], run_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    for number, values in enumerate(make_case(0)[0]):
        image = nibabel.Nifti1Image(values, None)
        image.header.set_zooms((1, 1, 5))
        nibabel.save(image, tmp_path / "new" / f"x_{number:04d}.nii.gz")
    arguments = ("visualize-guide", tmp_path / "new", "--run", run_folder, "-o", tmp_path / "out", "--overwrite")
    refused = guidino(*arguments)
    assert refused.code == 3
    assert "--orientation RAS" in refused.stderr
    assert guidino(*arguments, "--orientation", "RAS").code == 0
