"""What the Tab key offers, asked as shells ask: presets, settings with their values, and run folders."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from guidino_cli.config import RunConfig, preset_names
from guidino_cli.options.completion import complete_preset, complete_run
from guidino_cli.settings_reference import list_setting_infos

Complete = Callable[[str], list[str]]


@pytest.fixture
def complete(tmp_path: Path) -> Complete:
    """Candidates for the last word of a line, as bash asks for them in `tmp_path`."""

    def ask(line: str) -> list[str]:
        words = f"guidino {line}"
        position = len(words.split()) - (0 if words.endswith(" ") else 1)
        asked = {"_GUIDINO_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
        root = str(Path(__file__).parents[1])
        done = subprocess.run(
            [sys.executable, "-P", "-m", "guidino_cli"],
            capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **asked, "PYTHONPATH": root},
        )  # fmt: skip
        assert done.stderr == ""
        return done.stdout.split()

    return ask


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        folder = tmp_path / "lab" / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").touch()
        (folder / "run.json").touch()
    (tmp_path / "lab" / "images").mkdir()
    (tmp_path / "lab" / "images" / "x.png").touch()
    return tmp_path / "lab"


def test_settings_are_offered_without_a_space_after_a_single_one(complete: Complete) -> None:
    assert complete("train --set train.epo") == ["train.epochs=", "train.epochs=400"]
    assert complete("train -s train.optim") == ["train.optimizer=", "train.optimizer=adamw", "train.optimizer=sgd"]


def test_settings_are_those_of_the_command(complete: Complete) -> None:
    assert complete("predict RUN --set predict.ov") == ["predict.overlap=", "predict.overlap=0.5"]
    assert "student.name=" in complete("pretrain --set st")
    assert complete("predict RUN --set ")[0].startswith("predict.")


def test_zsh_is_offered_values_behind_the_equals_sign() -> None:
    asked = {"_GUIDINO_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "guidino train --set train.optimizer=s"}
    root = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "guidino_cli"],
        capture_output=True, text=True, env={**os.environ, **asked, "PYTHONPATH": root},
    )  # fmt: skip
    assert '"train.optimizer=sgd"' in done.stdout
    assert "adamw=" not in done.stdout
    assert "train.optimizer=adamw" not in done.stdout


def test_presets_are_offered_by_name_and_by_file(
    complete: Complete, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own-mine.yaml").touch()
    assert complete("train --preset own-") == ["own-gated-unet", "own-plain-unet", "own-unet", "own-mine.yaml"]
    monkeypatch.chdir(tmp_path)
    assert complete_preset("") == [*preset_names(), "own-mine.yaml"]


def test_run_folders_are_offered_and_folders_without_runs_are_walked_through(
    complete: Complete, runs: Path, tmp_path: Path
) -> None:
    assert complete("predict la") == ["lab/runs/a", "lab/runs/b"]
    assert complete("export lab/runs/b") == ["lab/runs/b"]
    assert complete("predict x y --ensemble lab/r") == ["lab/runs/a", "lab/runs/b"]


def test_report_is_offered_evaluations_and_guides_too(complete: Complete, runs: Path) -> None:
    for name, file in (("c", "report.json"), ("d", "guides.json")):
        (runs / "runs" / name).mkdir()
        (runs / "runs" / name / file).touch()
    assert complete("report lab/r") == [f"lab/runs/{name}" for name in "abcd"]


def test_where_there_are_no_runs_the_shell_may_offer_files(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert complete_run("lab/images/") == []
    assert complete_run("no/such") == []
    assert complete_run("lab/[") == []


def test_choices_are_the_values_that_settings_take() -> None:
    choices = {info.path: info.choices for info in list_setting_infos(RunConfig)}
    assert choices["train.schedule"] == ("poly", "cosine", "constant")
    assert choices["train.compile"] == ("true", "false")
    assert choices["train.channels_last"] == ("auto", "true", "false")
    assert choices["train.epochs"] == ()
