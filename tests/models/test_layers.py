"""Layers that several networks share."""

import pytest
import torch

from guidino_cli.models.blocks import InstanceNorm
from guidino_cli.models.layers import CellNorm, ChannelNorm, DropPath


def test_drop_path_does_nothing_in_evaluation() -> None:
    x = torch.randn(5, 2)
    assert torch.equal(DropPath(0.9).eval()(x), x)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_outside_zero_to_one_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="drop_path"):
        DropPath(share)


def test_a_branch_is_left_out_for_whole_samples_and_kept_ones_grow() -> None:
    torch.manual_seed(0)
    out = DropPath(0.25).train()(torch.ones(4000, 3, 2))
    assert torch.equal(out, out[:, :1, :1].expand_as(out))
    assert sorted(set(out.flatten().tolist())) == pytest.approx([0, 4 / 3])
    # Four standard deviations of the share of 4000 draws.
    assert (out[:, 0, 0] == 0).float().mean() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 4000) ** 0.5)


@pytest.mark.parametrize("norm", [CellNorm(2, affine=True), InstanceNorm(2)], ids=["cell", "instance"])
def test_a_single_cell_is_normalised_to_the_bias(norm: CellNorm) -> None:
    cell = torch.rand(3, 2, 1, 1, requires_grad=True)
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([0.5, -1.0]))
    y = norm(cell)
    y.sum().backward()
    assert torch.equal(y, torch.tensor([0.5, -1.0]).view(1, 2, 1, 1).expand(3, 2, 1, 1))
    assert cell.grad is not None
    assert norm.weight.grad is not None


def test_a_single_cell_without_weights_is_normalised_to_zero() -> None:
    assert torch.equal(CellNorm(2)(torch.rand(3, 2, 1, 1)), torch.zeros(3, 2, 1, 1))


def test_a_norm_over_channels_is_that_of_each_cell() -> None:
    x = torch.rand(2, 8, 3, 5) * 4 + 1
    out = ChannelNorm(8, eps=1e-6)(x)
    torch.testing.assert_close(out.mean(dim=1), torch.zeros(2, 3, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(dim=1, correction=0), torch.ones(2, 3, 5), atol=1e-4, rtol=0)
