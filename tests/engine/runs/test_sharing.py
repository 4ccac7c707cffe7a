"""Model folders to pass on: runs with an adapter, and with a backbone that was trained as a whole."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guidino_cli.config import parse_config
from guidino_cli.engine.runs.folder import RunFolder, run_facts
from guidino_cli.engine.runs.loading import load_run
from guidino_cli.engine.runs.sharing import is_model_folder, without_folders, write_model_folder
from guidino_cli.models import build_model


@pytest.mark.parametrize("learning", ["lora", "finetune"])
def test_an_adapted_and_a_trained_backbone_are_in_the_folder(
    learning: str, make_data: Callable[..., Path], tmp_path: Path
) -> None:
    backbone = {"name": "random", "options": {"hidden_size": 32, "depth": 1, "heads": 2}}
    guide = {"at": "bottleneck", "options": {"prototypes": 4}}
    model = {"segmenter": {"name": "unet", "options": {"width": 4}}, "backbone": backbone, "guide": guide, learning: {}}
    config = parse_config({"model": model, "data": {"image_size": 32}})
    network = build_model(config.model, num_classes=2, offline=True)
    with torch.no_grad():
        for parameter in network.parameters():
            # An adapter begins at zero.
            parameter.add_(0.01 * torch.randn_like(parameter) * parameter.requires_grad)
    run = RunFolder(tmp_path / "run")
    run.create(config, run_facts(network, classes=["background", "a"], data=make_data()))
    run.save_weights(network, lora=config.model.lora)
    shared = tmp_path / "shared"
    shared.mkdir()
    write_model_folder(run.path, shared)
    assert not (shared / "best").exists()
    assert is_model_folder(shared)
    assert not is_model_folder(run.path)
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected, found = (load_run(path)[0](image).logits[0] for path in (run.path, shared))
    assert torch.equal(expected, found)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("/home/me/weights/vits16", "vits16"),
        ("~/weights.pth", "weights.pth"),
        ("C:\\Users\\me\\run", "run"),
        ({"a": ["/x/y", 3, None]}, {"a": ["y", 3, None]}),
        ("facebook/dinov2-small", "facebook/dinov2-small"),
        ("5/95", "5/95"),
    ],
)
def test_absolute_paths_are_cut_to_their_last_part(value: Any, expected: Any) -> None:
    assert without_folders(value) == expected
