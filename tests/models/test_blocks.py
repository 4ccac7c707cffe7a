"""Blocks that several architectures share."""

import torch

from guidino_cli.models.blocks import InstanceNorm


def test_a_normalised_channel_has_mean_zero_and_variance_one_in_every_image() -> None:
    x = torch.tensor([1.0, 3.0]).expand(3, 2, 1, 2) * torch.tensor([1.0, 5.0, 9.0]).view(3, 1, 1, 1)
    y = InstanceNorm(2)(x)
    torch.testing.assert_close(y, torch.tensor([-1.0, 1.0]).expand(3, 2, 1, 2), atol=1e-4, rtol=0)


def test_a_single_cell_is_normalised_to_zero_and_keeps_its_gradients() -> None:
    norm, cell = InstanceNorm(2), torch.rand(3, 2, 1, 1, requires_grad=True)
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([0.5, -1.0]))
    y = norm(cell)
    y.sum().backward()
    assert torch.equal(y, torch.tensor([0.5, -1.0]).view(1, 2, 1, 1).expand(3, 2, 1, 1))
    assert cell.grad is not None
    assert norm.weight.grad is not None
