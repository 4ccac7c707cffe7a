"""A guide as a prior of the logits of any segmenter: what is added, what the segmenter is shown, and how it starts."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.config import ComponentSettings, GuideSettings, ModelSettings
from guidino_cli.errors import ConfigError
from guidino_cli.models import SEGMENTERS, build_model
from guidino_cli.models.base import Backbone, Guide, Segmenter
from guidino_cli.models.composed import Model
from guidino_cli.models.logit_prior import LogitPrior
from guidino_cli.models.segmenters.registry import SEGMENTER_INFO
from guidino_cli.registry import find

DIMS = {name: row.dims for name, row in SEGMENTER_INFO.items() if name != "guided-filter"}
SHOWABLE = [
    name
    for name, dims in DIMS.items()
    if dims == 2 and name != "smp" and "in_channels" in find("", name, SEGMENTERS).__init__.__annotations__
]
BACKBONE = ComponentSettings("random", {"hidden_size": 32, "depth": 2, "heads": 2})
SURE = 1 / (1 + math.exp(-1.0))
"""A guide whose logit is 1."""


class Constant(Guide):
    """Maps of one value each."""

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = values

    def forward(self, dense: Tensor) -> Tensor:
        return torch.tensor(self.values).view(1, -1, 1, 1).expand(len(dense), -1, *dense.shape[2:])


class Zeros(Backbone):
    channels, stride, identity, is_frozen = 1, 4, {"weights": "none", "sha256": "0"}, True

    def forward(self, image: Tensor) -> list[Tensor]:
        return [F.avg_pool2d(image[:, :1] * 0, 4)]


class Told(Segmenter):
    """Logits of fixed values at the image's size and at half of it; remembers what it was shown."""

    stride = 4

    def __init__(self, *values: float) -> None:
        super().__init__()
        self.values = values

    def encode(self, image: Tensor, dense: list[Tensor]) -> list[Tensor]:
        self.seen = image
        return [image[:, :1]]

    def decode(self, features: list[Tensor], size_hw: tuple[int, ...]) -> list[Tensor]:
        fine = torch.tensor(self.values).view(1, -1, 1, 1).expand(len(features[0]), -1, *size_hw)
        return [fine, F.avg_pool2d(fine, 2)]


def _prior_of(name: str, model: ModelSettings, num_classes: int) -> Model:
    torch.manual_seed(0)
    return build_model(model, num_classes=num_classes, dims=DIMS[name]).eval()


@pytest.mark.parametrize("name", DIMS)
def test_every_level_of_every_segmenter_starts_with_the_logit_of_the_guide_alone(
    name: str, small_segmenter: Callable[[str], ComponentSettings], small_backbone: ComponentSettings
) -> None:
    guide = GuideSettings(at="logits", per_class=True, options={"prototypes": 4})
    model = _prior_of(name, ModelSettings(small_segmenter(name), small_backbone, guide=guide), num_classes=3)
    image = torch.rand(2, 3, *((33, 50) if DIMS[name] == 2 else (9, 17, 19)))
    prediction = model.train(name != "upernet-swin")(image)
    assert prediction.guide is not None
    wanted = torch.logit(prediction.guide)
    for level in prediction.logits:
        assert not level[:, 0].any()
        mode = "bilinear" if DIMS[name] == 2 else "trilinear"
        if all(a >= b for a, b in zip(level.shape[2:], wanted.shape[2:], strict=True)):
            expected = F.interpolate(wanted, size=level.shape[2:], mode=mode, align_corners=False)
            torch.testing.assert_close(level[:, 1:], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DIMS)
def test_a_segmenter_that_starts_at_zero_learns_in_its_output_layers_first_and_then_everywhere(
    name: str, small_segmenter: Callable[[str], ComponentSettings], small_backbone: ComponentSettings
) -> None:
    guide = GuideSettings(at="logits", options={"prototypes": 4})
    model = _prior_of(name, ModelSettings(small_segmenter(name), small_backbone, guide=guide), num_classes=2)
    image, target = torch.rand(2, 3, *[32] * DIMS[name]), torch.ones(2, *[32] * DIMS[name], dtype=torch.long)
    own = [weight for weight in model.segmenter.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(own, lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        torch.stack([F.cross_entropy(level, F.interpolate(target[:, None].float(), size=level.shape[2:])[:, 0].long())
                     for level in model(image).logits]).sum().backward()  # fmt: skip
        optimizer.step()
    assert not [
        key for key, weight in model.segmenter.named_parameters() if weight.requires_grad and weight.grad is None
    ]
    moved = sum(bool(weight.grad is not None and weight.grad.any()) for weight in own)
    assert moved > len(own) / 2


def test_the_logit_of_the_guide_times_the_gain_is_added_to_each_foreground_class_at_every_level() -> None:
    prior = LogitPrior(maps=2, channels=1, has_noise=False)
    assert prior.gain is not None
    with torch.no_grad():
        prior.gain.copy_(torch.tensor([2.0, 3.0]))
    model = Model(
        Told(0.5, -1.0, 4.0), backbone=Zeros(), guide=Constant(SURE, 1 - SURE), guide_at="logits", prior=prior
    )
    logits = model(torch.rand(1, 3, 8, 8)).logits
    assert [level.shape[-1] for level in logits] == [8, 4]
    for level in logits:
        torch.testing.assert_close(level[0, :, 1, 2], torch.tensor([0.5, -1.0 + 2.0, 4.0 - 3.0]))


def test_the_guide_itself_stays_in_zero_to_one() -> None:
    prior = LogitPrior(maps=1, channels=1, has_noise=False)
    model = Model(Told(0.0, 0.0), backbone=Zeros(), guide=Constant(SURE), guide_at="logits", prior=prior)
    guide = model(torch.rand(1, 3, 8, 8)).guide
    assert guide is not None
    torch.testing.assert_close(guide, torch.full((1, 1, 2, 2), SURE))


@pytest.mark.parametrize(("value", "logit"), [(0.0, -13.8155), (1.0, 13.8155)])
def test_a_guide_that_is_certain_has_a_finite_logit(value: float, logit: float) -> None:
    found = LogitPrior(maps=1, channels=1, has_noise=False).evidence(torch.full((1, 1, 1, 1), value))
    assert found.item() == pytest.approx(logit, rel=5e-3)


def test_the_segmenter_is_shown_the_logit_and_the_tokens_without_their_mean() -> None:
    prior = LogitPrior(maps=1, channels=2, tokens=1, shows=True, has_noise=False)
    assert prior.project is not None
    with torch.no_grad():
        prior.mean_token.copy_(torch.tensor([0.5, 0.5]))
        prior.project.weight.copy_(torch.tensor([1.0, 10.0]).view(1, 2, 1, 1))
        prior.project.bias.zero_()
    # (3, 4) has length 5: (0.6, 0.8) - (0.5, 0.5) = (0.1, 0.3), times 4, by (1, 10).
    shown = prior.shown(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), torch.tensor([[[[7.0]]]]))
    torch.testing.assert_close(shown.flatten(), torch.tensor([7.0, 4 * (0.1 + 3.0)]))


def test_at_channels_the_guide_is_shown_and_nothing_is_added() -> None:
    prior = LogitPrior(maps=1, channels=1, adds=False, shows=True, has_noise=False)
    segmenter = Told(0.5, -1.0)
    model = Model(segmenter, backbone=Zeros(), guide=Constant(SURE), guide_at="channels", prior=prior)
    logits = model(torch.rand(1, 3, 8, 8)).logits
    torch.testing.assert_close(logits[0][0, :, 0, 0], torch.tensor([0.5, -1.0]))
    assert segmenter.seen.shape == (1, 4, 8, 8)
    torch.testing.assert_close(segmenter.seen[:, 3], torch.ones(1, 8, 8))


@pytest.mark.parametrize("name", SHOWABLE)
def test_any_segmenter_of_any_number_of_channels_is_shown_guide_and_tokens(
    name: str, small_segmenter: Callable[[str], ComponentSettings], small_backbone: ComponentSettings
) -> None:
    guide = GuideSettings("ridge", at="logits", fit="closed-form", per_class=True, tokens=5)
    model = _prior_of(name, ModelSettings(small_segmenter(name), small_backbone, guide=guide), num_classes=3)
    prediction = model(torch.rand(1, 3, 33, 50))
    assert prediction.logits[0].shape == (1, 3, 33, 50)
    prediction.logits[0].square().mean().backward()
    assert model.prior is not None
    assert model.prior.channels == 2 + 5


def test_in_training_half_of_the_samples_have_a_shifted_logit_and_none_later() -> None:
    prior = LogitPrior(maps=1, channels=1, has_noise=True)
    guide = torch.full((1000, 1, 2, 2), SURE)
    torch.manual_seed(0)
    found = prior.train().evidence(guide)
    assert torch.equal(found, found[..., :1, :1].expand_as(found))
    shift = found[:, 0, 0, 0] - 1
    is_shifted = shift.abs() > 1e-4
    assert 0.45 < is_shifted.float().mean() < 0.55
    assert shift[is_shifted].std() == pytest.approx(0.5, abs=0.05)
    torch.testing.assert_close(prior.eval().evidence(guide), torch.ones_like(guide))


def test_a_guide_that_is_trained_has_no_noise() -> None:
    prior = LogitPrior(maps=1, channels=1, has_noise=False).train()
    torch.testing.assert_close(prior.evidence(torch.full((4, 1, 1, 1), SURE)), torch.ones(4, 1, 1, 1))


def test_a_reduced_segmenter_sees_the_mean_of_the_pixels_and_its_logits_have_the_size_of_the_image() -> None:
    segmenter = Told(0.5, -1.0)
    model = Model(segmenter, reduction=2)
    image = torch.rand(1, 3, 13, 16)
    logits = model(image).logits
    assert logits[0].shape == (1, 2, 13, 16)
    torch.testing.assert_close(logits[0][0, :, 5, 5], torch.tensor([0.5, -1.0]))
    assert segmenter.seen.shape == (1, 3, 8, 8)
    normal = (image - model.mean) / model.std
    torch.testing.assert_close(segmenter.seen[0, :, 1, 2], normal[0, :, 2:4, 4:6].mean(dim=(1, 2)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ModelSettings(ComponentSettings("light2d"), BACKBONE, guide=GuideSettings(at="channels")), "takes none"),
        (
            ModelSettings(
                ComponentSettings("segdino"), BACKBONE, guide=GuideSettings("ridge", "logits", "closed-form", 4)
            ),
            "model.guide.tokens=0",
        ),
        (ModelSettings(ComponentSettings("unet"), BACKBONE, guide=GuideSettings(at="logits")), "per_class=true"),
    ],
)
def test_what_cannot_be_shown_or_added_is_refused(settings: ModelSettings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_model(settings, num_classes=3)
