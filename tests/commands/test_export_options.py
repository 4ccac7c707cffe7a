"""Options of `guidino export` that do not go together, and folders where nothing is written."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from guidino_cli.engine.runs.loading import load_run

RECORDED = Path(__file__).parents[1] / "compatibility" / "run_45086b3"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--openvino --monai-bundle", "give one of them"),
        ("--openvino --batch 4", "takes any batch"),
        ("--int8 --calibrate DATA", "add --openvino"),
        ("--openvino --int8", "add --calibrate DATA"),
        ("--openvino --calibrate DATA", "is for --int8"),
        ("--openvino --max-drop 0.01", "is for --int8"),
        ("--openvino --int8 --calibrate DATA --max-drop -0.1", "expected a fall of the Dice from 0 to 1"),
        ("--openvino --int8 --calibrate DATA --max-drop nan", "expected a fall of the Dice from 0 to 1"),
    ],
)
def test_options_that_contradict_each_other_are_refused(words: str, message: str, guidino, tmp_path: Path) -> None:
    outcome = guidino("export", RECORDED / "guided", "-o", tmp_path / "x", *words.split())
    assert outcome.code == 2
    assert message in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_openvino_without_its_package_ends_with_5(guidino, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guidino_cli.engine.openvino.packages.find_spec", lambda _: None)
    outcome = guidino("export", RECORDED / "guided", "-o", tmp_path / "x", "--openvino")
    assert outcome.code == 5
    assert "pip install 'guidino[openvino]'" in outcome.stderr


def test_a_damaged_installation_of_openvino_ends_with_5(
    guidino, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")

    def fail(name: str) -> None:
        raise ImportError("libopenvino.so: cannot open shared object file")

    monkeypatch.setattr("guidino_cli.engine.openvino.packages.importlib", SimpleNamespace(import_module=fail))
    outcome = guidino("export", RECORDED / "guided", "-o", tmp_path / "x", "--openvino")
    assert outcome.code == 5
    assert "cannot be imported (libopenvino.so: cannot open shared object file); pip install" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "message"), [("model.onnx", "writes a folder"), ("mine", "did not write")])
def test_places_that_cannot_be_meant_are_refused(name: str, message: str, guidino, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    outcome = guidino("export", RECORDED / "guided", "-o", tmp_path / name, "--openvino", "--overwrite")
    assert outcome.code == 2
    assert message in outcome.stderr
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_a_run_on_volumes_is_refused(guidino, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    model, config, facts = load_run(RECORDED / "guided")
    volumes: Callable[..., object] = lambda *_, **__: (model, config, facts | {"volumes": {"dims": 2}})  # noqa: E731
    monkeypatch.setattr("guidino_cli.commands.export.load_run", volumes)
    outcome = guidino("export", RECORDED / "guided", "-o", tmp_path / "x", "--openvino")
    assert outcome.code == 2
    assert "was trained on volumes" in outcome.stderr
    assert not (tmp_path / "x").exists()


def test_results_that_differ_too_much_are_not_kept(guidino, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    monkeypatch.setattr("guidino_cli.commands.export_openvino.convert_model", lambda *_, **__: None)
    monkeypatch.setattr("guidino_cli.commands.export_openvino.compare", lambda *_, **__: 0.5)
    outcome = guidino("export", RECORDED / "guided", "-o", tmp_path / "x", "--openvino")
    assert outcome.code == 2
    assert "its results differ from the run's by 0.5" in outcome.stderr
    assert not list(tmp_path.iterdir())


def test_a_run_whose_backbone_sees_no_flips_is_refused(guidino, tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    run = Path(shutil.copytree(RECORDED / "guided", tmp_path / "run"))
    text = (run / "config.yaml").read_text()
    assert "mirror_backbone: each" in text
    (run / "config.yaml").write_text(text.replace("mirror_backbone: each", "mirror_backbone: once"))
    outcome = guidino("export", run, "-o", tmp_path / "x", "--openvino")
    assert outcome.code == 2
    assert "an OpenVINO network is one piece" in outcome.stderr
