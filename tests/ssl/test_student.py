"""Distillation students: random, and initialised from blocks of a DINOv2."""

import pytest
import torch
import torch.nn.functional as F
from transformers import Dinov2Config, Dinov2Model

from guidino_cli.ssl.student import StudentSize, init_student, init_student_from_blocks, resample_patch_embed


@pytest.fixture(scope="module")
def teacher() -> Dinov2Model:
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, patch_size=14, image_size=28)
    model = Dinov2Model(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return model


def test_a_student_of_vit_tinys_size_has_its_parameter_count() -> None:
    """12 blocks of 12 D^2 + 13 D without the keys' bias, LayerScales 2 D; kernel, five prefix tokens, mask, norm."""
    d = 192
    blocks = 12 * (12 * d * d + 12 * d + 2 * d)
    rest = 3 * 16 * 16 * d + d + 6 * d + 2 * d
    assert sum(p.numel() for p in init_student(StudentSize(192, 12, 3)).parameters()) == blocks + rest


def test_a_seed_determines_the_student_and_keeps_the_global_generator() -> None:
    before = torch.get_rng_state()
    first, second = (init_student(StudentSize(32, 1, 2), seed=7).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_resampled_kernel_gives_an_enlarged_patch_the_same_token() -> None:
    kernel, patch = torch.randn(5, 3, 14, 14), torch.randn(1, 3, 14, 14)
    enlarged = F.interpolate(patch, size=(16, 16), mode="bicubic", align_corners=False)
    assert torch.allclose(F.conv2d(enlarged, resample_patch_embed(kernel, 16)), F.conv2d(patch, kernel), atol=1e-3)


def test_a_copied_block_equals_the_teachers_without_rotation(teacher: Dinov2Model) -> None:
    student = init_student_from_blocks(teacher, [2]).eval()
    tokens = torch.randn(1, 6, 32)
    unturned = torch.ones(1, 16), torch.zeros(1, 16)
    with torch.inference_mode():
        ours = student.model.layer[0](tokens, position_embeddings=unturned)
        theirs = teacher.encoder.layer[1](tokens)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_embeddings_equal_the_teachers_up_to_position_codes(teacher: Dinov2Model) -> None:
    """Whose codes differ from place to place; their mean over the four places is kept."""
    small = torch.rand(1, 3, 28, 28)
    large = torch.cat(
        [
            torch.cat([F.interpolate(cell, size=(16, 16), mode="bicubic") for cell in row.split(14, dim=3)], dim=3)
            for row in small.split(14, dim=2)
        ],
        dim=2,
    )
    with torch.inference_mode():
        ours = init_student_from_blocks(teacher, [1]).embeddings(large)
        theirs = teacher.embeddings(small)
    assert torch.allclose(ours[:, 0], theirs[:, 0], atol=1e-5)
    assert torch.allclose(ours[:, 5:].mean(dim=1), theirs[:, 1:].mean(dim=1), atol=1e-3)


@pytest.mark.parametrize("blocks", [[], [0], [4], [2, 1], [1, 1]])
def test_invalid_blocks_are_refused(teacher: Dinov2Model, blocks: list[int]) -> None:
    with pytest.raises(ValueError, match=r"expected increasing numbers within 1\.\.3"):
        init_student_from_blocks(teacher, blocks)


def test_another_architecture_is_refused() -> None:
    with pytest.raises(ValueError, match="not of a dinov3_vit"):
        init_student_from_blocks(init_student(StudentSize(32, 1, 2)), [1])
