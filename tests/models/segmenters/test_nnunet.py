"""nnU-Net's residual encoder U-Net and its plain one."""

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.models.segmenters.nnunet import NNUNet, _ResidualBlock

Encoder = Literal["residual", "plain"]
WIDTHS = (4, 4, 8, 8)
BLOCKS = (1, 2, 1, 1)


def _small(encoder: Encoder = "residual", *, deep_supervision: bool = True) -> NNUNet:
    torch.manual_seed(0)
    return NNUNet(num_classes=2, encoder=encoder, widths=WIDTHS, blocks=BLOCKS, deep_supervision=deep_supervision)


def _count(**options: object) -> int:
    # Shapes alone: to draw 72 million weights takes seconds.
    with torch.device("meta"):
        return sum(p.numel() for p in NNUNet(**options).parameters())  # type: ignore[arg-type]


def _logits(net: NNUNet, image: Tensor) -> list[Tensor]:
    return net.decode(net.encode(image, []), (image.shape[-2], image.shape[-1]))


@pytest.mark.parametrize(("classes", "count"), [(1, 71_816_165), (2, 71_817_162)])
def test_the_number_of_parameters_is_nnunets_without_the_head_that_it_never_trains(classes: int, count: int) -> None:
    assert _count(num_classes=classes) == count - (512 + 1) * classes


@pytest.mark.parametrize(("stages", "millions"), [(6, 20.620), (7, 33.472), (8, 46.325)])
def test_the_plain_unet_has_nnunets_number_of_parameters(stages: int, millions: float) -> None:
    widths = [32, 64, 128, 256, 512, 512, 512, 512][:stages]
    count = _count(num_classes=2, encoder="plain", widths=widths, blocks=[2] * stages)
    assert (count + 2 * (512 + 1)) / 1e6 == pytest.approx(millions, abs=5e-4)


@pytest.mark.parametrize("encoder", ["residual", "plain"])
def test_every_stage_but_the_first_halves_the_size(encoder: Encoder) -> None:
    features = _small(encoder).encode(torch.rand(2, 3, 32, 16), [])
    assert [tuple(item.shape) for item in features] == [
        (2, width, 32 // 2**level, 16 // 2**level) for level, width in enumerate(WIDTHS)
    ]


def test_the_stride_is_that_of_the_deepest_stage() -> None:
    assert (_small().stride, NNUNet(num_classes=2, widths=[2] * 6).stride) == (8, 32)


def test_the_heads_are_at_every_size_but_the_two_coarsest() -> None:
    assert [level.shape[-2:] for level in _logits(_small(), torch.rand(2, 3, 32, 16))] == [(32, 16), (16, 8)]


def test_without_deep_supervision_there_is_one_head_and_every_weight_is_trained() -> None:
    net = _small(deep_supervision=False)
    logits = _logits(net, torch.rand(2, 3, 32, 16))
    logits[0].square().mean().backward()
    assert len(logits) == 1
    assert all(weight.grad is not None for weight in net.parameters())


@pytest.mark.parametrize("encoder", ["residual", "plain"])
@pytest.mark.parametrize("level", range(4))
def test_every_map_of_the_encoder_reaches_the_finest_logits(level: int, encoder: Encoder) -> None:
    net = _small(encoder).eval()
    features = net.encode(torch.rand(1, 3, 32, 32), [])
    without = [torch.zeros_like(item) if i == level else item for i, item in enumerate(features)]
    assert not torch.allclose(net.decode(features, (32, 32))[0], net.decode(without, (32, 32))[0], atol=1e-6)


def test_a_residual_block_begins_as_its_shortcut() -> None:
    net, x = _small(), torch.rand(1, 4, 8, 8)
    second = net.stages[1][1]
    assert torch.equal(second(x), F.leaky_relu(x, 0.01))


def test_the_shortcut_of_a_shrinking_block_averages_four_pixels() -> None:
    block = _ResidualBlock(1, 1, 2)
    nn.init.zeros_(block.norm.weight)
    x = torch.tensor([[1.0, 2.0], [3.0, 6.0]]).view(1, 1, 2, 2)
    assert block(x).item() == 3.0


def test_it_is_the_same_in_training_and_evaluation() -> None:
    net, image = _small(), torch.rand(2, 3, 32, 32)
    assert torch.equal(_logits(net, image)[0], _logits(net.eval(), image)[0])


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"encoder": "vgg"}, "encoder is 'vgg', expected residual or plain"),
        ({"widths": (4, 8), "blocks": (1, 1)}, "equally many, 3 or more"),
        ({"widths": (4, 8, 8, 8)}, "equally many, 3 or more"),
        ({"widths": (4, 8, 8), "blocks": (1, 0, 1)}, "blocks are .1, 0, 1., expected at least one in each stage"),
    ],
)
def test_stages_that_cannot_be_built_are_refused(options: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        _count(num_classes=2, **options)
