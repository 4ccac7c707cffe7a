"""Building students: stochastic depth and missing weights."""

from pathlib import Path

import pytest
import torch

from guidino_cli.engine.pretraining.student import build_objective, build_student
from guidino_cli.errors import ConfigError, WeightsError
from guidino_cli.pretrain_config import PretrainConfig, override_pretrain_config

_SETTINGS = [
    "dino={prototypes: 8, patch_prototypes: 8, hidden: 8, bottleneck: 8}",
    "stages.0.crops=[{global_size: 28, local_size: 28}]",
]


def _config(folder: Path, *overrides: str) -> PretrainConfig:
    student = f"student={{name: dinov2, options: {{weights: {folder}}}}}"
    return override_pretrain_config(PretrainConfig(), [student, *_SETTINGS, *overrides])


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_stochastic_depth_acts_on_the_student_in_training_and_never_on_its_teacher(
    dinov2_folder: Path, tmp_path: Path, share: float
) -> None:
    config = _config(dinov2_folder, f"train.drop_path={share}")
    student = build_student(config, offline=True)
    objective = build_objective(student, config, paths=[], features=tmp_path).train()
    image = torch.rand(8, 3, 28, 28)
    with torch.no_grad():
        assert torch.equal(objective.student(image).cls, objective.student(image).cls) is (share == 0)
        taught = objective.teacher(image).cls
        assert torch.equal(taught, objective.teacher(image).cls)
        torch.testing.assert_close(objective.eval().student(image).cls, taught)


def test_a_drop_path_of_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train\.drop_path"):
        override_pretrain_config(PretrainConfig(), ["train.drop_path=1"])


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("student.options.weights=nobody/has-this", "--set student.options.weights=/path"),
        ("distill={teacher: {name: dinov2, options: {weights: nobody/has-this}}}", "--distill-from /path"),
    ],
)
def test_hints_for_missing_weights_name_settings_of_pretraining(dinov2_folder: Path, override: str, hint: str) -> None:
    with pytest.raises(WeightsError) as caught:
        build_student(_config(dinov2_folder, override), offline=True)
    assert hint in str(caught.value)
    assert "model.backbone" not in str(caught.value)


@pytest.mark.parametrize("wanted", [True, False])
def test_activations_are_computed_again_only_on_request(dinov2_folder: Path, wanted: bool) -> None:
    student = build_student(_config(dinov2_folder, f"train.checkpointing={str(wanted).lower()}"), offline=True)
    assert student.encoder.network.is_gradient_checkpointing == wanted
