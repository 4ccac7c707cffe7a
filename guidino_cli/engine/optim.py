"""Parameter groups, optimiser and learning-rate schedule."""

import math
from typing import Literal

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR


def make_optimizer(model: nn.Module, *, name: Literal["adamw", "sgd"], lr: float, weight_decay: float) -> Optimizer:
    """Optimise every weight that wants a gradient; only kernels and matrices decay.

    Norms, biases and the TokenBook's prototypes, votes and temperatures do not: decay would pull a vote to "undecided".
    """
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    decays = [name.endswith(".weight") and parameter.ndim > 1 for name, parameter in trainable]
    groups = [
        {
            "params": [parameter for (_, parameter), decay in zip(trainable, decays, strict=True) if decay is wanted],
            "weight_decay": weight_decay if wanted else 0.0,
        }
        for wanted in (True, False)
    ]
    if name == "adamw":
        return AdamW(groups, lr=lr)
    # nnU-Net's momentum.
    return SGD(groups, lr=lr, momentum=0.99, nesterov=True)


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
