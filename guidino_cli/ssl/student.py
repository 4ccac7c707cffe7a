"""A small DINOv3 ViT/16 to distil into: fresh, or made of blocks of a larger network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DINOv3ViTConfig, DINOv3ViTModel

PATCH_SIZE = 16
# Of DINOv2 and DINOv3, all sizes but those with another kind of perceptron.
_MLP_RATIO = 4


@dataclass(frozen=True)
class StudentSize:
    """Size of a student.

    Attributes:
        width: D of its tokens.
        depth: Blocks.
        heads: Of every attention.
    """

    width: int
    depth: int
    heads: int


def init_student(shape: StudentSize, *, registers: int = 4, seed: int = 0) -> DINOv3ViTModel:
    """A student with random weights, the same for the same seed; torch's own generator is left as it was."""
    config = DINOv3ViTConfig(
        hidden_size=shape.width,
        intermediate_size=_MLP_RATIO * shape.width,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
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
    """A student that begins as some blocks of its teacher, one behind the other.

    What the architectures do not share is carried over as far as it can be: the patch kernel is resampled such that a
    patch enlarged with the image gives the same token (FlexiViT, Beyer et al. 2023, equation 5); of the learned
    position codes the mean stays, in the patches' bias, and rotations tell positions instead; a bias of the keys cannot
    change a softmax and is dropped. Registers are fresh.

    Args:
        teacher: A `Dinov2Model`.
        blocks: Numbers counted from 1, rising.
        registers: See `fresh`.
        seed: Of the registers.

    Raises:
        ValueError: Another architecture or inner width, no block, one that does not exist, or blocks that do not rise.
    """
    old = teacher.config
    if old.model_type != "dinov2" or getattr(old, "use_swiglu_ffn", False):
        raise ValueError(f"blocks of a DINOv2 can be taken over, not of a {old.model_type}; leave out the blocks")
    if old.mlp_ratio != _MLP_RATIO:
        found = f"perceptrons of {old.mlp_ratio:g} times their width, a student's have {_MLP_RATIO}"
        raise ValueError(f"the teacher's blocks have {found}; leave out the blocks")
    depth = len(teacher.encoder.layer)
    if not blocks or sorted(set(blocks)) != list(blocks) or blocks[0] < 1 or blocks[-1] > depth:
        raise ValueError(f"blocks are {list(blocks)}, expected rising numbers within 1..{depth}")
    shape = StudentSize(old.hidden_size, len(blocks), old.num_attention_heads)
    student = init_student(shape, registers=registers, seed=seed)
    _take_embeddings(student.embeddings, teacher.embeddings)
    for new, number in zip(student.model.layer, blocks, strict=True):
        new.load_state_dict(_renamed(teacher.encoder.layer[number - 1].state_dict()))
    student.norm.load_state_dict(teacher.layernorm.state_dict())
    for norm in [student.norm, *(norm for block in student.model.layer for norm in (block.norm1, block.norm2))]:
        norm.eps = old.layer_norm_eps
    student.config.layer_norm_eps = old.layer_norm_eps
    return student


def _take_embeddings(new: Any, old: Any) -> None:
    positions = old.position_embeddings[0]
    kernel = old.patch_embeddings.projection
    new.cls_token.copy_(old.cls_token + positions[:1])
    new.patch_embeddings.weight.copy_(resample_patch_embed(kernel.weight, PATCH_SIZE))
    new.patch_embeddings.bias.copy_(kernel.bias + positions[1:].mean(dim=0))


def resample_patch_embed(kernel: Tensor, side: int) -> Tensor:
    """A patch kernel (D, C, p, p) for patches of another side such that enlarging a patch leaves its token as it was.

    With R the matrix of bicubic enlargement, tokens agree if <R x, k'> = <x, k> for all x, hence k' = pinv(R^T) k;
    exact when side >= p, the least squares answer when it is smaller.
    """
    old = kernel.shape[-1]
    pictures = torch.eye(old * old).view(old * old, 1, old, old)
    # Row i is what becomes of the picture whose pixel i alone is 1: this is R^T.
    transposed = F.interpolate(pictures, size=(side, side), mode="bicubic", align_corners=False).flatten(1)
    flat = kernel.flatten(2).to(transposed.dtype)
    return (flat @ torch.linalg.pinv(transposed).T).view(*kernel.shape[:2], side, side)


def _renamed(block: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a DINOv2 block as a DINOv3 block calls them."""
    return {
        name.replace("mlp.fc1", "mlp.up_proj").replace("mlp.fc2", "mlp.down_proj"): tensor
        for name, tensor in block.items()
        if name != "attention.k_proj.bias"
    }
