"""Parameter groups and the learning rate over time."""

import math

import pytest
import torch
from torch import nn

from guidino_cli.engine.training.optim import current_learning_rates, make_optimizer, make_scheduler


def _rates(name: str, *, steps: int, warmup_steps: int = 0, poly_power: float = 0.9) -> list[float]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = make_scheduler(
        optimizer, name=name, steps=steps, warmup_steps=warmup_steps, poly_power=poly_power,  # type: ignore[arg-type]
    )  # fmt: skip
    rates = []
    for _ in range(steps + 1):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return rates


def test_poly_falls_from_the_full_rate_to_zero() -> None:
    rates = _rates("poly", steps=10)
    assert rates[0] == 2.0
    assert rates[5] == pytest.approx(2 * 0.5**0.9)
    assert rates[10] == 0


def test_poly_with_a_power_of_one_is_a_straight_line() -> None:
    assert _rates("poly", steps=4, poly_power=1.0) == pytest.approx([2.0, 1.5, 1.0, 0.5, 0.0])


def test_cosine_is_at_a_half_half_way() -> None:
    rates = _rates("cosine", steps=10)
    assert (rates[0], rates[5]) == (2.0, pytest.approx(1.0))
    assert rates[10] == pytest.approx(0)
    assert rates[2] == pytest.approx(1 + math.cos(math.pi / 5))


def test_constant_stays() -> None:
    assert set(_rates("constant", steps=3)) == {2.0}


def test_warm_up_rises_in_equal_steps_and_then_the_schedule_begins() -> None:
    assert _rates("poly", steps=8, warmup_steps=4)[:5] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])


@pytest.mark.parametrize(("name", "half"), [("poly", 0.4 + 1.6 * 0.5**0.9), ("cosine", 1.2)])
def test_poly_and_cosine_end_at_the_final_rate(name: str, half: float) -> None:
    """From 2.0 to 0.4, so 1.6 below the start."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "lr": 0.8})
    schedule = make_scheduler(optimizer, name=name, steps=10, warmup_steps=0, final_lr=0.4)  # type: ignore[arg-type]
    rates = []
    for _ in range(11):
        rates.append(schedule.get_last_lr())
        optimizer.step()
        schedule.step()
    assert rates[0] == [2.0, 0.8]
    assert rates[5][0] == pytest.approx(half)
    assert rates[10] == pytest.approx([0.4, 0.4])


def test_a_schedule_that_is_all_warm_up_does_not_divide_by_zero() -> None:
    assert _rates("poly", steps=2, warmup_steps=2)[:2] == [1.0, 2.0]


def test_norms_and_biases_have_no_weight_decay() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    decayed, free = make_optimizer(model, name="adamw", lr=1e-3, weight_decay=0.1).param_groups
    assert [p.shape for p in decayed["params"]] == [(4, 3, 3, 3)]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert len(free["params"]) == 3


def test_frozen_weights_are_not_optimized() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    optimizer = make_optimizer(model, name="sgd", lr=1e-3, weight_decay=0)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def _adapted() -> nn.ModuleDict:
    """A head, a frozen backbone, and an adapter of it under PEFT's names."""
    layer = nn.ModuleDict({"lora_A": nn.Linear(4, 2, bias=False), "lora_B": nn.Linear(2, 4, bias=False)})
    return nn.ModuleDict({"head": nn.Linear(4, 2), "backbone": nn.Linear(4, 4).requires_grad_(False), "q_proj": layer})


def test_an_adapter_has_its_own_learning_rate_and_both_follow_the_schedule() -> None:
    optimizer = make_optimizer(_adapted(), name="adamw", lr=1e-4, weight_decay=0.1, adapter_lr=5e-4)
    schedule = make_scheduler(optimizer, name="constant", steps=4, warmup_steps=4)
    assert current_learning_rates(optimizer) == {"lr": pytest.approx(0.25e-4), "lora_lr": pytest.approx(1.25e-4)}
    optimizer.step()
    schedule.step()
    assert current_learning_rates(optimizer) == {"lr": pytest.approx(0.5e-4), "lora_lr": pytest.approx(2.5e-4)}
    assert _sizes(optimizer) == {"lr": 4 * 2 + 2, "lora_lr": 4 * 2 + 2 * 4}


def _sizes(optimizer: torch.optim.Optimizer) -> dict[str, int]:
    """How many weights have which learning rate."""
    sizes = {group["rate"]: 0 for group in optimizer.param_groups}
    for group in optimizer.param_groups:
        sizes[group["rate"]] += sum(parameter.numel() for parameter in group["params"])
    return sizes


@pytest.mark.parametrize(("own", "expected"), [(2e-5, 2e-5), (None, 1e-3)])
def test_a_trained_backbone_has_its_own_learning_rate_or_that_of_the_heads(own: float | None, expected: float) -> None:
    model = nn.ModuleDict({"backbone": nn.Linear(4, 4), "head": nn.Linear(4, 2)})
    optimizer = make_optimizer(model, name="sgd", lr=1e-3, weight_decay=0.1, backbone_lr=own)
    assert current_learning_rates(optimizer) == {"lr": 1e-3, "backbone_lr": expected}
    assert _sizes(optimizer) == {"lr": 4 * 2 + 2, "backbone_lr": 4 * 4 + 4}


def test_adapters_of_a_backbone_have_the_learning_rate_of_the_heads() -> None:
    backbone = nn.ModuleDict({"adapters": nn.Linear(4, 3), "hiera": nn.Linear(4, 4).requires_grad_(False)})
    model = nn.ModuleDict({"backbone": backbone, "head": nn.Linear(4, 2)})
    optimizer = make_optimizer(model, name="adamw", lr=1e-3, weight_decay=0.1, fresh=("adapters",))
    assert current_learning_rates(optimizer) == {"lr": 1e-3}
    assert _sizes(optimizer) == {"lr": (4 * 3 + 3) + (4 * 2 + 2)}


def test_only_matrices_of_a_trained_vit_decay() -> None:
    """Not its tokens, biases, norms and layer scales."""
    from guidino_cli.models.backbones.dino import random_dino

    backbone = random_dino(hidden_size=32, depth=1, heads=2)
    backbone.unfreeze()
    optimizer = make_optimizer(nn.ModuleDict({"backbone": backbone}), name="adamw", lr=1e-3, weight_decay=0.1)
    decayed = [tuple(p.shape) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]]
    # The patch embedding, four projections of attention, two of the MLP.
    assert sorted(decayed) == sorted([(32, 3, 16, 16), *[(32, 32)] * 4, (128, 32), (32, 128)])


def test_betas_are_passed_to_adamw() -> None:
    optimizer = make_optimizer(nn.Linear(2, 2), name="adamw", lr=1e-3, weight_decay=0, betas=[0.9, 0.98])
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, 0.98)}


def test_epsilon_is_passed_to_adamw() -> None:
    optimizer = make_optimizer(nn.Linear(2, 2), name="adamw", lr=1e-3, weight_decay=0, eps=1e-5)
    assert {group["eps"] for group in optimizer.param_groups} == {1e-5}


def test_frozen_heads_have_the_learning_rate_zero() -> None:
    model = _adapted()
    model["head"].requires_grad_(False)
    optimizer = make_optimizer(model, name="adamw", lr=1e-4, weight_decay=0.1, adapter_lr=5e-4)
    assert current_learning_rates(optimizer) == {"lr": 0.0, "lora_lr": 5e-4}


def test_without_an_adapter_there_is_one_learning_rate() -> None:
    assert current_learning_rates(make_optimizer(nn.Linear(2, 2), name="sgd", lr=1e-3, weight_decay=0)) == {"lr": 1e-3}


def test_sgd_has_nnunets_momentum_with_nesterov() -> None:
    optimizer = make_optimizer(nn.Linear(2, 2), name="sgd", lr=1e-3, weight_decay=0)
    assert {(group["momentum"], group["nesterov"]) for group in optimizer.param_groups} == {(0.99, True)}
