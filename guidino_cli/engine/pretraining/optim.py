"""AdamW with layer-wise learning rate decay, and the schedules of learning rate and weight decay."""

import re

from torch import nn
from torch.optim import AdamW, Optimizer

from guidino_cli.pretrain_config import OptimizationSettings, PretrainConfig
from guidino_cli.ssl.schedules import cosine_schedule, warmup_cosine_schedule

_BLOCK = re.compile(r"\.layers?\.(\d+)\.")


def make_adamw(objective: nn.Module, settings: OptimizationSettings) -> Optimizer:
    """AdamW over all trainable weights; blocks of the student nearer to the image have lower learning rates.

    Only kernels and matrices decay: norms, biases, LayerScale and tokens do not.

    Args:
        objective: Has the encoder as `student`; everything else, such as heads, has the full learning rate.
        settings: A block's factor is `layer_decay` to the power of the blocks above it, times `patch_lr` for patches.
    """
    named = [(name, item) for name, item in objective.named_parameters() if item.requires_grad]
    depth = 1 + max((_block_number(name) for name, _ in named), default=0)
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in named:
        decays = name.endswith(".weight") and parameter.ndim > 1
        groups.setdefault((_lr_factor(name, depth, settings), decays), []).append(parameter)
    options = [
        {"params": groups[key], "lr_factor": key[0], "decays": key[1], "weight_decay": 0.0} for key in sorted(groups)
    ]
    return AdamW(options, lr=1.0, betas=(0.9, settings.beta2), fused=True)


def apply_schedules(optimizer: Optimizer, config: PretrainConfig, *, step: int) -> dict[str, float]:
    """Set learning rate and weight decay for the step after `step` finished ones, and return both."""
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


def _block_number(name: str) -> int:
    """Number of the student's block that a weight belongs to, from 1; 0 for embeddings and other weights."""
    found = _BLOCK.search(name) if name.startswith("student.") else None
    return 0 if found is None else 1 + int(found.group(1))


def _lr_factor(name: str, depth: int, settings: OptimizationSettings) -> float:
    """1 for heads and the norm after the last block."""
    if not name.startswith("student."):
        return 1.0
    level = _block_number(name) or (0 if ".embeddings." in name else depth)
    factor = settings.layer_decay ** (depth - level)
    return factor * settings.patch_lr if ".patch_embeddings." in name else factor
