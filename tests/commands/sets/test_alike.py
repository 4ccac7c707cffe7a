"""Runs that are there already belong to the set, or are refused."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from guidino_cli.commands.runs.result import RunResult, write_result
from guidino_cli.commands.sets import running
from guidino_cli.config import dump, load_preset, override
from guidino_cli.errors import ConfigError

Maker = Callable[..., Path]


def _tune(words: Sequence[str]) -> int:
    """Write what a tuned run writes: the origin's settings with LoRA, and the hash of its weights."""
    folder, origin = Path(words[words.index("-o") + 1]), Path(words[1])
    overrides = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    folder.mkdir(parents=True)
    config = override(load_preset(str(origin / "config.yaml")), ["model.lora={}", *overrides])
    (folder / "config.yaml").write_text(dump(config))
    facts = {"data": {"sha256": ""}, "origin": {"sha256": "of the weights that were"}}
    (folder / "run.json").write_text(json.dumps(facts))
    write_result(folder, RunResult(0.8, 3, 5, 60.0))
    return 0


def test_runs_of_other_settings_in_the_folder_are_refused(trainings, train, out: Path) -> None:
    train(trainings([0.6, 0.7]), seeds="2")
    path = out / "seed-1" / "config.yaml"
    config = load_preset(str(path))
    path.write_text(dump(replace(config, train=replace(config.train, lr=0.5))))
    with pytest.raises(ConfigError, match="seed-1: was trained with other settings than the set's"):
        train(trainings([]), preset=None, data=None, resume=True)


def test_a_finished_run_of_another_preset_is_not_adopted(trainings, train, out: Path) -> None:
    train(trainings([0.6]), seeds="1")
    for name in ("runs.json", "settings.yaml"):
        (out / name).unlink()
    same = trainings([0.7])
    train(same, seeds="2", resume=True)
    assert same.values == ["seed=1"]
    (out / "runs.json").unlink()
    with pytest.raises(ConfigError, match="seed-0: was trained with other settings than the set's"):
        train(trainings([]), seeds="2", overrides=["train.lr=0.5"], resume=True)


def test_a_run_of_other_cases_is_not_adopted(trainings, train, out: Path) -> None:
    train(trainings([0.6]), seeds="1")
    (out / "seed-0" / "run.json").write_text(json.dumps({"data": {"sha256": "of another list"}}))
    with pytest.raises(ConfigError, match=r"seed-0: was trained with other cases than .*cases\.json"):
        train(trainings([]), preset=None, data=None, resume=True)


def test_a_run_that_began_with_other_weights_is_not_adopted(trainings, train, out: Path, tmp_path: Path) -> None:
    train(trainings([0.6]), seeds="1")
    words = {"seeds": "1", "folds": None, "origin": out, "preset": None, "data": None, "out": tmp_path / "tuned"}
    words |= {"overrides": ["train.epochs=2"], "seed": None, "overwrite": False, "dry_run": False}
    running.run("lora-tune", **words, resume=False, caller=_tune)
    running.run("lora-tune", **words, resume=True, caller=trainings([]))
    weights = out / "seed-0" / "best" / "model.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"others")
    with pytest.raises(ConfigError, match=r"seed-0: was trained with other weights than .*model\.safetensors"):
        running.run("lora-tune", **words, resume=True, caller=trainings([]))
