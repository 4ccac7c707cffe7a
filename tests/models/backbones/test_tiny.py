"""The guide in the package."""

from pathlib import Path
from typing import Any

import pytest
import torch

from guidino_cli.errors import WeightsError
from guidino_cli.models import build_backbone
from guidino_cli.models.backbones import tiny
from guidino_cli.models.backbones.spec import describe_backbone
from guidino_cli.models.backbones.tiny import WEIGHTS_FILE, load_tiny
from guidino_cli.models.pretrained.catalogue import TINY_FEATURES
from guidino_cli.models.pretrained.feature_checks import feature_fingerprint, make_test_image, max_feature_difference
from guidino_cli.models.pretrained.hub import find_embedded_file
from guidino_cli.models.pretrained.strict_loading import hash_weights


def test_the_file_is_the_known_one_and_within_twelve_megabytes() -> None:
    assert len(tiny._read_weights_file()) <= 12_000_000


def test_its_features_of_the_fixed_image_are_the_known_ones() -> None:
    assert max_feature_difference(feature_fingerprint(load_tiny()), TINY_FEATURES) < 5e-3


def test_it_is_built_by_its_name_without_network_or_extra() -> None:
    backbone = build_backbone("guidino-tiny", {"scale": 2}, offline=True)
    (dense,) = backbone(torch.rand(1, 1, 56, 70))
    assert dense.shape == (1, 384, 8, 10)
    assert backbone.is_frozen


@pytest.mark.parametrize("options", [{}, {"layers": [1, 3, 6], "norm": False}, {"scale": 2.0}], ids=str)
@pytest.mark.parametrize("size", [(126, 126), (98, 70), (518, 518)], ids=str)
def test_frozen_it_gives_the_maps_of_transformers_without_transformers(size: tuple[int, int], options: Any) -> None:
    image = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(load_tiny(frozen=True, **options)(image), load_tiny(**options)(image), strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.std()


def test_frozen_it_has_the_weights_and_the_configuration_of_transformers() -> None:
    ours, theirs = load_tiny(frozen=True, layers=[4]), load_tiny(layers=[4])
    assert hash_weights(ours.vit) == hash_weights(theirs.vit)
    assert describe_backbone(ours) == describe_backbone(theirs)


def test_it_has_six_blocks() -> None:
    with pytest.raises(ValueError, match=r"blocks 1\.\.6"):
        load_tiny(layers=[7])


@pytest.mark.skipif(find_embedded_file() is None, reason="needs the weights: guidino weights download embedded")
def test_eight_bits_turn_no_token_by_more_than_five_degrees() -> None:
    from guidino_cli.models.backbones.embedded import load_embedded

    (ours,), (theirs,) = load_tiny()(make_test_image()), load_embedded(layers=[6])(make_test_image())
    assert torch.cosine_similarity(ours, theirs, dim=1).min() > 0.996


def test_a_damaged_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / WEIGHTS_FILE.name
    damaged.write_bytes(WEIGHTS_FILE.read_bytes()[:-1])
    monkeypatch.setattr(tiny, "WEIGHTS_FILE", damaged)
    with pytest.raises(WeightsError, match=r"SHA-256 is .*, expected .*pip install --force-reinstall guidino"):
        load_tiny()


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiny, "WEIGHTS_FILE", tmp_path / "gone.safetensors")
    with pytest.raises(WeightsError, match=r"gone\.safetensors: cannot be read"):
        load_tiny()
