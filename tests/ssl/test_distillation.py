"""Patch-wise distillation: views, cached teacher tokens, loss and warnings."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from guidino_cli.pretrain_config import (
    CropSizes,
    DistillSettings,
    PretrainConfig,
    StageSettings,
    UnlabelledDataSettings,
)
from guidino_cli.ssl.distillation import Distillation, Teacher
from guidino_cli.ssl.networks import TokenEncoder
from guidino_cli.ssl.objective import PretrainProgress
from guidino_cli.ssl.student import StudentSize, init_student
from guidino_cli.ssl.teacher_features import TeacherFeatureTable
from guidino_cli.types import UnlabelledSample

PROGRESS = PretrainProgress(0, 100, 0)


class MeanColourTeacher(nn.Module):
    """Features are the mean colour of every 8 px patch, repeated four times; they flip with the image."""

    def __init__(self) -> None:
        super().__init__()
        self.images_seen = 0

    def forward(self, image: Tensor) -> Tensor:
        self.images_seen += len(image)
        return F.avg_pool2d(image, 8).repeat(1, 4, 1, 1)


def settings(*, gram: float = 0.0, flip: float = 0.5) -> PretrainConfig:
    return PretrainConfig(
        data=UnlabelledDataSettings(side=64, light="none", flip=flip),
        distill=DistillSettings(views=2, area=(0.5, 1.0), blur=0.0),
        stages=[StageSettings("one", 100, 1e-3, gram=gram, crops=[CropSizes(64, 32)])],
    )


def images(*, epoch: int = 0, count: int = 2) -> UnlabelledSample:
    pixels = torch.randint(0, 256, (count, 3, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    large = pixels.repeat_interleave(16, dim=2).repeat_interleave(16, dim=3)
    return UnlabelledSample(large, torch.ones(count), torch.arange(count), torch.full((count,), epoch))


def distillation(config: PretrainConfig, *, width: int = 16, teacher: nn.Module | None = None, table=None):  # type: ignore[no-untyped-def]
    encoder = TokenEncoder(init_student(StudentSize(width, 1, 2), seed=0), mean=(0.5,) * 3, std=(0.25,) * 3)
    return Distillation(
        encoder, Teacher(teacher or MeanColourTeacher(), channels=12, patch_size=8), config, table=table
    )


def in_table(place: Path):  # type: ignore[no-untyped-def]
    return lambda grid: TeacherFeatureTable(place, key={}, rows=4, tokens=grid * grid, channels=12)


def test_every_trainable_weight_gets_a_gradient() -> None:
    """Otherwise distributed training stops at the second step, waiting for a missing gradient."""
    objective = distillation(settings(gram=1.0))
    objective(objective.views(images(), progress=PROGRESS), progress=PROGRESS).terms["loss"].backward()
    learning = {name: weight.grad for name, weight in objective.named_parameters() if weight.requires_grad}
    assert learning
    assert [name for name, gradient in learning.items() if gradient is None] == []


@pytest.mark.parametrize("epoch", range(4))
def test_tokens_are_flipped_with_the_view(epoch: int) -> None:
    """Up to resampling differences of a crop at 64 px for the student and 32 px for the teacher."""
    batch = distillation(settings()).views(images(epoch=epoch), progress=PROGRESS)
    seen = F.avg_pool2d(batch.image, 16).flatten(2).transpose(1, 2)
    assert torch.allclose(batch.tokens[..., :3], seen, atol=0.06)


def test_without_flips_views_repeat_exactly() -> None:
    objective = distillation(settings(flip=0.0))
    first, between, later = (objective.views(images(epoch=epoch), progress=PROGRESS).image for epoch in (0, 1, 2))
    assert torch.equal(first, later)
    assert not torch.equal(first, between)


def test_with_a_table_the_teacher_computes_every_view_once(tmp_path: Path) -> None:
    teacher = MeanColourTeacher()
    objective = distillation(settings(), teacher=teacher, table=in_table(tmp_path))
    for epoch in range(6):
        objective.views(images(epoch=epoch), progress=PROGRESS)
    assert teacher.images_seen == 2 * 2


def test_cached_tokens_are_rounded_to_half_precision(tmp_path: Path) -> None:
    fresh_one = distillation(settings()).views(images(), progress=PROGRESS)
    remembered = distillation(settings(), table=in_table(tmp_path)).views(images(), progress=PROGRESS)
    assert torch.equal(remembered.tokens, fresh_one.tokens.half().float())
    assert torch.equal(remembered.image, fresh_one.image)


def test_the_loss_is_the_sum_of_its_terms() -> None:
    objective = distillation(settings(gram=2.0))
    output = objective(objective.views(images(), progress=PROGRESS), progress=PROGRESS)
    assert set(output.terms) == {"distance", "gram", "loss"}
    assert torch.isclose(output.terms["loss"], output.terms["distance"] + output.terms["gram"])


def test_the_centre_is_the_mean_token_of_the_batches_so_far() -> None:
    objective = distillation(settings(flip=0.0))
    batches = [objective.views(images(epoch=epoch), progress=PROGRESS) for epoch in (0, 1)]
    for batch in batches:
        objective(batch, progress=PROGRESS)
    expected = torch.stack([batch.tokens.mean(dim=(0, 1)) for batch in batches]).mean(dim=0)
    assert torch.allclose(objective.centre, expected, atol=1e-6)


def test_a_student_of_the_teachers_width_needs_no_projection() -> None:
    assert isinstance(distillation(settings(), width=12).project, nn.Identity)
    assert isinstance(distillation(settings(), width=16).project, nn.Linear)


def test_the_state_does_not_contain_the_teacher() -> None:
    objective = distillation(settings(), teacher=nn.Conv2d(3, 12, 8, stride=8))
    assert not any("teacher" in name for name in objective.own_state())
    assert {name.split(".")[0] for name, _ in objective.named_parameters()} == {"student", "project"}


def test_a_student_can_overfit_one_image() -> None:
    torch.manual_seed(0)
    objective = distillation(settings(gram=1.0, flip=0.0))
    batch = objective.views(images(count=1), progress=PROGRESS)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=3e-3)
    for _ in range(80):
        output = objective(batch, progress=PROGRESS)
        optimizer.zero_grad()
        output.terms["loss"].backward()
        optimizer.step()
    assert output.terms["loss"].item() < 0.05


def test_a_late_distance_near_one_is_warned_of() -> None:
    objective = distillation(settings())
    assert objective.warning({"distance": 0.97}, progress=PretrainProgress(10, 100, 0)) is None
    assert objective.warning({"distance": 0.50}, progress=PretrainProgress(30, 100, 0)) is None
    assert "0.97 after 30% of the steps" in str(
        objective.warning({"distance": 0.97}, progress=PretrainProgress(30, 100, 0))
    )
