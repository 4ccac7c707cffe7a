"""Shared by the tests of run folders: one with weights."""

from collections.abc import Callable
from pathlib import Path

import pytest

from guidino_cli.config import RunConfig, override
from guidino_cli.engine.runs.folder import RunFolder, run_facts
from guidino_cli.models import build_model

SETTINGS = (
    "model.segmenter={name: unet, options: {width: 4}}",
    "model.backbone={name: random, options: {hidden_size: 32, depth: 1, heads: 2}}",
    "model.guide={at: bottleneck, options: {prototypes: 4}}",
)


@pytest.fixture
def config() -> RunConfig:
    return override(RunConfig(), SETTINGS)


@pytest.fixture
def run(config: RunConfig, make_data: Callable[..., Path], tmp_path: Path) -> RunFolder:
    """A run folder with weights."""
    folder, model = RunFolder(tmp_path / "run"), build_model(config.model, num_classes=2)
    folder.create(config, run_facts(model, classes=["background", "polyp"], data=make_data()))
    folder.save_weights(model)
    return folder
