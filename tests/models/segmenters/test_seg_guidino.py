"""Seg-GuiDINO's head."""

import pytest
import torch
from torch import Tensor

from guidino_cli.models.guides import TokenBook
from guidino_cli.models.segmenters.seg_guidino import SegGuiDINO

SIZE = (32, 48)


def _small(*, dropout: float = 0.0) -> SegGuiDINO:
    torch.manual_seed(0)
    return SegGuiDINO(num_classes=2, dense_channels=[4, 8], width=32, dropout=dropout)


def _hidden(head: SegGuiDINO, *, seed: int = 0) -> Tensor:
    deepest = torch.randn(2, 8, 2, 3, generator=torch.Generator().manual_seed(seed))
    return head.encode(torch.zeros(2, 3, *SIZE), [torch.zeros(2, 4, 2, 3), deepest])[0]


@pytest.mark.parametrize(("channels", "count"), [(384, 1_721_985), (768, 3_147_777), (1024, 4_262_145)])
def test_with_a_tokenbook_of_256_the_number_of_parameters_is_that_of_the_papers_code(channels: int, count: int) -> None:
    head = SegGuiDINO(num_classes=1, dense_channels=[channels])
    guide = TokenBook(channels=channels, prototypes=256)
    assert sum(p.numel() for part in (head, guide) for p in part.parameters()) == count


def test_a_second_class_adds_one_row_to_the_head() -> None:
    counts = [sum(p.numel() for p in SegGuiDINO(num_classes=k, dense_channels=[8]).parameters()) for k in (1, 2)]
    assert counts[1] - counts[0] == 256 + 1


def test_the_guide_gates_one_map_of_the_backbones_grid() -> None:
    head = _small()
    features = head.encode(torch.zeros(1, 3, *SIZE), [torch.zeros(1, 4, 2, 3), torch.zeros(1, 8, 2, 3)])
    assert [tuple(item.shape) for item in features] == [(1, 32, 2, 3)]


def test_behind_a_closed_gate_nothing_of_the_image_is_left() -> None:
    head = _small().eval()
    logits = [head.decode([0 * _hidden(head, seed=seed)], SIZE)[0] for seed in (1, 2)]
    assert torch.equal(*logits)


def test_behind_an_open_gate_the_image_shows() -> None:
    head = _small().eval()
    logits = [head.decode([_hidden(head, seed=seed)], SIZE)[0] for seed in (1, 2)]
    assert not torch.allclose(*logits)


def test_only_the_deepest_map_is_read() -> None:
    head, deepest = _small(), torch.randn(1, 8, 2, 3)
    shallow = [head.encode(torch.zeros(1, 3, *SIZE), [fill, deepest])[0] for fill in torch.randn(2, 1, 4, 2, 3)]
    assert torch.equal(*shallow)


def test_dropout_acts_in_training_only() -> None:
    head = _small(dropout=0.5)
    hidden = _hidden(head)
    assert not torch.equal(head.decode([hidden], SIZE)[0], head.decode([hidden], SIZE)[0])
    head.eval()
    assert torch.equal(head.decode([hidden], SIZE)[0], head.decode([hidden], SIZE)[0])


def test_the_logits_have_the_size_of_the_image_and_no_deep_supervision() -> None:
    head = _small()
    assert [tuple(level.shape) for level in head.decode([_hidden(head)], SIZE)] == [(2, 2, *SIZE)]


@pytest.mark.parametrize("width", [0, 100, -32])
def test_a_width_that_32_groups_cannot_share_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"width is {width}, expected a multiple of 32"):
        SegGuiDINO(num_classes=2, dense_channels=[8], width=width)
