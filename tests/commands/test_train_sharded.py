"""`train.shard_backbone` from the command line: the run can be used like any other."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guidino_cli.commands import train
from guidino_cli.config import load_preset
from guidino_cli.errors import ConfigError
from guidino_cli.models import build_model

PRESET = """
model:
  segmenter: {name: unet, options: {width: 4}}
  backbone: {name: random, options: {hidden_size: 32, depth: 2, heads: 2}}
  guide: {at: bottleneck, options: {prototypes: 4}}
data: {image_size: 32, augment: none}
train: {epochs: 1, batch_size: 2, shard_backbone: true}
predict: {overlap: 0, mirror: false}
"""


@pytest.fixture
def words(make_data: Callable[..., Path], tmp_path: Path) -> list[object]:
    """What trains it, but for `-o`."""
    data, preset = make_data(train=4, val=1), tmp_path / "tiny.yaml"
    preset.write_text(PRESET)
    return ["train", "-p", preset, "-d", data]


def test_one_process_can_predict_with_a_sharded_run(
    fork_server: Any, words: list[object], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    """One validation case for two processes, too."""
    run, masks = tmp_path / "run", tmp_path / "masks"
    fork_server.start(*words, "-o", run, processes=2)
    fork_server.wait(0, 0)
    model = build_model(load_preset(str(words[2])).model, num_classes=2)
    trained, whole = json.loads((run / "run.json").read_text())["parameters"]
    assert whole == sum(parameter.numel() for parameter in model.parameters())
    assert trained == sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    outcome = guidino("predict", run, tmp_path / "data" / "images", "-o", masks, "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    assert len(list(masks.glob("*.png"))) == 6


@pytest.mark.parametrize("is_sharded", [True, False])
def test_only_a_backbone_that_is_sharded_is_left_in_its_file(
    is_sharded: bool, words: list[object], guidino: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the others nobody would cast the weights."""
    asked: list[bool] = []

    def build(*_: object, is_sharded: bool = False, **__: object) -> None:
        asked.append(is_sharded)
        raise ConfigError("seen enough")

    monkeypatch.setattr(train, "run_preflight", lambda *_, **__: None)
    monkeypatch.setattr(train, "build_model", build)
    setting = f"train.shard_backbone={str(is_sharded).lower()}"
    guidino(*words, "-o", tmp_path / "run", "--device", "cpu", "--set", setting)
    assert asked == [is_sharded]


def test_a_single_process_is_refused_with_advice(
    words: list[object], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    outcome = guidino(*words, "-o", tmp_path / "run", "--device", "cpu")
    assert outcome.code == 2
    assert "there is one process: add --devices N, or leave it out" in outcome.stderr
    assert guidino(*words, "-o", tmp_path / "run", "--device", "cpu", "--dry-run").code == 0


def test_lora_of_a_sharded_run_names_the_setting(words: list[object], guidino: Callable[..., Any]) -> None:
    outcome = guidino("lora-tune", *words[1:], "-o", "run", "--device", "cpu")
    assert outcome.code == 2
    assert "train.shard_backbone needs a frozen backbone, but model.lora trains it: set it to false" in outcome.stderr
