"""`guidino export --openvino`: the folder is predicted with as the run is, and refused where it is not whole."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.engine.openvino.folder import EngineFolder
from guidino_cli.engine.runs.folder import RunFolder

RECORDED = Path(__file__).parents[1] / "compatibility" / "run_45086b3"
IMAGES = RECORDED / "src" / "images"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, guidino_once: Callable[..., None]) -> Path:
    """A trained run in full precision."""
    pytest.importorskip("openvino", reason="needs the extra openvino")
    out = tmp_path_factory.mktemp("export") / "polyps"
    guidino_once("export", RECORDED / "guided", "-o", out, "--openvino")
    return out


@pytest.fixture
def folder(exported: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def _probabilities(masks: Path, name: str) -> np.ndarray:
    return np.load(masks / "probabilities" / f"{name}.npz")["probabilities"]


def test_masks_guides_and_probabilities_are_those_of_the_run(exported: Path, guidino, tmp_path: Path) -> None:
    extra = ("--save-guide", "--save-probabilities")
    for name, run in (("ours", RECORDED / "guided"), ("theirs", exported)):
        outcome = guidino("predict", run, IMAGES, "-o", tmp_path / name, *extra)
        assert outcome.code == 0, outcome.stderr
    names = sorted(path.stem for path in (RECORDED / "expected").glob("*.png"))
    assert len(names) == 8
    # Probabilities are saved in half precision, guides in 65535 levels.
    for name in names:
        expected = np.asarray(Image.open(RECORDED / "expected" / f"{name}.png"))
        assert np.array_equal(np.asarray(Image.open(tmp_path / "theirs" / f"{name}.png")), expected)
        np.testing.assert_allclose(
            _probabilities(tmp_path / "theirs", name), _probabilities(tmp_path / "ours", name), atol=6e-4
        )
        ours, theirs = (
            np.asarray(Image.open(tmp_path / place / "guides" / f"{name}.png")).astype(int)
            for place in ("ours", "theirs")
        )
        assert np.abs(ours - theirs).max() <= 7
        assert ours.max() > ours.min()


def test_the_record_of_a_prediction_names_engine_and_precision(exported: Path, guidino, tmp_path: Path) -> None:
    from importlib.metadata import version

    image = next(iter(sorted(IMAGES.iterdir())))
    outcome = guidino("predict", exported, image, "-o", tmp_path / "m", "--set", "predict.batch_size=3")
    assert outcome.code == 0, outcome.stderr
    assert "(OpenVINO, full precision)" in outcome.stderr
    summary = json.loads((tmp_path / "m" / "predictions.json").read_text())
    engine = summary["runs"][0]["engine"]
    assert engine["name"] == "openvino"
    assert engine["precision"] == "f32"
    assert engine["version"] == version("openvino")
    assert set(engine) == {"name", "precision", "version", "vnni", "amx"}
    # Masks of the run and of the folder may lie together.
    assert guidino("predict", RECORDED / "guided", IMAGES, "-o", tmp_path / "m", "--skip-existing").code == 0


def test_the_folder_says_what_is_inside(exported: Path) -> None:
    about = json.loads((exported / "engine.json").read_text())
    assert about["input"]["shape"] == [None, 3, 32, 32]
    assert about["backbone"]["sha256"] == RunFolder(RECORDED / "guided").facts()["backbone"]["sha256"]
    assert about["max_abs_difference"] <= 1e-4
    assert "Apache-2.0" in (exported / "LICENSE").read_text()
    assert str(RECORDED) not in "".join(path.read_text() for path in exported.glob("*.json"))


def test_it_is_averaged_with_runs_and_used_from_python(exported: Path, guidino, tmp_path: Path) -> None:
    from guidino_cli import load_run

    image = next(iter(sorted(IMAGES.iterdir())))
    outcome = guidino("predict", exported, image, "-o", tmp_path / "m", "--ensemble", RECORDED / "guided")
    assert outcome.code == 0, outcome.stderr
    assert f"{RECORDED / 'guided'}: has the same weights as {exported}, so one network counts twice" in outcome.stderr
    expected = np.asarray(Image.open(RECORDED / "expected" / f"{image.stem}.png"))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "m" / f"{image.stem}.png")), expected)
    run = load_run(exported)
    mask, guide = run.predict(image)
    assert np.array_equal(mask, expected)
    assert guide is not None
    with pytest.raises(Exception, match="is compiled; features are those of its run"):
        run.features(image)


def test_post_processing_is_tuned_for_it(exported: Path, guidino, tmp_path: Path) -> None:
    own = Path(shutil.copytree(exported, tmp_path / "copy"))
    data = Path(shutil.copytree(RECORDED / "src", tmp_path / "src"))
    shutil.copytree(RECORDED / "data", tmp_path / "data")
    assert data.is_dir()
    outcome = guidino("tune-post", own, "--data", tmp_path / "data")
    assert outcome.code == 0, outcome.stderr
    assert (own / "post.json").is_file()


@pytest.mark.parametrize("name", ["model.bin", "model.xml"])
def test_a_missing_file_is_named(name: str, folder: Path, guidino, tmp_path: Path) -> None:
    (folder / name).unlink()
    outcome = guidino("predict", folder, IMAGES, "-o", tmp_path / "m")
    assert outcome.code == 4
    assert f"{folder / name}: missing" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_a_folder_without_its_description_is_not_taken_for_an_unfinished_run(
    folder: Path, guidino, tmp_path: Path
) -> None:
    (folder / "engine.json").unlink()
    outcome = guidino("predict", folder, IMAGES, "-o", tmp_path / "m")
    assert outcome.code == 4
    assert f"{folder}: a network for OpenVINO without its engine.json; copy the whole folder" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_a_changed_file_is_refused(folder: Path, guidino, tmp_path: Path) -> None:
    content = bytearray((folder / "model.bin").read_bytes())
    content[1000] ^= 1
    (folder / "model.bin").write_bytes(content)
    outcome = guidino("predict", folder, IMAGES, "-o", tmp_path / "m")
    assert outcome.code == 4
    assert "engine.json says" in outcome.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "damaged"), ("[]", "expected an object"), ('{"format": 2}', "format 2"), ('{"format": 1}', "engine")],
)
def test_a_damaged_description_is_refused(content: str, message: str, folder: Path, guidino, tmp_path: Path) -> None:
    (folder / "engine.json").write_text(content)
    outcome = guidino("predict", folder, IMAGES, "-o", tmp_path / "m")
    assert outcome.code == 4
    assert message in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_a_network_that_openvino_cannot_read_is_refused(folder: Path, guidino, tmp_path: Path) -> None:
    (folder / "model.xml").write_text("<net/>")
    about = json.loads((folder / "engine.json").read_text())
    EngineFolder(folder).write_facts({key: value for key, value in about.items() if key != "sha256"})
    outcome = guidino("predict", folder, IMAGES, "-o", tmp_path / "m")
    assert outcome.code == 4
    assert "cannot read it" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("extra", "code", "message"),
    [
        (("--set", "predict.mirror_backbone=once"), 2, "an OpenVINO network is one piece"),
        (("--set", "predict.precision=bf16"), 2, "chosen when it is exported"),
        (("--set", "model.backbone.options.weights=x"), 2, "holds its backbone's weights"),
        (("--device", "cuda"), 2, "runs on the CPU"),
    ],
)
def test_settings_that_only_the_run_follows_are_refused(
    extra: tuple[str, ...], code: int, message: str, exported: Path, guidino, tmp_path: Path
) -> None:
    outcome = guidino("predict", exported, IMAGES, "-o", tmp_path / "m", *extra)
    assert outcome.code == code
    assert message in outcome.stderr
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "words", [("card", "-o", "c"), ("export", "-o", "x.pt2"), ("export", "-o", "x", "--openvino"), ("lora-tune",)]
)
def test_commands_that_need_the_weights_name_the_run(
    words: tuple[str, ...], exported: Path, guidino, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command, *rest = words
    more = ("--data", RECORDED / "data", "-o", "t") if command == "lora-tune" else ()
    outcome = guidino(command, exported, *rest, *more)
    assert outcome.code == 4
    assert "only predicts; give run guided instead" in outcome.stderr


def test_nothing_is_sent_and_torchvision_stays_out() -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise SystemExit('a connection was opened')\n"
        "socket.socket.connect = refuse\n"
        "from guidino_cli.engine.openvino.packages import import_package\n"
        "import_package('openvino'), import_package('nncf')\n"
        "assert sys.modules['openvino_telemetry'] is None and 'torchvision' not in sys.modules\n"
        "import nncf.telemetry\n"
        "assert 'Mock' in type(nncf.telemetry.telemetry).__name__\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_report_does_not_advise_to_draw_its_guides(exported: Path, guidino, tmp_path: Path) -> None:
    """`visualize-guide` refuses such a folder."""
    outcome = guidino("report", exported, "-o", tmp_path / "report.html")
    assert outcome.code == 0, outcome.stderr
    assert "no scores" in outcome.stderr
    assert "no guide quality" not in outcome.stderr
