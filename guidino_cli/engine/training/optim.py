"""Parameter groups, optimizer and learning-rate schedule."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from guidino_cli.models.base import is_lora_parameter

_RATES = ("lr", "backbone_lr", "lora_lr")
"""Names of the learning rates in the history, in the order of the optimizer's groups."""


def make_optimizer(
    model: nn.Module,
    *,
    name: Literal["adamw", "sgd"],
    lr: float,
    weight_decay: float,
    adapter_lr: float | None = None,
    backbone_lr: float | None = None,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-8,
    fresh: Sequence[str] = (),
    device: torch.device | None = None,
) -> Optimizer:
    """Make an optimizer for every weight that requires a gradient; only kernels and matrices decay.

    Norms, biases, a ViT's tokens and layer scales, and the TokenBook's prototypes, votes and temperatures do not: decay
    would pull a vote to "undecided".

    Args:
        model: The names of its parameters tell those of an adapter and of a backbone.
        name: Kind of optimizer.
        lr: Learning rate, before the schedule.
        weight_decay: Of kernels and matrices, also of an adapter: there it pulls towards the original weights.
        adapter_lr: Learning rate of an adapter, before the schedule; None for `lr`.
        backbone_lr: Learning rate of a backbone that is trained as a whole, likewise.
        betas: Betas of AdamW.
        eps: Epsilon of AdamW.
        fresh: Parts of the backbone that are the run's own (`Backbone.adapter_names`); their learning rate is `lr`.
        device: Where the weights will be; None for a CPU.
    """
    groups: dict[tuple[int, bool], list[nn.Parameter]] = {}
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = key.endswith(".weight") and parameter.ndim > 1
            groups.setdefault((_RATES.index(_rate_of(key, fresh)), not decays), []).append(parameter)
    own_rates = {"lr": lr, "backbone_lr": backbone_lr, "lora_lr": adapter_lr}
    settings = [
        {
            "params": groups[part],
            "weight_decay": 0.0 if part[1] else weight_decay,
            "lr": own_rates[_RATES[part[0]]] or lr,
            "rate": _RATES[part[0]],
        }
        for part in sorted(groups)
    ]
    if name == "adamw":
        # Fused: one pass over each tensor. With a gradient scaler, other variants wait for the device.
        return AdamW(settings, lr=lr, betas=(betas[0], betas[1]), eps=eps, fused=True)
    # nnU-Net's momentum.
    fused = True if device is not None and device.type == "cuda" else None
    return SGD(settings, lr=lr, momentum=0.99, nesterov=True, fused=fused)


def current_learning_rates(optimizer: Optimizer) -> dict[str, float]:
    """Current learning rates: "lr" of the heads (0 if they are frozen), then that of a trained backbone or an adapter.

    "backbone_lr" belongs to a backbone that is trained as a whole, "lora_lr" to an adapter.
    """
    rates = {str(group["rate"]): float(group["lr"]) for group in optimizer.param_groups}
    return {"lr": 0.0} | {name: rates[name] for name in _RATES if name in rates}


def _rate_of(parameter: str, fresh: Sequence[str]) -> str:
    """Name in `_RATES` of a parameter's learning rate; see `make_optimizer`."""
    if is_lora_parameter(parameter):
        return "lora_lr"
    if parameter.startswith(tuple(f"backbone.{part}." for part in fresh)):
        return "lr"
    return "backbone_lr" if parameter.startswith("backbone.") else "lr"


def make_scheduler(
    optimizer: Optimizer,
    *,
    name: Literal["poly", "cosine", "constant"],
    steps: int,
    warmup_steps: int,
    poly_power: float = 0.9,
    final_lr: float = 0.0,
) -> LambdaLR:
    """Learning rate per optimizer step: linear warm-up, then poly (1 - t)^power, a half cosine, or constant.

    nnU-Net's power is 0.9. Poly and cosine fall from each group's rate to `final_lr`, at most the lowest of them.
    """

    def from_one_to(last: float) -> Callable[[int], float]:
        def factor(step: int) -> float:
            if step < warmup_steps:
                return (step + 1) / warmup_steps
            t = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
            if name == "constant":
                return 1.0
            fall = (1 - t) ** poly_power if name == "poly" else 0.5 * (1 + math.cos(math.pi * t))
            return last + (1 - last) * fall

        return factor

    return LambdaLR(optimizer, [from_one_to(final_lr / group["lr"]) for group in optimizer.param_groups])
