"""SegDINO's head."""

import pytest
import torch
from torch import Tensor

from guidino_cli.models.segmenters.segdino import SegDINO


def _maps(*, seed: int = 0, channels: int = 8) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(1, channels, 3, 4, generator=generator) for _ in range(4)]


def _small() -> SegDINO:
    torch.manual_seed(0)
    return SegDINO(num_classes=2, dense_channels=[8] * 4, projections=(3, 4, 5, 6), width=4).eval()


def _logits(head: SegDINO, dense: list[Tensor]) -> Tensor:
    return head.decode(head.encode(torch.zeros(1, 3, 48, 64), dense), (48, 64))[0]


@pytest.mark.parametrize(("channels", "count"), [(384, 2_475_937), (768, 3_028_897), (1024, 3_397_537)])
def test_the_number_of_parameters_beside_a_vit_is_that_of_the_authors_code(channels: int, count: int) -> None:
    head = SegDINO(num_classes=1, dense_channels=[channels] * 4)
    assert sum(p.numel() for p in head.parameters()) == count


def test_a_second_class_adds_one_row_to_the_head() -> None:
    counts = [sum(p.numel() for p in SegDINO(num_classes=k, dense_channels=[8] * 4).parameters()) for k in (1, 2)]
    assert counts[1] - counts[0] == 4 * 128 + 1


def test_the_shallowest_map_becomes_four_times_as_fine_and_the_others_stay() -> None:
    features = _small().encode(torch.zeros(1, 3, 48, 64), _maps())
    assert [tuple(item.shape) for item in features] == [(1, 4, 12, 16)] + [(1, 4, 3, 4)] * 3


def test_without_norm_or_activation_the_head_is_linear_in_the_maps() -> None:
    head = _small()
    a, b = _maps(seed=1), _maps(seed=2)
    nothing = _logits(head, [torch.zeros_like(item) for item in a])
    both = _logits(head, [2 * x - 3 * y for x, y in zip(a, b, strict=True)])
    with_a, with_b = _logits(head, a) - nothing, _logits(head, b) - nothing
    torch.testing.assert_close(both - nothing, 2 * with_a - 3 * with_b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("level", range(4))
def test_every_map_reaches_the_logits(level: int) -> None:
    head, maps = _small(), _maps()
    without = [torch.zeros_like(item) if i == level else item for i, item in enumerate(maps)]
    assert not torch.allclose(_logits(head, maps), _logits(head, without), atol=1e-6)


def test_the_image_is_not_read() -> None:
    head, maps = _small(), _maps()
    bright = head.decode(head.encode(torch.ones(1, 3, 48, 64), maps), (48, 64))[0]
    assert torch.equal(bright, _logits(head, maps))


def test_maps_that_are_constant_give_constant_logits_within_the_border_of_the_convolution() -> None:
    """The third path alone, all weights 1: 8 channels of 2, 9 cells of 5 hidden channels, 4 channels joined."""
    head = _small()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        for parameter in (head.project[2][0].weight, head.project[2][1].weight, head.head.weight):
            parameter.fill_(1)
        logits = _logits(head, [torch.full((1, 8, 9, 9), 2.0)] * 4)
    torch.testing.assert_close(logits[..., 20:28, 28:36], torch.full((1, 2, 8, 8), 8 * 2.0 * 5 * 9 * 4))


@pytest.mark.parametrize("count", [1, 3, 5])
def test_another_number_of_maps_is_refused_with_the_setting_to_change(count: int) -> None:
    with pytest.raises(ValueError, match=rf"reads 4 blocks of its backbone, found {count}; set .*layers=\[3,6,9,12\]"):
        SegDINO(num_classes=2, dense_channels=[8] * count)


def test_the_levels_of_a_convolutional_backbone_are_refused() -> None:
    with pytest.raises(ValueError, match=r"all of one width, found widths \[96, 192, 384, 768\]; use a ViT"):
        SegDINO(num_classes=2, dense_channels=[96, 192, 384, 768])


def test_projections_for_three_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="four widths"):
        SegDINO(num_classes=2, dense_channels=[8] * 4, projections=(1, 2, 3))
