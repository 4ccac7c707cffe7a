"""Random twins on disk are the networks that `features` takes as controls, and decoders read blocks of like depth."""

from pathlib import Path

import pytest
import torch

from guidino_cli.commands.bench.backbones import CellNetwork, choose_layers
from guidino_cli.engine.features.twins import spread_layers, write_random_twin
from guidino_cli.engine.features.vectors import random_twin
from guidino_cli.models import build_backbone


@pytest.mark.parametrize("name", ["guidino-tiny", "dinov3"])
def test_the_twin_on_disk_is_the_control_of_features(name: str, other_dinov3_folder: Path, tmp_path: Path) -> None:
    options = {"weights": str(other_dinov3_folder)} if name == "dinov3" else {}
    record = write_random_twin(name, options, tmp_path / "twin", seed=0, offline=True)
    own = build_backbone(name, options, offline=True, frozen=True)
    loaded = build_backbone(record.name, {"weights": str(tmp_path / "twin"), "layers": record.layers}, offline=True)
    image = torch.rand(1, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps, expected, pretrained = (net(image)[-1] for net in (loaded.eval(), random_twin(own, seed=0), own))
    torch.testing.assert_close(maps, expected)
    assert not torch.allclose(maps, pretrained)
    assert record.layers == own.layers


def test_a_twin_that_is_there_is_not_written_again(other_dinov3_folder: Path, tmp_path: Path) -> None:
    options = {"weights": str(other_dinov3_folder)}
    first = write_random_twin("dinov3", options, tmp_path / "twin", seed=0, offline=True)
    before = (tmp_path / "twin" / "model.safetensors").stat().st_mtime_ns
    assert write_random_twin("dinov3", options, tmp_path / "twin", seed=0, offline=True) == first
    assert (tmp_path / "twin" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("layers", "deepest", "expected"),
    [
        ([3, 6, 9, 12], 12, [3, 6, 9, 12]),
        ([3, 6, 9, 12], 24, [6, 12, 18, 24]),
        ([3, 6, 9, 12], 6, [2, 3, 5, 6]),
        ([12], 6, [6]),
    ],
)
def test_blocks_are_taken_at_the_same_relative_depths(layers: list[int], deepest: int, expected: list[int]) -> None:
    assert spread_layers(layers, deepest) == expected


def test_the_recipe_decides_which_blocks_a_decoder_reads_before_the_preset_does() -> None:
    network = CellNetwork("dinov3", None, [6])
    assert choose_layers(network, [1, 2], [3, 6, 9, 12]) == [1, 2]
    assert choose_layers(network, None, [3, 6, 9, 12]) == [2, 3, 5, 6]
    assert choose_layers(network, None, None) == [6]
