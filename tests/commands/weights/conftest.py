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


@pytest.fixture
def meta_file(tmp_path: Path) -> Path:
    """A narrow DINOv3 ViT/16 as Meta names its tensors, with the norm of local crops' class tokens of SAT-493M."""
    generator = torch.Generator().manual_seed(0)
    width = 128

    def draw(*shape: int) -> torch.Tensor:
        return 0.02 * torch.randn(*shape, generator=generator)

    tensors = {
        "cls_token": draw(1, 1, width),
        "storage_tokens": draw(1, 4, width),
        "mask_token": draw(1, width),
        "rope_embed.periods": 100.0 ** (torch.arange(16) / 16),
        "patch_embed.proj.weight": draw(width, 3, 16, 16),
        "patch_embed.proj.bias": draw(width),
    }
    norms = ["norm", "local_cls_norm"]
    for block in (f"blocks.{number}." for number in range(2)):
        norms += [f"{block}norm1", f"{block}norm2"]
        for name, rows, columns in (("attn.qkv", 3, 1), ("attn.proj", 1, 1), ("mlp.fc1", 4, 1), ("mlp.fc2", 1, 4)):
            tensors[f"{block}{name}.weight"] = draw(rows * width, columns * width)
            tensors[f"{block}{name}.bias"] = torch.zeros(rows * width)
        tensors[f"{block}attn.qkv.bias_mask"] = torch.tensor([1.0, 0.0, 1.0]).repeat_interleave(width)
        tensors |= {f"{block}ls{number}.gamma": torch.ones(width) for number in (1, 2)}
    for norm in norms:
        tensors |= {f"{norm}.weight": torch.ones(width), f"{norm}.bias": torch.zeros(width)}
    path = tmp_path / "meta.pth"
    torch.save(tensors, path)
    return path
