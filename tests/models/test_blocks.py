"""Blocks that several architectures share."""

import torch

from guidino_cli.models.blocks import InstanceNorm


def test_a_normalised_channel_has_mean_zero_and_variance_one_in_every_image() -> None:
    x = torch.tensor([1.0, 3.0]).expand(3, 2, 1, 2) * torch.tensor([1.0, 5.0, 9.0]).view(3, 1, 1, 1)
    y = InstanceNorm(2)(x)
    torch.testing.assert_close(y, torch.tensor([-1.0, 1.0]).expand(3, 2, 1, 2), atol=1e-4, rtol=0)
