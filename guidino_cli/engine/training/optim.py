"""Parameter groups, optimiser and learning-rate schedule."""

import math
from typing import Literal

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from guidino_cli.models.base import is_adapter


def make_optimizer(
    model: nn.Module, *, name: Literal["adamw", "sgd"], lr: float, weight_decay: float, adapter_lr: float | None = None
) -> Optimizer:
    """Optimise every weight that wants a gradient; only kernels and matrices decay.

    Norms, biases and the TokenBook's prototypes, votes and temperatures do not: decay would pull a vote to "undecided".

    Args:
        model: Its parameters' names tell which are an adapter's.
        name: Kind of optimiser.
        lr: Learning rate, before the schedule.
        weight_decay: Of kernels and matrices, an adapter's among them: it pulls towards the weights as they were.
        adapter_lr: Learning rate of an adapter, before the schedule; None for `lr`.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = key.endswith(".weight") and parameter.ndim > 1
            groups.setdefault((is_adapter(key), not decays), []).append(parameter)
    settings = [
        {
            "params": groups[part],
            "weight_decay": 0.0 if part[1] else weight_decay,
            "lr": adapter_lr if part[0] and adapter_lr is not None else lr,
            "is_adapter": part[0],
        }
        for part in sorted(groups)
    ]
    if name == "adamw":
        # One pass over each tensor. With a gradient scaler, the other forms wait for the device to hear of infinities.
        return AdamW(settings, lr=lr, fused=True)
    # nnU-Net's momentum.
    return SGD(settings, lr=lr, momentum=0.99, nesterov=True)


def current_rates(optimizer: Optimizer) -> dict[str, float]:
    """Learning rates of the moment: "lr" of the heads (0 where they are frozen), "lora_lr" of an adapter if any."""
    rates = {bool(group["is_adapter"]): float(group["lr"]) for group in optimizer.param_groups}
    return {"lr": rates.get(False, 0.0)} | ({"lora_lr": rates[True]} if True in rates else {})


def make_schedule(
    optimizer: Optimizer, *, name: Literal["poly", "cosine", "constant"], steps: int, warmup_steps: int
) -> LambdaLR:
    """Learning rate per optimiser step: linear warm-up, then nnU-Net's poly (1 - t)^0.9, a half cosine, or constant."""

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        t = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
        return {"poly": (1 - t) ** 0.9, "cosine": 0.5 * (1 + math.cos(math.pi * t)), "constant": 1.0}[name]

    return LambdaLR(optimizer, factor)
