"""`guidino train` with the guide of another run: `model.guide.from_run`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from guidino_cli.config import parse_config
from guidino_cli.errors import ConfigError

Maker = Callable[..., Path]

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture
def train(guidino, preset: Path, make_data: Maker, tmp_path: Path):
    """Call `guidino train` with the tiny guided preset; the folder is `tmp_path / name`."""
    data = make_data()

    def call(name: str, *settings: str):
        options = [word for setting in settings for word in ("--set", setting)]
        return guidino("train", "-p", preset, "-d", data, "-o", tmp_path / name, "--device", "cpu", *options)

    return call


def _weights(run: Path, part: str) -> dict[str, torch.Tensor]:
    tensors = load_file(run / "best" / "model.safetensors")
    return {name: value for name, value in tensors.items() if name.startswith(part)}


def test_the_guide_of_another_run_is_taken_and_stays_as_it_is(train, guidino, tmp_path: Path) -> None:
    assert train("first").code == 0
    taken = ("seed=1", "train.loss.guide=0", f"model.guide.from_run={tmp_path / 'first'}")
    outcome = train("second", *taken)
    assert outcome.code == 0, outcome.stderr
    first, second = tmp_path / "first", tmp_path / "second"
    guide = _weights(first, "guide.")
    assert guide
    assert all(torch.equal(value, _weights(second, "guide.")[name]) for name, value in guide.items())
    segmenter = _weights(first, "segmenter.")
    assert not all(torch.equal(value, _weights(second, "segmenter.")[name]) for name, value in segmenter.items())
    assert json.loads((second / "run.json").read_text())["guide_origin"]["run"] == str(first.resolve())
    # It is part of the run now: what it came from is not needed to go on.
    shutil.rmtree(first)
    resumed = guidino("train", "--resume", "-o", second, "--device", "cpu", "--set", "train.epochs=2")
    assert resumed.code == 0, resumed.stderr
    assert all(torch.equal(value, _weights(second, "guide.")[name]) for name, value in guide.items())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.guide.options={prototypes: 8, aggregate: softmax}", "model.guide.options is"),
        ("model.guide.per_class=true", "model.guide.per_class is True"),
        ("model.backbone.options.scale=2", "reads the tokens of"),
    ],
)
def test_another_guide_or_other_tokens_are_refused_in_one_line(
    setting: str, message: str, train, tmp_path: Path
) -> None:
    assert train("first").code == 0
    outcome = train("second", "train.loss.guide=0", f"model.guide.from_run={tmp_path / 'first'}", setting)
    assert outcome.code == 2
    assert message in " ".join(outcome.stderr.split())
    assert not (tmp_path / "second").exists()


def test_a_run_without_guide_and_a_folder_without_run_are_refused(train, tmp_path: Path) -> None:
    assert train("plain", "model.guide=null", "model.backbone=null", "train.loss.guide=0").code == 0
    outcome = train("second", "train.loss.guide=0", f"model.guide.from_run={tmp_path / 'plain'}")
    assert outcome.code == 2
    assert "has no guide; name a run that was trained with one" in " ".join(outcome.stderr.split())
    outcome = train("second", "train.loss.guide=0", f"model.guide.from_run={tmp_path / 'nowhere'}")
    assert outcome.code == 3
    assert "nowhere" in outcome.stderr


def test_the_loss_of_a_guide_that_stays_as_it_is_is_refused() -> None:
    guide = {"from_run": "runs/slices"}
    model = {"backbone": {"name": "guidino-tiny"}, "guide": guide}
    with pytest.raises(ConfigError, match=r"from_run keeps the guide as it is, so train\.loss\.guide changes nothing"):
        parse_config({"model": model, "train": {"loss": {"dice": 1, "guide": 0.1}}})
    # It moves an adapted backbone.
    parse_config({"model": {**model, "lora": {}}, "train": {"loss": {"dice": 1, "guide": 0.1}}})
