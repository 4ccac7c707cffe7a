"""Any network of segmentation_models_pytorch: its names, its errors, and its forward in two halves.

The library itself is seldom installed, since it brings torchvision; a stand-in of the same interface takes its place,
and where the library is there, it is tried too.
"""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guidino_cli.config import ComponentSettings, ModelSettings
from guidino_cli.errors import ConfigError, DependencyError
from guidino_cli.models import build_model
from guidino_cli.models.segmenters.smp import SMP


class Encoder(nn.Module):
    """Two halvings, and a layer that nothing reads."""

    output_stride = 4

    def __init__(self, channels: int, *, only: int | None) -> None:
        super().__init__()
        self.only = only
        self.first = nn.Conv2d(channels, 4, 2, stride=2)
        self.second = nn.Conv2d(4, 6, 2, stride=2)
        self.unused = nn.Conv2d(6, 8, 2, stride=2)

    def forward(self, image: Tensor) -> list[Tensor]:
        if self.only is not None and image.shape[-1] != self.only:
            raise AssertionError(f"Input width ({image.shape[-1]}) doesn't match model ({self.only}).")
        half = self.first(image)
        return [image, half, self.second(half)]


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(10, 4, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        _, half, quarter = features
        up = nn.functional.interpolate(quarter, scale_factor=2.0)
        maps: Tensor = self.conv(torch.cat([half, up], dim=1))
        return maps


class Unet(nn.Module):
    """smp's class as far as it is used here; `only` is the size of images that some encoders of timm insist on."""

    def __init__(
        self,
        encoder_name: str = "resnet34",
        encoder_weights: str | None = "imagenet",
        in_channels: int = 3,
        classes: int = 1,
        only: int | None = None,
        img_size: int | None = None,
    ) -> None:
        super().__init__()
        if encoder_weights is not None:
            raise AssertionError("weights would be downloaded")
        if encoder_name == "tu-nonsense":
            raise RuntimeError("Unknown model (nonsense)")
        self.encoder = Encoder(in_channels, only=img_size or only)
        self.decoder = Decoder()
        self.segmentation_head = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(4, classes, 1))

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.segmentation_head(self.decoder(self.encoder(image)))
        return logits


class DPT(Unet):
    pass


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    encoders = SimpleNamespace(get_encoder_names=lambda: ["resnet18", "resnet34", "vgg11"])
    stand_in = SimpleNamespace(MODEL_ARCHITECTURES_MAPPING={"unet": Unet, "dpt": DPT}, encoders=encoders)
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", stand_in)


def _settings(name: str, **arguments: Any) -> ModelSettings:
    return ModelSettings(ComponentSettings(name, {"arguments": arguments} if arguments else {}))


@pytest.mark.usefixtures("library")
def test_both_halves_together_are_the_librarys_forward() -> None:
    net, image = SMP(num_classes=2, variant="Unet:resnet18"), torch.rand(2, 3, 32, 16)
    assert torch.equal(net.decode(net.encode(image, []), (32, 16))[0], net.net(image))


@pytest.mark.usefixtures("library")
def test_a_name_in_the_settings_becomes_a_model_for_any_size_and_both_numbers_of_channels() -> None:
    model = build_model(_settings("smp:Unet:resnet18"), num_classes=3)
    assert model(torch.rand(2, 1, 33, 50)).logits[0].shape == (2, 3, 33, 50)


@pytest.mark.usefixtures("library")
def test_the_stride_is_the_encoders() -> None:
    assert SMP(num_classes=2, variant="Unet:resnet18").stride == 4


@pytest.mark.usefixtures("library")
def test_weights_that_nothing_reads_do_not_learn_and_all_others_do() -> None:
    net = SMP(num_classes=2, variant="Unet:resnet18")
    resting = {name for name, weight in net.named_parameters() if not weight.requires_grad}
    assert resting == {"net.encoder.unused.weight", "net.encoder.unused.bias"}


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("name", ["smp:Unet", "smp::resnet18", "smp:Unet:", "smp:Unet:resnet18:more"])
def test_a_name_that_is_not_whole_says_how_it_is_written(name: str) -> None:
    with pytest.raises(ConfigError, match="write smp:ARCHITECTURE:ENCODER, such as smp:Unet:resnet34"):
        build_model(_settings(name), num_classes=2)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("smp:Unett:resnet18", "unknown architecture 'Unett'; did you mean 'Unet'"),
        ("smp:Unet:resnet35", "unknown encoder 'resnet35'; did you mean 'resnet34'.* 3 in all, and tu-NAME"),
        ("smp:Unet:tu-nonsense", r"segmenter smp:Unet:tu-nonsense: Unknown model \(nonsense\)"),
        ("smp:DPT:resnet18", "unknown architecture 'DPT'"),
    ],
)
def test_an_unknown_architecture_or_encoder_is_named(name: str, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        build_model(_settings(name), num_classes=2)


@pytest.mark.usefixtures("library")
def test_an_argument_that_the_class_does_not_take_is_the_users_error() -> None:
    with pytest.raises(ConfigError, match="unexpected keyword argument 'depht'"):
        build_model(_settings("smp:Unet:resnet18", depht=3), num_classes=2)


@pytest.mark.usefixtures("library")
def test_an_encoder_for_one_size_of_images_says_which_when_it_gets_another() -> None:
    model = build_model(_settings("smp:Unet:resnet18", only=224), num_classes=2)
    assert model(torch.rand(2, 3, 224, 224)).logits[0].shape[-1] == 224
    with pytest.raises(ConfigError, match=r"64 x 96 .*doesn't match model \(224\).*data\.image_size.*img_size: 96"):
        model(torch.rand(2, 3, 64, 96))


@pytest.mark.usefixtures("library")
def test_an_encoder_may_be_made_for_another_size_of_images() -> None:
    model = build_model(_settings("smp:Unet:resnet18", only=224, img_size=96), num_classes=2)
    assert model(torch.rand(2, 3, 64, 96)).logits[0].shape[-1] == 96


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segmentation_models_pytorch", None)
    with pytest.raises(DependencyError, match=r"smp:Unet:resnet18 needs .*guidino\[smp\].*torchvision") as caught:
        build_model(_settings("smp:Unet:resnet18"), num_classes=2)
    assert caught.value.exit_code == 5


# --- The library itself


@pytest.mark.parametrize(
    "name",
    ["Unet:resnet18", "UnetPlusPlus:resnet18", "FPN:resnet18", "PSPNet:resnet18", "PAN:resnet18", "Segformer:mit_b0"],
)
def test_networks_of_the_library_work_cut_in_two(name: str) -> None:
    pytest.importorskip("segmentation_models_pytorch", exc_type=ImportError)
    net = SMP(num_classes=2, variant=name)
    side = max(64, net.stride)
    logits = net.decode(net.encode(torch.rand(2, 3, side, side), []), (side, side))
    logits[0].square().mean().backward()
    assert logits[0].shape == (2, 2, side, side)
    assert all(weight.grad is not None for weight in net.parameters() if weight.requires_grad)
    net, image = net.eval(), torch.rand(1, 3, side, side)
    with torch.no_grad():
        assert torch.equal(net.decode(net.encode(image, []), (side, side))[0], net.net(image))


def test_unetpp_on_resnet34_has_the_librarys_number_of_parameters() -> None:
    pytest.importorskip("segmentation_models_pytorch", exc_type=ImportError)
    with torch.device("meta"):
        net = SMP(num_classes=2, variant="UnetPlusPlus:resnet34")
    assert sum(weight.numel() for weight in net.parameters()) / 1e6 == pytest.approx(26.079, abs=5e-4)
