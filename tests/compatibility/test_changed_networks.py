"""Runs of 0.1.0 whose network has another form now are refused by every command that would use their weights."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from guidino_cli.models.segmenters.registry import SEGMENTER_INFO

_CHANGED = ("swin-unet", "u-mamba", "swin-umamba", "h2former", "trans-unet", "sam2-unet")
_PRESET = """
model: {segmenter: {name: swin-unet, options: {width: 4, depths: [2, 1], heads: [1, 1], window: 4}}}
data: {image_size: 32}
train: {epochs: 1, batch_size: 2}
predict: {overlap: 0, mirror: false}
"""


@pytest.fixture
def old(guidino: Callable, make_data: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of a Swin-Unet, as 0.1.0 would have left it: its weights fit the network of today."""
    for name in ("draw_curve", "draw_validation_grid"):
        monkeypatch.setattr(f"guidino_cli.commands.train.{name}", lambda *_, **__: None)
    monkeypatch.setattr("guidino_cli.commands.train.curve_callback", lambda *_: None)
    preset, run = tmp_path / "swin.yaml", tmp_path / "run"
    preset.write_text(_PRESET)
    done = guidino("train", "-p", preset, "-d", make_data(), "-o", run, "--device", "cpu")
    assert done.code == 0, done.stderr
    facts = json.loads((run / "run.json").read_text())
    assert facts.pop("segmenter_revision") == 2
    (run / "run.json").write_text(json.dumps({**facts, "guidino": "0.1.0", "git": None}))
    return run


def test_the_networks_that_have_changed() -> None:
    assert {name for name, row in SEGMENTER_INFO.items() if row.changes} == set(_CHANGED)


def test_a_run_of_the_old_form_is_refused_in_one_line(guidino: Callable, old: Path, tmp_path: Path) -> None:
    """Its skips would be others, and nothing in shapes or names would tell."""
    data, out = tmp_path / "data", tmp_path / "out"
    for words in (
        ("predict", old, data / "images", "-o", out),
        ("train", "--resume", "-o", old, "--set", "train.epochs=2"),
        ("train", "--from", old, "-d", data, "-o", out),
    ):
        done = guidino(*words, *(("--device", "cpu") if words[0] == "train" else ()))
        assert done.code == 4, words
        last = done.stderr.strip().splitlines()[-1]
        assert f"{old}: swin-unet has changed since this run was trained" in last
        assert "its skips are what the stages of the encoder receive" in last
        assert last.endswith("train again, or use the guidino that trained it (0.1.0)")
    assert not out.exists()
