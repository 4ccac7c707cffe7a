"""Images of any number of channels, and which of them a backbone of three sees; z-scores instead of [0, 1]."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from guidino_cli.config import ComponentSettings, GuideSettings, ModelSettings, parse_config
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.models import SEGMENTERS, build_backbone, build_model, default_backbone_channels
from guidino_cli.models.base import Segmenter
from guidino_cli.models.composed import Model
from guidino_cli.models.segmenters.registry import SEGMENTER_INFO

TINY = ComponentSettings("random", {"hidden_size": 32, "depth": 1, "heads": 2})
UNET = ComponentSettings("unet", {"width": 4})


class Seen(Segmenter):
    """Remembers the image that it is given."""

    stride = 1

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        self.image = image
        return [image[:, :1]]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        return features


@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_segmenter_takes_images_of_any_number_of_channels(
    name: str, channels: int, small_model: Callable[[str], ModelSettings]
) -> None:
    dims = SEGMENTER_INFO[name].dims
    model = build_model(small_model(name), num_classes=2, in_channels=channels, dims=dims).eval()
    image = torch.rand(1, channels, *[32] * dims)
    with torch.no_grad():
        assert model(image).logits[0].shape == (1, 2, *[32] * dims)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_numbers_of_channels_are_normalised_alike(channels: int) -> None:
    """By the averages of ImageNet's three means and deviations: 0.449 and 0.226."""
    segmenter, image = Seen(), torch.rand(1, channels, 4, 4)
    Model(segmenter, in_channels=channels)(image)
    torch.testing.assert_close(segmenter.image, (image - 0.449) / 0.226)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_model_of_two_channels_takes_no_others(channels: int) -> None:
    with pytest.raises(DataError, match=f"images of {channels} channels, expected 2"):
        Model(Seen(), in_channels=2)(torch.rand(1, channels, 4, 4))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_z_scores_reach_the_segmenter_as_they_are(channels: int) -> None:
    segmenter, image = Seen(), 3 * torch.randn(1, channels, 4, 4)
    Model(segmenter, in_channels=channels, is_standardized=True)(image)
    assert torch.equal(segmenter.image, image)


def test_z_scores_reach_the_backbones_network_as_they_are() -> None:
    """As images that its own mean and deviation turn into those z-scores would, but for rounding."""
    scores, plain = torch.randn(1, 3, 32, 48), build_backbone(TINY.name, TINY.options)
    normalizer = plain.normalizer
    expected = plain(scores * normalizer.std + normalizer.mean)[0]
    settings = ModelSettings(UNET, TINY, guide=GuideSettings())
    model = build_model(settings, num_classes=2, is_standardized=True)
    assert model.backbone is not None
    torch.testing.assert_close(model.backbone(scores)[0], expected, rtol=1e-4, atol=1e-4)


def test_z_scores_beyond_the_range_of_images_are_not_clipped_when_they_are_resized() -> None:
    """ImageNet's white is 2.2 to 2.6 deviations from its mean; 33 pixels become 48."""
    backbone = build_backbone(TINY.name, TINY.options)
    backbone.expect_standardized()
    resized = backbone.normalizer(torch.full((1, 3, 33, 33), 9.0))
    torch.testing.assert_close(resized, torch.full((1, 3, 48, 48), 9.0))


@pytest.mark.parametrize(
    ("channels", "slab", "expected"),
    [
        (1, 1, (0, 0, 0)),
        (2, 1, (0, 1, 1)),
        (3, 1, (0, 1, 2)),
        (6, 1, (0, 1, 2)),
        # Slices of one channel: the three in the middle.
        (3, 3, (0, 1, 2)),
        (5, 5, (1, 2, 3)),
        (7, 7, (2, 3, 4)),
        # Three slices of two, of three and of four channels: those of the middle slice.
        (6, 3, (2, 3, 3)),
        (9, 3, (3, 4, 5)),
        (12, 3, (4, 5, 6)),
    ],
)
def test_which_channels_a_backbone_sees(channels: int, slab: int, expected: tuple[int, ...]) -> None:
    assert default_backbone_channels(channels, slab=slab) == expected


@pytest.mark.parametrize(
    ("channels", "chosen", "slab", "expected"),
    [
        (2, None, 1, [0, 1, 1]),
        (4, None, 1, [0, 1, 2]),
        (4, [3, 3, 0], 1, [3, 3, 0]),
        (3, [2, 1, 0], 1, [2, 1, 0]),
        (5, None, 5, [1, 2, 3]),
        (3, None, 1, [0, 1, 2]),
        (1, None, 1, [0]),
        (1, [0, 0, 0], 1, [0, 0, 0]),
    ],
)
def test_a_backbone_is_given_the_chosen_channels(
    channels: int, chosen: list[int] | None, slab: int, expected: list[int]
) -> None:
    settings = ModelSettings(UNET, TINY, guide=GuideSettings(), backbone_channels=chosen)
    model = build_model(settings, num_classes=2, in_channels=channels, slab=slab, dims=2.5 if slab > 1 else 2)
    seen: list[Tensor] = []
    assert model.backbone is not None
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.rand(1, channels, 32, 32)
    assert model(image).logits[0].shape == (1, 2, 32, 32)
    assert torch.equal(seen[0], image[:, expected])


def test_a_channel_that_the_images_do_not_have_is_refused_before_weights_are_sought() -> None:
    backbone = ComponentSettings("dinov3", {"weights": "/nowhere"})
    settings = ModelSettings(UNET, backbone, guide=GuideSettings(), backbone_channels=[0, 1, 2])
    with pytest.raises(ConfigError, match=r"backbone_channels is \[0, 1, 2\], but the images have 2 channels, 0\.\.1"):
        build_model(settings, num_classes=2, in_channels=2)


@pytest.mark.parametrize("channels", ["[0, 1]", "[0, 1, 2, 3]", "[0, -1, 1]", "[a, b, c]"])
def test_backbone_channels_are_three_numbers(channels: str) -> None:
    with pytest.raises(ConfigError, match=r"model\.backbone_channels"):
        parse_config({"model": {"backbone": {"name": "guidino-tiny"}, "guide": {}, "backbone_channels": channels}})


def test_backbone_channels_without_a_backbone_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.backbone_channels needs a model\.backbone"):
        parse_config({"model": {"backbone_channels": [0, 0, 0]}})


@pytest.mark.parametrize("name", ["segformer", "upernet-swin"])
def test_pretrained_weights_of_colour_images_are_refused_for_other_images(name: str) -> None:
    settings = ModelSettings(ComponentSettings(name, {"weights": "/nowhere"}))
    with pytest.raises(ConfigError, match="weights are for 3 channels, but the images have 2: leave weights out"):
        build_model(settings, num_classes=2, in_channels=2)


def test_a_network_for_images_is_refused_for_volumes_before_weights_are_sought() -> None:
    settings = ModelSettings(UNET, ComponentSettings("dinov3", {"weights": "/nowhere"}), guide=GuideSettings())
    with pytest.raises(ConfigError, match=r"segmenter unet segments images .* but data\.dims is 3: set data\.dims=2"):
        build_model(settings, num_classes=2, dims=3)
