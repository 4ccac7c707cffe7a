"""Distillation through the loop: student and teacher built from settings."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from transformers import Dinov2Config, Dinov2Model

from guidino_cli.cli.pretraining import teacher_setting
from guidino_cli.config import ComponentSettings
from guidino_cli.engine.pretraining.checkpoint import save_backbone
from guidino_cli.engine.pretraining.folder import PretrainFolder
from guidino_cli.engine.pretraining.loop import Pretrainer
from guidino_cli.engine.pretraining.student import build_objective, build_student
from guidino_cli.errors import ConfigError
from guidino_cli.models.backbones.dino import load_dino
from guidino_cli.models.layers import DropPath
from guidino_cli.models.pretrained.saving import write_preprocessor_config
from guidino_cli.pretrain_config import (
    CropSizes,
    DistillSettings,
    OptimizationSettings,
    PretrainConfig,
    StageSettings,
    UnlabelledDataSettings,
)

SMALL = {"hidden_size": 16, "depth": 1, "heads": 2}
TEACHER = ComponentSettings("random", {"hidden_size": 32, "depth": 1, "heads": 2, "seed": 3})


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(4)]
    for number, path in enumerate(paths):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    return paths


@pytest.fixture
def dinov2(tmp_path: Path) -> Path:
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=14, image_size=28)
    torch.manual_seed(0)
    Dinov2Model(config).save_pretrained(tmp_path / "dinov2")
    return tmp_path / "dinov2"


def settings(**distill: object) -> PretrainConfig:
    return PretrainConfig(
        student=ComponentSettings("random", SMALL),
        data=UnlabelledDataSettings(side=48, workers=0),
        train=OptimizationSettings(batch_size=2, precision="no", log_every=2, picture_every=0),
        distill=DistillSettings(**{"teacher": TEACHER, "views": 2, **distill}),  # type: ignore[arg-type]
        stages=[StageSettings("one", 4, 1e-3, gram=1.0, crops=[CropSizes(32, 32), CropSizes(48, 32)])],
    )


def pretrainer(config: PretrainConfig, out: Path, images: list[Path]) -> Pretrainer:
    torch.manual_seed(0)
    student = build_student(config, offline=True)
    torch.manual_seed(0)
    objective = build_objective(student, config, paths=images, features=out / "teacher")
    folder = PretrainFolder(out)
    if not folder.has_state():
        folder.create(config, {})
    return Pretrainer(objective, config, folder, paths=images, device="cpu")


def weights(trainer: Pretrainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.bare_objective.own_state().items()}


def test_a_resumed_run_ends_as_an_uninterrupted_one(tmp_path: Path, images: list[Path]) -> None:
    config = settings()
    whole = pretrainer(config, tmp_path / "whole", images)
    whole.fit()

    class Stop(Exception):
        pass

    first = pretrainer(config, tmp_path / "parts", images)
    learn, steps = first._step, []

    def until_two(batches):  # type: ignore[no-untyped-def]
        if len(steps) == 2:
            first.checkpoints.save(first.state)
            raise Stop
        steps.append(1)
        learn(batches)

    first._step = until_two  # type: ignore[method-assign]
    with pytest.raises(Stop):
        first.fit()
    second = pretrainer(config, tmp_path / "parts", images)
    second.resume()
    assert second.state.step == 2
    second.fit()
    one, other = weights(whole), weights(second)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_teacher_features_stay_on_disk_for_the_next_run(tmp_path: Path, images: list[Path]) -> None:
    pretrainer(settings(), tmp_path / "run", images).fit()
    keys = [json.loads(path.read_text()) for path in sorted((tmp_path / "run" / "teacher").glob("*/key.json"))]
    assert keys
    # Sizes are drawn per step, so one of the two may not have come up in four.
    assert {key["grid"] for key in keys} <= {2, 3}
    assert all(key["shape"] == [8, key["grid"] ** 2, 32] for key in keys)


def test_a_student_from_blocks_has_the_teachers_width_and_licence(dinov2: Path) -> None:
    config = settings(teacher=ComponentSettings("dinov2", {"weights": str(dinov2)}), blocks=[1])
    student = build_student(config, offline=True)
    assert student.encoder.channels == 32
    assert student.encoder.network.config.model_type == "dinov3_vit"
    assert student.identity["weights"].startswith("blocks 1 of ")
    assert student.loaded_teacher is not None
    assert student.identity.get("licence") == student.loaded_teacher.backbone.identity.get("licence")


def test_a_student_from_blocks_normalises_images_as_its_teacher(dinov2: Path, tmp_path: Path) -> None:
    write_preprocessor_config(dinov2, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    student = build_student(
        settings(teacher=ComponentSettings("dinov2", {"weights": str(dinov2)}), blocks=[1]), offline=True
    )
    assert student.encoder.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    (tmp_path / "out").mkdir()
    save_backbone(student.encoder, tmp_path / "out", identity=student.identity)
    read = load_dino(family="dinov3", offline=True, weights=str(tmp_path / "out"))
    assert read.normalizer.mean.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert read.normalizer.std.flatten().tolist() == pytest.approx([0.4, 0.5, 0.6])


def test_a_student_from_blocks_has_stochastic_depth(dinov2: Path) -> None:
    config = settings(teacher=ComponentSettings("dinov2", {"weights": str(dinov2)}), blocks=[1, 2])
    student = build_student(replace(config, train=replace(config.train, drop_path=0.25)), offline=True)
    # One module per block serves its attention and its MLP.
    assert [part.share for part in student.encoder.modules() if isinstance(part, DropPath)] == [0.25, 0.25]


def test_a_student_loaded_in_half_precision_is_trained_in_single(dinov2: Path) -> None:
    student = ComponentSettings("dinov2", {"weights": str(dinov2), "dtype": "bfloat16"})
    stages = [StageSettings("one", 1, 1e-3, crops=[CropSizes(28, 28)])]
    made = build_student(replace(settings(), student=student, stages=stages, distill=None), offline=True)
    assert {parameter.dtype for parameter in made.encoder.network.parameters()} == {torch.float32}


def test_blocks_of_a_dinov3_teacher_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"distill\.blocks: .* not of a dinov3_vit"):
        build_student(settings(blocks=[1]), offline=True)


def test_blocks_with_another_mlp_ratio_are_refused(dinov2_folder: Path) -> None:
    teacher = ComponentSettings("dinov2", {"weights": str(dinov2_folder)})
    with pytest.raises(ConfigError, match=r"distill\.blocks: .* an MLP ratio of 2, a student's have 4"):
        build_student(settings(teacher=teacher, blocks=[1]), offline=True)


def test_a_teacher_with_a_scale_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"distill\.teacher\.options\.scale"):
        build_student(settings(teacher=ComponentSettings("random", {**TEACHER.options, "scale": 2})), offline=True)


def test_distill_from_a_folder_detects_its_architecture(dinov2: Path) -> None:
    assert '"name": "dinov2"' in teacher_setting(str(dinov2))
    assert teacher_setting("embedded") == 'distill.teacher={"name": "embedded"}'
    assert '"name": "dinov3"' in teacher_setting("someone/dinov3-base")


def test_options_of_a_teacher_named_by_distill_from_can_still_be_set(
    guidino: Callable[..., Any], tmp_path: Path, images: list[Path], dinov2: Path
) -> None:
    arguments = ["pretrain", images[0].parent, "-o", tmp_path / "student", "--preset", "tiny", "--distill-from", dinov2]
    arguments += ["--set", "distill.teacher.options.layers=[1]", "--set", "distill.blocks=[1]", "--dry-run"]
    outcome = guidino(*arguments, "--device", "cpu")
    assert outcome.code == 0, outcome
    assert yaml.safe_load(outcome.stdout)["distill"]["teacher"]["options"] == {"weights": str(dinov2), "layers": [1]}


def test_distill_from_an_empty_folder_names_the_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json: cannot be read"):
        teacher_setting(str(tmp_path))


def test_the_command_writes_a_backbone_that_can_be_loaded(
    guidino: Callable[..., Any], tmp_path: Path, images: list[Path], dinov2: Path
) -> None:
    out = tmp_path / "student"
    small = ["stages.0.steps=2", "stages.0.warmup_steps=0", "stages.0.crops.0.global_size=32", "distill.blocks=[2]"]
    small += ["train.batch_size=2", "train.picture_every=0", "data.side=48"]
    arguments = [
        "pretrain",
        images[0].parent,
        "-o",
        out,
        "--preset",
        "tiny",
        "--distill-from",
        dinov2,
        "--device",
        "cpu",
    ]
    outcome = guidino(*arguments, *(argument for setting in small for argument in ("--set", setting)))
    assert outcome.code == 0, outcome
    backbone = load_dino(family="dinov3", offline=True, weights=str(out))
    assert backbone(torch.rand(1, 3, 32, 48))[0].shape == (1, 32, 2, 3)
    assert not (out / "teacher").exists()
    assert json.loads((out / "pretraining.json").read_text())["teacher"]["weights"]
