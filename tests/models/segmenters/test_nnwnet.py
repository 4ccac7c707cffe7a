"""nnWNet, the network that GuiDINO-W guides."""

import torch

from guidino_cli.models.segmenters.nnwnet import NNWNet


def test_the_number_of_parameters_is_that_of_the_papers_code() -> None:
    assert sum(p.numel() for p in NNWNet(num_classes=1).parameters()) == 7_043_541


def test_twice_the_width_has_the_number_of_parameters_that_was_measured() -> None:
    count = sum(p.numel() for p in NNWNet(num_classes=1, width=32).parameters())
    assert round(count / 1e6, 3) == 28.135


def test_the_five_heads_are_at_halved_sizes() -> None:
    net = NNWNet(num_classes=2, width=2)
    logits = net.decode(net.encode(torch.rand(2, 3, 64, 32), []), (64, 32))
    assert [tuple(level.shape[-2:]) for level in logits] == [(64 // 2**i, 32 // 2**i) for i in range(5)]


def test_the_coarsest_head_sees_the_second_descent_and_not_the_second_ascent() -> None:
    net = NNWNet(num_classes=2, width=2)
    net.decode(net.encode(torch.rand(2, 3, 32, 32), []), (32, 32))[4].sum().backward()
    assert all(weight.grad is None for weight in net.lift.parameters())
    assert all(weight.grad is not None for weight in net.sink.parameters())


def test_the_global_bridge_mixes_a_pixel_with_its_neighbours_by_pooling() -> None:
    net = NNWNet(num_classes=2, width=2)
    bridge = net.bridge_a[0]
    assert (bridge.pool.kernel_size, bridge.pool.count_include_pad) == (3, False)
    # The mean of ones is one at the border too, so pooling minus identity vanishes there.
    assert torch.equal(bridge.pool(torch.ones(1, 1, 5, 5)), torch.ones(1, 1, 5, 5))
