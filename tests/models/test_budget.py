"""Networks are measured before they are built."""

import pytest
import torch
from torch import nn

from guidino_cli.models.budget import NetworkTooLargeError, build_without_memory


def test_a_module_without_memory_has_the_shapes_of_the_real_one() -> None:
    module = build_without_memory(lambda: nn.Conv2d(3, 5, 7))
    assert {name: tuple(value.shape) for name, value in module.named_parameters()} == {
        "weight": (5, 3, 7, 7),
        "bias": (5,),
    }
    assert module.weight.is_meta


def test_measuring_draws_no_random_numbers() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    build_without_memory(lambda: nn.Sequential(nn.Linear(3, 4), nn.Dropout()))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("limit", "fits"), [(3 * 4 + 4, True), (3 * 4 + 3, False)])
def test_the_bound_counts_every_weight(limit: int, fits: bool) -> None:
    if fits:
        build_without_memory(lambda: nn.Linear(3, 4), max_values=limit)
    else:
        with pytest.raises(NetworkTooLargeError, match="needs more than"):
            build_without_memory(lambda: nn.Linear(3, 4), max_values=limit)


def test_a_mistyped_depth_ends() -> None:
    with pytest.raises(NetworkTooLargeError, match="20,000 tensors"):
        build_without_memory(lambda: nn.Sequential(*(nn.Linear(1, 1) for _ in range(10**9))))
