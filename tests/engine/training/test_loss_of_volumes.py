"""The training loss of volumes: targets of the guide slice by slice, masks of coarser levels."""

import pytest
import torch

from guidino_cli.data.cases import IGNORED
from guidino_cli.engine.training.loss import SegmentationLoss, guide_target, guide_target_of_counted
from guidino_cli.types import Prediction


def test_the_guide_target_keeps_the_slices_and_averages_within_them() -> None:
    """Slice 0 is empty, slice 1 has one voxel of four in its first cell, slice 2 is full."""
    mask = torch.zeros(1, 3, 2, 4).long()
    mask[0, 1, 0, 1], mask[0, 2] = 1, 1
    target = guide_target(mask, torch.empty(1, 1, 3, 1, 2))
    assert target.tolist() == [[[[[0, 0]], [[0.25, 0]], [[1, 1]]]]]


def test_several_guide_maps_of_a_volume_cover_one_class_each() -> None:
    mask = torch.tensor([[1, 1], [2, 0]]).view(1, 2, 1, 2)
    target = guide_target(mask, torch.empty(1, 2, 2, 1, 1))
    assert target.flatten().tolist() == [1, 0, 0, 0.5]


def test_voxels_that_do_not_count_leave_the_target_of_their_cell_to_the_others() -> None:
    mask = torch.tensor([[1, IGNORED], [IGNORED, IGNORED]]).view(1, 2, 1, 2)
    target, share = guide_target_of_counted(mask, torch.empty(1, 1, 2, 1, 1))
    assert share.flatten().tolist() == [0.5, 0]
    assert target.flatten().tolist() == [1, 0]


def test_the_mask_of_a_coarser_level_is_its_middle_voxels_along_every_axis() -> None:
    """Logits at (1, 1/3, 1/3) of the volume that are sure of the centres of its cells cost next to nothing."""
    mask = torch.zeros(1, 2, 6, 6).long()
    mask[0, 1, 1, 4] = 1
    fine = torch.stack([1.0 - mask, mask.float()], dim=1) * 100
    coarse = torch.zeros(1, 2, 2, 2, 2)
    coarse[:, 0] = 100
    coarse[0, :, 1, 0, 1] = torch.tensor([0.0, 100])
    terms = SegmentationLoss({"dice": 1, "cross_entropy": 1}, has_guide=False)(Prediction([fine, coarse]), mask)
    assert terms["loss"].item() == pytest.approx(0, abs=1e-4)
    # Sure of another cell, the coarser level costs its third of the weights.
    terms = SegmentationLoss({"dice": 1}, has_guide=False)(Prediction([fine, coarse.flip(-1)]), mask)
    assert terms["loss"].item() == pytest.approx(1 / 3, abs=1e-4)


def test_a_level_as_wide_as_the_volume_but_of_fewer_slices_has_a_mask_of_its_own() -> None:
    mask = torch.tensor([0, 0, 0, 1, 1, 1]).view(1, 6, 1, 1).expand(1, 6, 2, 2)
    coarse = torch.tensor([[1.0, 0], [0, 1]]).view(1, 2, 2, 1, 1).expand(1, 2, 2, 2, 2) * 100
    fine = torch.stack([mask == 0, mask == 1], dim=1).float() * 100
    terms = SegmentationLoss({"cross_entropy": 1}, has_guide=False)(Prediction([fine, coarse]), mask)
    assert terms["loss"].item() == pytest.approx(0, abs=1e-6)


def test_a_volume_with_guide_class_weights_and_ignored_voxels_has_a_finite_gradient() -> None:
    logits = torch.randn(1, 3, 4, 8, 8, requires_grad=True)
    guide = torch.rand(1, 2, 4, 2, 2, requires_grad=True)
    mask = torch.randint(3, (1, 4, 8, 8))
    mask[0, 0] = IGNORED
    loss = SegmentationLoss(
        {"dice": 1, "cross_entropy": 1, "guide": 0.1},
        has_guide=True,
        class_weights=[1.0, 2, 3],
        has_ignored=True,
    )
    loss(Prediction([logits], guide), mask)["loss"].backward()
    assert logits.grad is not None
    assert guide.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert not logits.grad[:, :, 0].any()
    assert not guide.grad[:, :, 0].any()
    assert guide.grad[:, :, 1:].any()
