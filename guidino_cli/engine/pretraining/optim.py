"""Which weights of a student learn how fast, and how that changes over the run."""

import re

from torch import nn
from torch.optim import AdamW, Optimizer

from guidino_cli.pretrain_config import OptimizationSettings, PretrainConfig
from guidino_cli.ssl.schedules import cosine_schedule, warmup_cosine_schedule

_BLOCK = re.compile(r"\.layers?\.(\d+)\.")


def make_adamw(objective: nn.Module, settings: OptimizationSettings) -> Optimizer:
    """Every weight that wants a gradient; a student's blocks learn the slower the nearer they are to the image.

    Only kernels and matrices decay: norms, biases, LayerScale and tokens do not.

    Args:
        objective: Has the student's trunk as `student`; all else, such as heads, learns at the full rate.
        settings: `layer_decay` to the power of the blocks above is a block's factor, times `patch_lr` for patches.
    """
    named = [(name, item) for name, item in objective.named_parameters() if item.requires_grad]
    depth = 1 + max((_block(name) for name, _ in named), default=0)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        decays = name.endswith(".weight") and parameter.ndim > 1
        groups.setdefault((_factor(name, depth, settings), decays), []).append(parameter)
    options = [
        {"params": groups[key], "lr_factor": key[0], "decays": key[1], "weight_decay": 0.0} for key in sorted(groups)
    ]
    return AdamW(options, lr=1.0, betas=(0.9, settings.beta2), fused=True)


def apply_schedules(optimizer: Optimizer, config: PretrainConfig, *, step: int) -> dict[str, float]:
    """Set learning rate and weight decay for the step behind `step` finished ones, and say them."""
    stage, done = config.stage_at(step)
    rate = warmup_cosine_schedule(
        done, steps=stage.steps, peak=stage.lr, final=stage.final_lr, warmup=stage.warmup_steps
    )
    decay, final = config.train.weight_decay, config.train.final_weight_decay
    if final is not None:
        decay = cosine_schedule(step, steps=config.steps, start=decay, end=final)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_factor"]
        group["weight_decay"] = decay if group["decays"] else 0.0
    return {"lr": rate, "weight_decay": decay}


def _block(name: str) -> int:
    """Number of the block that a weight of the student belongs to, from 1; 0 below the first and elsewhere."""
    found = _BLOCK.search(name) if name.startswith("student.") else None
    return 0 if found is None else 1 + int(found.group(1))


def _factor(name: str, depth: int, settings: OptimizationSettings) -> float:
    """1 for heads and the norm behind the last block."""
    if not name.startswith("student."):
        return 1.0
    level = _block(name) or (0 if ".embeddings." in name else depth)
    factor = settings.layer_decay ** (depth - level)
    return factor * settings.patch_lr if ".patch_embeddings." in name else factor
