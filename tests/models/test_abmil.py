"""Gated attention over a bag: the equation by hand, its gradient, and the order of instances."""

import numpy as np
import pytest
import torch

from guidino_cli.models.abmil import GatedAttentionMIL


def _network() -> GatedAttentionMIL:
    torch.manual_seed(0)
    return GatedAttentionMIL(5, 2, width=4, attention=3).double()


def test_attention_and_logits_are_those_of_the_equation() -> None:
    network, bag = _network(), torch.randn(6, 5, dtype=torch.float64)
    logits, attention = network(bag)
    numbers = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    h = bag.numpy() @ numbers["embed.weight"].T + numbers["embed.bias"]
    gate = 1 / (1 + np.exp(-(h @ numbers["gate_branch.weight"].T)))
    score = (np.tanh(h @ numbers["tanh_branch.weight"].T) * gate) @ numbers["score.weight"][0]
    expected = np.exp(score) / np.exp(score).sum()
    np.testing.assert_allclose(attention.detach().numpy(), expected, atol=1e-12)
    z = expected @ h
    np.testing.assert_allclose(logits.detach().numpy(), numbers["head.weight"] @ z + numbers["head.bias"], atol=1e-12)


def test_the_gradient_is_that_of_finite_differences() -> None:
    network, bag = _network(), torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda instances: network(instances)[0], (bag,))


def test_the_order_of_instances_changes_nothing() -> None:
    network, bag = _network().float(), torch.randn(50, 5)
    order = torch.randperm(50)
    logits, attention = network(bag)
    other, turned = network(bag[order])
    torch.testing.assert_close(other, logits, atol=1e-6, rtol=0)
    torch.testing.assert_close(turned, attention[order], atol=1e-6, rtol=0)


def test_a_bag_of_one_has_attention_one() -> None:
    _, attention = _network()(torch.randn(1, 5, dtype=torch.float64))
    assert attention.tolist() == [1.0]


def test_weights_of_a_small_vit_are_as_many_as_its_sizes_say() -> None:
    network = GatedAttentionMIL(384, 2)
    expected = 384 * 256 + 256 + 2 * 256 * 128 + 128 + 256 * 2 + 2
    assert sum(item.numel() for item in network.parameters()) == expected == pytest.approx(0.165e6, rel=0.01)
