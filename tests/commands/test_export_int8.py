"""`guidino export --openvino --int8`: what decides is the Dice of validation cases, and both figures are said."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.engine import cpu_features
from guidino_cli.engine.openvino.quantization import choose_evenly

RECORDED = Path(__file__).parents[1] / "compatibility" / "run_45086b3"


def _with_splits(target: Path, splits: Callable[[int], str], **changes: object) -> Path:
    """A copy of the recorded data with other splits."""
    shutil.copytree(RECORDED / "src", target / "src")
    data = Path(shutil.copytree(RECORDED / "data", target / "data"))
    manifest = json.loads((data / "cases.json").read_text())
    for number, case in enumerate(manifest["cases"]):
        case["split"] = splits(number)
    (data / "cases.json").write_text(json.dumps(manifest | changes))
    return data


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return _with_splits(tmp_path, lambda number: "val" if number % 2 else "train")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, guidino_once: Callable[..., None]) -> Path:
    """A trained run in int8; every second image calibrates, the others decide."""
    for name in ("openvino", "nncf"):
        pytest.importorskip(name, reason="needs the extra openvino")
    folder = tmp_path_factory.mktemp("int8")
    data = _with_splits(folder, lambda number: "val" if number % 2 else "train")
    words = ("--openvino", "--int8", "--calibrate", data, "--max-drop", 0.3)
    guidino_once("export", RECORDED / "guided", "-o", folder / "small", *words)
    return folder / "small"


def _dice(predicted: np.ndarray, true: np.ndarray) -> float:
    return float(2 * (predicted & true).sum() / (predicted.sum() + true.sum()))


@pytest.mark.slow
def test_the_stated_dice_is_that_of_the_masks_of_predict(exported: Path, guidino, tmp_path: Path) -> None:
    about = json.loads((exported / "engine.json").read_text())
    assert about["precision"] == "int8"
    assert about["int8"]["calibration_images"] == 4
    assert about["int8"]["validation_cases"] == 4
    assert about["int8"]["max_drop"] == 0.3
    assert about["int8"]["data_sha256"]
    assert "nncf" in about["versions"]
    cases = json.loads((RECORDED / "data" / "cases.json").read_text())["cases"][1::2]
    for name, run in (("dice_full_precision", RECORDED / "guided"), ("dice_int8", exported)):
        out = tmp_path / name
        assert guidino("predict", run, RECORDED / "src" / "images", "-o", out).code == 0
        scores = [
            _dice(
                np.asarray(Image.open(out / f"{case['id']}.png")) == 1,
                np.asarray(Image.open(RECORDED / "data" / case["mask"])) == 1,
            )
            for case in cases
        ]
        assert about["int8"][name] == pytest.approx(np.mean(scores), abs=1e-6)
    low, drop, high = (about["int8"][name] for name in ("drop_ci_low", "drop", "drop_ci_high"))
    assert low <= drop <= high
    assert drop == pytest.approx(about["int8"]["dice_full_precision"] - about["int8"]["dice_int8"])
    engine = json.loads((tmp_path / "dice_int8" / "predictions.json").read_text())["runs"][0]["engine"]
    assert engine["precision"] == "int8"


@pytest.mark.slow
def test_the_network_is_smaller_and_stands_alone(exported: Path, guidino, tmp_path: Path) -> None:
    names = {path.name for path in exported.iterdir()}
    assert names == {"LICENSE", "config.json", "config.yaml", "engine.json", "model.bin", "model.xml", "run.json"}
    # Four bytes of each weight become one; positions and normalisation stay.
    assert (exported / "model.bin").stat().st_size < 0.35 * 44e6
    moved = Path(shutil.copytree(exported, tmp_path / "elsewhere"))
    image = next(iter(sorted((RECORDED / "src" / "images").iterdir())))
    outcome = guidino("predict", moved, image, "-o", tmp_path / "m", "--save-guide")
    assert outcome.code == 0, outcome.stderr
    assert "(OpenVINO, int8)" in outcome.stderr


@pytest.mark.slow
def test_masks_of_other_precision_are_not_added_to_those_of_the_run(exported: Path, guidino, tmp_path: Path) -> None:
    images = sorted((RECORDED / "src" / "images").iterdir())
    assert guidino("predict", RECORDED / "guided", images[0], "-o", tmp_path / "m").code == 0
    outcome = guidino("predict", exported, *images, "-o", tmp_path / "m", "--skip-existing")
    assert outcome.code == 2
    assert "weights" in outcome.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("instructions", "vnni", "message"),
    [({"avx2"}, False, "has no VNNI"), ({"avx2", "avx512_vnni"}, True, ""), (set(), None, "may lack VNNI")],
)
def test_a_cpu_without_vnni_is_told_so_and_predicts(
    instructions: set[str],
    vnni: bool | None,
    message: str,
    exported: Path,
    guidino,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cpu_features, "instruction_sets", lambda: instructions)
    monkeypatch.setattr(cpu_features.platform, "machine", lambda: "AMD64")
    image = next(iter(sorted((RECORDED / "src" / "images").iterdir())))
    outcome = guidino("predict", exported, image, "-o", tmp_path / "m")
    assert outcome.code == 0
    assert outcome.stderr.count("VNNI") == (1 if message else 0)
    assert message in outcome.stderr
    engine = json.loads((tmp_path / "m" / "predictions.json").read_text())["runs"][0]["engine"]
    assert engine["vnni"] is vnni
    mask, expected = (
        np.asarray(Image.open(folder / f"{image.stem}.png")) for folder in (tmp_path / "m", RECORDED / "expected")
    )
    assert (mask == expected).mean() > 0.97


def test_a_dice_that_falls_too_much_is_said_and_nothing_is_written(
    data: Path, guidino, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    pytest.importorskip("nncf", reason="needs the extra openvino")

    def worsen(source: Path, target: Path, _: object) -> None:
        for name in ("model.xml", "model.bin"):
            shutil.copyfile(source.with_name(name), target.with_name(name))

    found = iter([np.array([0.9, 0.7, 0.8, 0.8]), np.array([0.8, 0.6, 0.7, 0.7])])
    monkeypatch.setattr("guidino_cli.commands.export_int8.quantize_network", worsen)
    monkeypatch.setattr("guidino_cli.commands.export_int8._dice", lambda *_: next(found))
    out = tmp_path / "small"
    outcome = guidino("export", RECORDED / "guided", "-o", out, "--openvino", "--int8", "--calibrate", data)
    assert outcome.code == 8
    fall = "a fall of 0.1000 (95 % CI 0.1000 to 0.1000), of which 0.005 is accepted"
    assert f"0.8000 in full precision, 0.7000 in int8; {fall}" in outcome.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "src"]


@pytest.mark.parametrize(
    ("splits", "changes", "message"),
    [
        (lambda _: "train", {}, "no labelled validation cases"),
        (lambda _: "val", {}, "no training images"),
        (lambda number: "val" if number % 2 else "train", {"classes": ["background", "polyp"]}, "the same classes"),
    ],
)
def test_data_that_cannot_decide_are_refused(
    splits: Callable[[int], str], changes: dict[str, object], message: str, guidino, tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    pytest.importorskip("nncf", reason="needs the extra openvino")
    place = _with_splits(tmp_path, splits, **changes)
    out = tmp_path / "small"
    outcome = guidino("export", RECORDED / "guided", "-o", out, "--openvino", "--int8", "--calibrate", place)
    assert outcome.code == 3
    assert message in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert not out.exists()


def test_a_folder_that_is_not_prepared_is_refused(guidino, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    pytest.importorskip("nncf", reason="needs the extra openvino")
    words = ("--openvino", "--int8", "--calibrate", tmp_path / "none")
    outcome = guidino("export", RECORDED / "guided", "-o", tmp_path / "small", *words)
    assert outcome.code == 3
    assert str(tmp_path / "none") in outcome.stderr


def test_images_are_chosen_evenly() -> None:
    assert choose_evenly(list(range(3)), 5) == [0, 1, 2]  # type: ignore[arg-type]
    assert choose_evenly(list(range(101)), 3) == [0, 50, 100]  # type: ignore[arg-type]


def test_int8_without_nncf_ends_with_5(data: Path, guidino, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guidino_cli.engine.openvino.packages.find_spec", lambda name: None if name == "nncf" else name)
    words = ("--openvino", "--int8", "--calibrate", data)
    outcome = guidino("export", RECORDED / "guided", "-o", tmp_path / "small", *words)
    assert outcome.code == 5
    assert "need nncf; pip install 'guidino[openvino]'" in outcome.stderr
