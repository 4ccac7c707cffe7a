"""`guidino weights verify` through the real command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file


def test_verify_notices_one_changed_weight(guidino: Callable[..., Any], wide_folder: Path, tmp_path: Path) -> None:

    out = tmp_path / "imported"
    guidino("weights", "import", wide_folder, "-o", out)
    tensors = load_file(out / "model.safetensors")
    tensors["norm.weight"][0] += 1e-6
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    outcome = guidino("weights", "verify", out)
    assert outcome.code == 4
    assert "weights differ from those imported" in outcome.stderr


def test_verify_compares_a_file_with_the_digits_in_its_name(
    guidino: Callable[..., Any], wide_folder: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    path = tmp_path / "dinov3_vits16_pretrain-0123abcd.pth"
    torch.save(load_file(wide_folder / "model.safetensors"), path)
    outcome = guidino("weights", "verify", path)
    assert outcome.code == 4
    assert "its name says 0123abcd; download it again" in outcome.stderr


def test_verify_prints_the_hash_of_every_shard(guidino: Callable[..., Any], wide_folder: Path, tmp_path: Path) -> None:
    import hashlib

    from transformers import DINOv3ViTModel

    DINOv3ViTModel.from_pretrained(wide_folder).save_pretrained(tmp_path / "shards", max_shard_size="200KB")
    files = sorted((tmp_path / "shards").glob("*.safetensors"))
    outcome = guidino("weights", "verify", tmp_path / "shards")
    assert len(files) > 1
    hashes = [f"file SHA-256    {hashlib.sha256(file.read_bytes()).hexdigest()} {file.name}" for file in files]
    assert [line for line in outcome.stdout.splitlines() if line.startswith("file")] == hashes


def test_guidino_tiny_is_found_and_verifies(guidino: Callable[..., Any]) -> None:
    assert guidino("weights", "where", "guidino-tiny").stdout.strip().endswith("guidino_tiny.safetensors")
    assert "ok: the known file" in guidino("weights", "verify", "guidino-tiny").stdout
    refusal = guidino("weights", "download", "guidino-tiny")
    assert refusal.code == 2
    assert "nothing to download" in refusal.stderr


@pytest.mark.parametrize("naming", ["file", "folder", "meta"])
def test_import_and_verify_refuse_weights_with_nan_by_the_name_in_the_file(
    naming: str, guidino: Callable[..., Any], wide_folder: Path, meta_file: Path, tmp_path: Path
) -> None:
    file = wide_folder / "model.safetensors"
    name = "layer.1.mlp.up_proj.weight"
    if naming == "meta":
        file, name = meta_file, "blocks.1.mlp.fc1.weight"
        tensors = torch.load(file)
        tensors[name][3, 5] = float("nan")
        torch.save(tensors, file)
    else:
        tensors = load_file(file)
        tensors[name][3, 5] = float("nan")
        save_file(tensors, file, {"format": "pt"})
    source = wide_folder if naming == "folder" else file
    for outcome in (
        guidino("weights", "verify", source),
        guidino("weights", "import", source, "-o", tmp_path / "out"),
    ):
        assert outcome.code == 4
        assert "hold NaN or infinite values (" in outcome.stderr
        assert f"{name})" in " ".join(outcome.stderr.split())
    assert not (tmp_path / "out").exists()


def test_import_refuses_weights_whose_features_overflow(
    guidino: Callable[..., Any], wide_folder: Path, tmp_path: Path
) -> None:
    file = wide_folder / "model.safetensors"
    tensors = load_file(file)
    tensors["layer.1.mlp.up_proj.weight"].fill_(3e38)
    save_file(tensors, file, {"format": "pt"})
    outcome = guidino("weights", "import", file, "-o", tmp_path / "out")
    assert outcome.code == 4
    assert "the features of a test image are NaN or infinite" in " ".join(outcome.stderr.split())


@pytest.mark.parametrize("text", ["[" * 100_000, '{"features": 1}', "[1]", ""])
def test_verify_refuses_a_damaged_import_record_by_name(
    text: str, guidino: Callable[..., Any], wide_folder: Path
) -> None:
    (wide_folder / "guidino.json").write_text(text)
    outcome = guidino("weights", "verify", wide_folder)
    assert outcome.code == 4
    assert "guidino.json: damaged" in outcome.stderr
