"""Settings that a machine cannot run are refused before anything is loaded."""

import os
from collections.abc import Iterator

import pytest
import torch

from guidino_cli.config import RunConfig, TrainSettings, override
from guidino_cli.engine.training.preflight import run_preflight, set_deterministic_algorithms
from guidino_cli.errors import ConfigError


@pytest.fixture
def torchs_switches() -> Iterator[None]:
    """As they were, after the test."""
    before = (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark)
    kept = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = before
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    if kept is not None:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = kept


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.sync_batch_norm=true", "torch supports it on CUDA devices only"),
        ("train.profile=2", "train.profile is 2, but the first two steps are not profiled"),
        ("train.precision=fp16", "needs a CUDA device"),
    ],
)
def test_settings_that_do_not_work_on_a_cpu_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_preflight(override(RunConfig(), [setting]), "cpu")


@pytest.mark.parametrize("name", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_sharding_by_accelerate_plugins_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "false")
    run_preflight(RunConfig(), "cpu")
    monkeypatch.setenv(name, "true")
    with pytest.raises(ConfigError, match=f"{name} is set: .* splits the weights .* use --devices N or torchrun"):
        run_preflight(RunConfig(), "cpu")


def test_the_deterministic_setting_restricts_torch_to_deterministic_algorithms(torchs_switches: None) -> None:
    set_deterministic_algorithms(TrainSettings(deterministic=False))
    assert not torch.are_deterministic_algorithms_enabled()
    set_deterministic_algorithms(TrainSettings(deterministic=True))
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_training_step_uses_deterministic_algorithms_only(
    torchs_switches: None, make_trainer, guided, make_data, tmp_path
) -> None:  # type: ignore[no-untyped-def]
    """On a CPU at least: augmentation, guide, deep supervision, loss and optimiser."""
    set_deterministic_algorithms(TrainSettings(deterministic=True))
    nnwnet = "model.segmenter={name: nnwnet, options: {width: 4}}"
    trainer = make_trainer(make_data(train=2), tmp_path / "run", *guided, nnwnet, "train.epochs=1")
    trainer.fit()
    assert len(trainer.folder.history()) == 1
