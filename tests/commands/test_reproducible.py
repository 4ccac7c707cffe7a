"""The same seed gives the same run, and `run.json` says what it takes to make it again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from guidino_cli.commands.runs.result import RESULT_FILE
from guidino_cli.data.manifest import load_manifest
from guidino_cli.engine.environment import fingerprint_files

Maker = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture
def train(guidino, preset: Path, make_data: Maker, tmp_path: Path):
    """Two epochs of `guidino train` on the CPU into a folder of this name."""
    data = make_data()

    def call(name: str, *words: object):
        two = ("--set", "train.epochs=2", "--device", "cpu")
        return guidino("train", "-p", preset, "-d", data, "-o", tmp_path / name, *two, *words)

    return call


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(train, tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        outcome = train(name, "--seed", seed)
        assert outcome.code == 0, outcome.stderr
    weights = [(tmp_path / name / "best" / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]


def test_the_run_says_how_it_was_made_but_not_where(train, tmp_path: Path) -> None:
    train("run", "--set", "train.epochs=1")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["command"][:2] == ["guidino", "train"]
    assert "train.epochs=1" in facts["command"]
    assert facts["torch"]["device"] == "cpu"
    assert facts["torch"]["processes"] == 1
    assert facts["torch"]["threads"] >= 1
    assert facts["torch"]["deterministic_algorithms"] is False
    assert len(facts["data"]["files"]) == 64
    import platform

    assert platform.node() not in json.dumps(facts["torch"])


def test_an_image_that_changed_since_is_noticed_when_the_run_goes_on(train, guidino, tmp_path: Path) -> None:
    train("run", "--set", "train.epochs=1")
    # As if it had been killed before its end: a finished run says so and stops.
    (tmp_path / "run" / RESULT_FILE).unlink()
    image = tmp_path / "data" / "images" / "case0.png"
    image.write_bytes(image.read_bytes() + b"0")
    outcome = guidino("train", "--resume", "-o", tmp_path / "run", "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    assert "warning: " in outcome.stderr
    assert "sizes of images or masks have changed since the run started" in outcome.stderr


def test_the_fingerprint_of_files_does_not_depend_on_where_they_are(make_data: Maker, tmp_path: Path) -> None:
    here = make_data("here")
    there = here.rename(tmp_path / "there")
    moved = fingerprint_files(load_manifest(there).cases, there)
    there.rename(here)
    assert fingerprint_files(load_manifest(here).cases, here) == moved
