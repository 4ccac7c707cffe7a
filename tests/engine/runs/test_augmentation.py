"""A resumed run keeps the augmentation it began with."""

import json
from dataclasses import replace

import pytest

from guidino_cli.config import RunConfig
from guidino_cli.data.augment import Level
from guidino_cli.engine.runs.augmentation import keep_augmentation
from guidino_cli.engine.runs.folder import RunFolder


def _as_of_0_1_0(run: RunFolder) -> RunFolder:
    """The run as guidino 0.1.0 recorded it."""
    path = run.path / "run.json"
    facts = json.loads(path.read_text())
    assert facts.pop("augmentation") == 2
    path.write_text(json.dumps(facts))
    return run


def test_a_run_of_this_version_keeps_its_settings(
    run: RunFolder, config: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert config.data.augment == "nnunet"
    assert keep_augmentation(run, config) == config
    assert capsys.readouterr().err == ""


def test_a_run_of_guidino_0_1_0_keeps_its_augmentation_and_says_so(
    run: RunFolder, config: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = keep_augmentation(_as_of_0_1_0(run), config)
    assert kept == replace(config, data=replace(config.data, augment="nnunet-0.1"))
    assert "keeps its augmentation, data.augment=nnunet-0.1" in capsys.readouterr().err
    assert keep_augmentation(run, kept) == kept


@pytest.mark.parametrize("level", ["none", "light", "guidino"])
def test_other_augmentations_mean_what_they_meant(run: RunFolder, config: RunConfig, level: Level) -> None:
    other = replace(config, data=replace(config.data, augment=level))
    assert keep_augmentation(_as_of_0_1_0(run), other) == other
