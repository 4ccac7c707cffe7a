"""UperNet with Swin: transformers' forward, its auxiliary head, and starting from a pretrained Swin."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    SwinBackbone,
    SwinConfig,
    SwinForImageClassification,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from guidino_cli.errors import ConfigError, WeightsError
from guidino_cli.models.segmenters.upernet_swin import UperNetSwin

SMALL: dict[str, Any] = {"width": 12, "depths": (2, 1, 1, 1), "heads": (1, 2, 2, 2), "window": 4, "decoder_width": 16}
SWIN: dict[str, Any] = {"embed_dim": 12, "depths": [2, 1, 1, 1], "num_heads": [1, 2, 2, 2], "window_size": 4}


def _small(**options: Any) -> UperNetSwin:
    torch.manual_seed(0)
    return UperNetSwin(num_classes=2, **{**SMALL, **options})


@pytest.mark.parametrize(("deep_supervision", "count"), [(True, 59_829_438), (False, 58_943_676)])
def test_the_number_of_parameters_is_that_of_swin_t_and_its_heads(deep_supervision: bool, count: int) -> None:
    with torch.device("meta"):
        net = UperNetSwin(num_classes=2, deep_supervision=deep_supervision)
    assert sum(weight.numel() for weight in net.parameters()) == count


def test_both_halves_together_are_transformers_forward() -> None:
    swin = SwinConfig(**SWIN, out_features=["stage1", "stage2", "stage3", "stage4"])
    config = UperNetConfig(
        backbone_config=swin, num_labels=2, hidden_size=16, auxiliary_in_channels=48, auxiliary_channels=8
    )
    ours, theirs = _small().eval(), UperNetForSemanticSegmentation(config).eval()
    theirs.load_state_dict(ours.net.state_dict())
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        found = ours.decode(ours.encode(image, []), (64, 96))[0]
        torch.testing.assert_close(found, theirs(image).logits, atol=1e-6, rtol=0)


def test_the_last_map_is_the_bottleneck() -> None:
    features = _small().encode(torch.rand(1, 3, 64, 32), [])
    assert [tuple(item.shape) for item in features] == [
        (1, 12 * 2**level, 16 // 2**level, 8 // 2**level) for level in range(4)
    ]


def test_the_auxiliary_head_is_at_a_sixteenth_and_may_be_left_out() -> None:
    image = torch.rand(2, 3, 64, 64)
    both = _small().decode(_small().encode(image, []), (64, 64))
    net = _small(deep_supervision=False)
    one = net.decode(net.encode(image, []), (64, 64))
    assert [level.shape[-1] for level in both] == [64, 4]
    assert [level.shape[-1] for level in one] == [64]


def test_training_with_one_image_a_batch_is_refused_by_the_setting_to_change() -> None:
    """Its coarsest pool is one cell an image: batch normalisation would have nothing to normalise over."""
    net, image = _small(), torch.rand(1, 3, 64, 64)
    with pytest.raises(ConfigError, match=r"found 1, expected 2 or more; set train\.batch_size"):
        net.decode(net.encode(image, []), (64, 64))
    assert net.eval().decode(net.encode(image, []), (64, 64))[0].shape == (1, 2, 64, 64)


def test_another_number_of_stages_is_refused() -> None:
    with pytest.raises(ValueError, match="expected four of each"):
        _small(depths=(2, 2))


def test_the_swin_starts_from_a_folder_and_its_classifier_is_left_out(tmp_path: Path) -> None:
    torch.manual_seed(7)
    classifier = SwinForImageClassification(SwinConfig(**SWIN))
    classifier.save_pretrained(tmp_path / "swin")
    found = _small(weights=str(tmp_path / "swin")).net.backbone.swin.state_dict()
    expected = classifier.swin.state_dict()
    assert found.keys() == {name for name in expected if not name.startswith("pooler")}
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_the_swin_starts_from_a_folder_of_a_backbone_too(tmp_path: Path) -> None:
    torch.manual_seed(7)
    backbone = SwinBackbone(SwinConfig(**SWIN, out_features=["stage1", "stage2", "stage3", "stage4"]))
    backbone.save_pretrained(tmp_path / "swin")
    found = _small(weights=str(tmp_path / "swin")).net.backbone.state_dict()
    assert all(torch.equal(found[name], value) for name, value in backbone.state_dict().items())


def test_a_swin_of_another_width_is_refused(tmp_path: Path) -> None:
    SwinForImageClassification(SwinConfig(**{**SWIN, "embed_dim": 24})).save_pretrained(tmp_path / "swin")
    with pytest.raises(WeightsError, match="of another shape"):
        _small(weights=str(tmp_path / "swin"))
