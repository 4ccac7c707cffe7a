"""Fixtures of the weights tests: an empty cache, and a small DINOv3 on disk."""

from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GUIDINO_WEIGHTS", raising=False)


@pytest.fixture
def wide_folder(tmp_path: Path) -> Path:
    """A DINOv3 whose number of heads can be read off its width."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    torch.manual_seed(0)
    config = DINOv3ViTConfig(
        hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, num_register_tokens=4
    )
    DINOv3ViTModel(config).save_pretrained(tmp_path / "wide")
    return tmp_path / "wide"
