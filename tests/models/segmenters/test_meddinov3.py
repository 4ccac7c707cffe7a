"""MedDINOv3's decoder."""

import pytest
import torch
from torch import Tensor, nn

from guidino_cli.models.segmenters.meddinov3 import MedDINOv3


def _maps(*, levels: int = 2, channels: int = 64, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, channels, 3, 4, generator=generator) for _ in range(levels)]


def _small(levels: int = 2) -> MedDINOv3:
    torch.manual_seed(0)
    return MedDINOv3(num_classes=3, dense_channels=[64] * levels).eval()


def _logits(head: MedDINOv3, dense: list[Tensor], size: tuple[int, int] = (48, 64)) -> Tensor:
    return head.decode(head.encode(torch.zeros(1, 3, *size), dense), size)[0]


@pytest.mark.parametrize(
    ("channels", "levels", "count"),
    [
        (384, 4, 6_272_752),
        (768, 4, 25_079_248),
        (1024, 4, 44_580_112),
        # The ablation without multi-scale features.
        (384, 1, 393_160),
        (768, 1, 1_569_664),
        (1024, 1, 2_789_200),
    ],
)
def test_the_number_of_parameters_beside_a_vit_is_the_authors(channels: int, levels: int, count: int) -> None:
    with torch.device("meta"):
        head = MedDINOv3(num_classes=16, dense_channels=[channels] * levels)
    assert sum(p.numel() for p in head.parameters()) == count


def test_channels_halve_where_sides_double() -> None:
    with torch.device("meta"):
        head = MedDINOv3(num_classes=16, dense_channels=[768] * 4)
    grown = [module for module in head.modules() if isinstance(module, nn.ConvTranspose2d)]
    assert [(item.in_channels, item.out_channels) for item in grown] == [
        (3072, 1536), (1536, 768), (768, 384), (384, 192),
    ]  # fmt: skip


def test_a_token_of_16_pixels_decides_these_pixels_and_no_others() -> None:
    """Every step looks at single cells, so that nothing but the ViT carries anything across patches."""
    head, maps = _small(), _maps()
    changed = [item.clone() for item in maps]
    changed[1][..., 1, 2] += 1
    differs = (_logits(head, maps) != _logits(head, changed)).any(dim=1)[0]
    expected = torch.zeros(48, 64, dtype=torch.bool)
    expected[16:32, 32:48] = True
    assert torch.equal(differs, expected)


@pytest.mark.parametrize("level", range(4))
def test_every_block_reaches_the_logits(level: int) -> None:
    head, maps = _small(4), _maps(levels=4)
    without = [torch.zeros_like(item) if i == level else item for i, item in enumerate(maps)]
    assert not torch.allclose(_logits(head, maps), _logits(head, without), atol=1e-6)


def test_the_image_is_not_read() -> None:
    head, maps = _small(), _maps()
    bright = head.decode(head.encode(torch.ones(1, 3, 48, 64), maps), (48, 64))[0]
    assert torch.equal(bright, _logits(head, maps))


def test_weights_begin_as_he_says_for_a_slope_of_a_hundredth_and_biases_at_zero() -> None:
    """The variance is 2 / ((1 + slope^2) fan); torch counts a transposed kernel's fan over its outputs."""
    torch.manual_seed(0)
    head = MedDINOv3(num_classes=2, dense_channels=[256])
    first = head.upsample[0][0]
    assert first.weight.var().item() == pytest.approx(2 / (1.0001 * 128 * 2 * 2), rel=0.03)
    grown = [module for module in head.modules() if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)]
    assert not any(module.bias.any() for module in grown)


def test_sides_that_are_no_multiple_of_a_cell_are_covered() -> None:
    assert _logits(_small(), _maps(), (41, 50)).shape == (1, 3, 41, 50)


def test_the_levels_of_a_convolutional_backbone_are_refused() -> None:
    with pytest.raises(ValueError, match=r"all of one width, found widths \[96, 192\]; use a ViT"):
        MedDINOv3(num_classes=2, dense_channels=[96, 192])


def test_widths_that_cannot_be_halved_four_times_are_refused() -> None:
    with pytest.raises(ValueError, match="40 channels together, expected a multiple of 16"):
        MedDINOv3(num_classes=2, dense_channels=[20, 20])
