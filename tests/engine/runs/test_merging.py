"""A merged backbone gives the features of the backbone with its adapter."""

import json
from pathlib import Path

import pytest
import torch
from transformers import ViTConfig, ViTModel

from guidino_cli.config import ComponentSettings, GuideSettings, LoraSettings, ModelSettings, RunConfig
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.runs.merging import write_merged_backbone
from guidino_cli.models import build_backbone, build_model

MEAN, STD = [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A small ViT whose images are not normalised as those of others."""
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=1, intermediate_size=16, image_size=32, patch_size=16
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "base")
    statistics = {"do_normalize": True, "image_mean": MEAN, "image_std": STD}
    (tmp_path / "base" / "preprocessor_config.json").write_text(json.dumps(statistics))
    return tmp_path / "base"


def _run(path: Path, part: ComponentSettings) -> RunFolder:
    """A run whose adapter changes nothing yet."""
    settings = ModelSettings(
        ComponentSettings("unet", {"width": 4}),
        part,
        LoraSettings(rank=1),
        guide=GuideSettings(options={"prototypes": 2}),
    )
    model = build_model(settings, num_classes=2, offline=True)
    folder = RunFolder(path)
    folder.create(RunConfig(model=settings), {})
    folder.save_weights(model, lora=settings.lora)
    return folder


def test_merged_weights_contain_their_input_normalization(base: Path, tmp_path: Path) -> None:
    part = ComponentSettings("vit", {"weights": str(base)})
    merged = write_merged_backbone(_run(tmp_path / "run", part), offline=True).backbone
    again, image = build_backbone(merged["name"], merged["options"], offline=True), torch.rand(1, 3, 32, 32)
    assert again.normalizer.mean.flatten().tolist() == pytest.approx(MEAN)
    assert torch.equal(again(image)[0], build_backbone("vit", part.options, offline=True)(image)[0])


def test_merged_weights_are_read_in_the_precision_of_the_run(base: Path, tmp_path: Path) -> None:
    part = ComponentSettings("vit", {"weights": str(base), "dtype": "bfloat16"})
    merged = write_merged_backbone(_run(tmp_path / "run", part), offline=True)
    again = build_backbone(merged.backbone["name"], merged.backbone["options"], offline=True)
    assert again.identity["sha256"] == merged.sha256
