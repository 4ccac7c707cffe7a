"""Small DINOv3 ViT/16 students for distillation: random, or initialised from blocks of a DINOv2 teacher."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DINOv3ViTConfig, DINOv3ViTModel

PATCH_SIZE = 16
# DINOv2 and DINOv3 in all sizes but those with a gated MLP.
_MLP_RATIO = 4


@dataclass(frozen=True)
class StudentSize:
    """Size of a student.

    Attributes:
        width: D of its tokens.
        depth: Number of blocks.
        heads: Attention heads per block.
    """

    width: int
    depth: int
    heads: int


def init_student(size: StudentSize, *, registers: int = 4, seed: int = 0) -> DINOv3ViTModel:
    """A student with random weights that depend on the seed alone; torch's global generator is left unchanged."""
    config = DINOv3ViTConfig(
        hidden_size=size.width,
        intermediate_size=_MLP_RATIO * size.width,
        num_hidden_layers=size.depth,
        num_attention_heads=size.heads,
        num_register_tokens=registers,
        patch_size=PATCH_SIZE,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return DINOv3ViTModel(config)


@torch.no_grad()
def init_student_from_blocks(
    teacher: Any, blocks: Sequence[int], *, registers: int = 4, seed: int = 0
) -> DINOv3ViTModel:
    """A student initialised from some blocks of its teacher, in their order.

    Where the architectures differ: the patch kernel is resampled such that an enlarged patch gives the same token
    (FlexiViT, Beyer et al. 2023, equation 5); the mean of the learned position embeddings moves into the patch bias,
    and rotary embeddings encode positions instead; the key bias cannot change a softmax and is dropped. Registers are
    random.

    Args:
        teacher: A `Dinov2Model`.
        blocks: Block numbers from 1, increasing.
        registers: See `init_student`.
        seed: Seed of the registers.

    Raises:
        ValueError: Another architecture or MLP width, no block, one that does not exist, or blocks out of order.
    """
    old = teacher.config
    if old.model_type != "dinov2" or getattr(old, "use_swiglu_ffn", False):
        raise ValueError(f"a student can copy blocks of a DINOv2, not of a {old.model_type}; leave out the blocks")
    if old.mlp_ratio != _MLP_RATIO:
        found = f"an MLP ratio of {old.mlp_ratio:g}, a student's have {_MLP_RATIO}"
        raise ValueError(f"the teacher's blocks have {found}; leave out the blocks")
    depth = len(teacher.encoder.layer)
    if not blocks or sorted(set(blocks)) != list(blocks) or blocks[0] < 1 or blocks[-1] > depth:
        raise ValueError(f"blocks are {list(blocks)}, expected increasing numbers within 1..{depth}")
    size = StudentSize(old.hidden_size, len(blocks), old.num_attention_heads)
    student = init_student(size, registers=registers, seed=seed)
    _copy_embeddings(student.embeddings, teacher.embeddings)
    for new, number in zip(student.model.layer, blocks, strict=True):
        new.load_state_dict(_rename_block(teacher.encoder.layer[number - 1].state_dict()))
    student.norm.load_state_dict(teacher.layernorm.state_dict())
    for norm in [student.norm, *(norm for block in student.model.layer for norm in (block.norm1, block.norm2))]:
        norm.eps = old.layer_norm_eps
    student.config.layer_norm_eps = old.layer_norm_eps
    return student


def _copy_embeddings(new: Any, old: Any) -> None:
    positions = old.position_embeddings[0]
    kernel = old.patch_embeddings.projection
    new.cls_token.copy_(old.cls_token + positions[:1])
    new.patch_embeddings.weight.copy_(resample_patch_embed(kernel.weight, PATCH_SIZE))
    new.patch_embeddings.bias.copy_(kernel.bias + positions[1:].mean(dim=0))


def resample_patch_embed(kernel: Tensor, side: int) -> Tensor:
    """A patch kernel (D, C, p, p) for patches of another side, such that an enlarged patch keeps its token.

    With R the matrix of bicubic enlargement, tokens agree if <R x, k'> = <x, k> for all x, hence k' = pinv(R^T) k;
    exact when side >= p, the least squares answer when it is smaller.
    """
    old = kernel.shape[-1]
    unit_images = torch.eye(old * old).view(old * old, 1, old, old)
    # Row i is the enlarged image whose pixel i alone is 1: this is R^T.
    transposed = F.interpolate(unit_images, size=(side, side), mode="bicubic", align_corners=False).flatten(1)
    flat = kernel.flatten(2).to(transposed.dtype)
    return (flat @ torch.linalg.pinv(transposed).T).view(*kernel.shape[:2], side, side)


def _rename_block(block: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a DINOv2 block under the names of a DINOv3 block."""
    return {
        name.replace("mlp.fc1", "mlp.up_proj").replace("mlp.fc2", "mlp.down_proj"): tensor
        for name, tensor in block.items()
        if name != "attention.k_proj.bias"
    }
