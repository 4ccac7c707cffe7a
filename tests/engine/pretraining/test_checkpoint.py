"""Exported backbones compute the same features as the student."""

from pathlib import Path

import torch

from guidino_cli.config import ComponentSettings
from guidino_cli.engine.pretraining.checkpoint import save_backbone
from guidino_cli.engine.pretraining.student import build_student
from guidino_cli.models import build_backbone
from guidino_cli.pretrain_config import CropSizes, PretrainConfig, StageSettings


def _config(weights: Path) -> PretrainConfig:
    stage = StageSettings("one", 1, 1e-3, crops=[CropSizes(28, 14)])
    return PretrainConfig(student=ComponentSettings("dinov2", {"weights": str(weights), "layers": [2]}), stages=[stage])


def test_a_student_of_fewer_blocks_is_exported_with_those_blocks(dinov2_folder: Path, tmp_path: Path) -> None:
    student = build_student(_config(dinov2_folder), offline=True)
    with torch.no_grad():
        student.encoder.network.layernorm.weight.mul_(1.5)
    (tmp_path / "last").mkdir()
    sha256 = save_backbone(student.encoder, tmp_path, identity=student.identity)
    read = build_backbone("dinov2", {"weights": str(tmp_path)}, offline=True)
    image = torch.rand(1, 3, 28, 42)
    with torch.no_grad():
        patches = student.encoder.eval()(image).patches
    assert read.identity["sha256"] == sha256
    torch.testing.assert_close(read(image)[-1].flatten(2).transpose(1, 2), patches)


def test_export_keeps_the_files_of_the_run_and_makes_weights_readable(dinov2_folder: Path, tmp_path: Path) -> None:
    student = build_student(_config(dinov2_folder), offline=True)
    (tmp_path / "history.jsonl").write_text("{}\n")
    save_backbone(student.encoder, tmp_path, identity=student.identity)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"history.jsonl", "model.safetensors", "config.json", "preprocessor_config.json", "NOTICE.md"} <= names
    assert not any(name.startswith(".") for name in names)
    modes = {(tmp_path / name).stat().st_mode & 0o777 for name in ("model.safetensors", "config.json")}
    assert len(modes) == 1
