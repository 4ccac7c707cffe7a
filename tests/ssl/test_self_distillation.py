"""Self-distillation: initial terms, gradients, masks, teachers and warnings."""

import math
from collections.abc import Callable

import pytest
import torch
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from guidino_cli.pretrain_config import PretrainConfig, override_pretrain_config
from guidino_cli.ssl.networks import TokenEncoder
from guidino_cli.ssl.objective import PretrainProgress
from guidino_cli.ssl.self_distillation import SelfDistillation, resize_patches
from guidino_cli.types import UnlabelledSample

_SMALL = [
    "dino.prototypes=32", "dino.patch_prototypes=16", "dino.hidden=16", "dino.bottleneck=8", "dino.local_count=2",
    "dino.freeze_last=0", "dino.temperature_steps=0",
    "stages=[{name: one, steps: 10, lr: 1e-2, momentum: 0.5, crops: [{global_size: 64, local_size: 32}]}]",
]  # fmt: skip

Make = Callable[..., tuple[SelfDistillation, PretrainConfig]]


@pytest.fixture
def make() -> Make:
    """An objective around a tiny DINOv3, with settings changed."""

    def build(*overrides: str) -> tuple[SelfDistillation, PretrainConfig]:
        config = override_pretrain_config(override_pretrain_config(PretrainConfig(), _SMALL), overrides)
        torch.manual_seed(0)
        vit = DINOv3ViTConfig(
            hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, layerscale_value=1.0
        )
        encoder = TokenEncoder(DINOv3ViTModel(vit), mean=(0.5,) * 3, std=(0.2,) * 3)
        return SelfDistillation(encoder, config), config

    return build


def _images(count: int = 4, side: int = 80) -> UnlabelledSample:
    pixels = torch.randint(
        0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    return UnlabelledSample(pixels, torch.ones(count), torch.arange(count), torch.zeros(count, dtype=torch.long))


def _progress(step: int = 0) -> PretrainProgress:
    return PretrainProgress(step, 10, seed=3)


def test_initial_terms_are_near_those_of_a_uniform_student_and_sum_to_the_loss(make: Make) -> None:
    objective, _ = make()
    terms, statistics, features = objective(objective.views(_images(), progress=_progress()), progress=_progress())
    assert float(terms["dino"]) == pytest.approx(math.log(32), abs=0.1)
    assert float(terms["ibot"]) == pytest.approx(math.log(16) / 2, abs=0.1)
    assert float(terms["loss"]) == pytest.approx(
        sum(float(terms[name]) for name in ("dino", "ibot", "koleo")), rel=1e-5
    )
    assert float(statistics["target_entropy"]) < math.log(32)
    assert features.shape == (4, 32)


def test_a_stage_may_weigh_its_local_views_less(make: Make) -> None:
    """Two local views: the terms are (G + 2 w L) / 3, and G alone without local views."""

    def dino(*overrides: str) -> float:
        objective, _ = make(*overrides)
        objective.eval()
        with torch.no_grad():
            return float(
                objective(objective.views(_images(), progress=_progress()), progress=_progress()).terms["dino"]
            )

    alone, half, whole = dino("dino.local_count=0"), dino("stages.0.local_weight=0.5"), dino()
    assert dino("stages.0.local_weight=0") == pytest.approx(alone / 3, rel=1e-5)
    assert half == pytest.approx((alone / 3 + whole) / 2, rel=1e-5)


def test_a_stage_may_have_its_own_share_of_flips(make: Make) -> None:
    crops = {}
    for name, overrides in {
        "never": ("data.flip=0",),
        "not here": ("stages.0.flip=0",),
        "always": ("stages.0.flip=1",),
    }.items():
        crops[name] = make(*overrides)[0].views(_images(), progress=_progress()).global_crops
    assert torch.equal(crops["never"], crops["not here"])
    assert not torch.equal(crops["never"], crops["always"])


def test_all_weights_but_the_teachers_get_gradients(make: Make) -> None:
    objective, _ = make()
    objective(objective.views(_images(), progress=_progress()), progress=_progress()).terms["loss"].backward()
    without = [name for name, item in objective.named_parameters() if item.requires_grad and item.grad is None]
    assert without == []
    assert all(not item.requires_grad for name, item in objective.named_parameters() if "teacher" in name)


def test_teachers_stay_in_evaluation_mode(make: Make) -> None:
    objective, _ = make()
    objective.train()
    assert objective.student.training
    assert not objective.teacher.training


def test_masked_pixels_do_not_change_the_students_output(make: Make) -> None:
    objective, _ = make()
    views = objective.views(_images(), progress=_progress())
    hidden = views.mask.view(8, 1, 4, 4).repeat_interleave(16, 2).repeat_interleave(16, 3)
    objective.eval()
    with torch.no_grad():
        seen = objective.student(views.global_crops, views.mask)
        changed = objective.student(torch.where(hidden, 0.9 * torch.rand(1), views.global_crops), views.mask)
    torch.testing.assert_close(seen.cls, changed.cls)


def test_mask_weights_sum_to_one_per_masked_view(make: Make) -> None:
    objective, _ = make()
    views = objective.views(_images(), progress=_progress())
    assert len(views.masked_indices) == int(views.mask.sum())
    assert bool(views.mask.flatten()[views.masked_indices].all())
    assert float(views.mask_weights.sum()) == pytest.approx(int(views.mask.any(dim=1).sum()))
    assert int(views.mask.any(dim=1).sum()) == 4


def test_views_depend_on_epoch_and_image_and_not_on_the_batch(make: Make) -> None:
    objective, _ = make()
    images = _images()
    both = objective.views(images, progress=_progress())
    last = objective.views(UnlabelledSample(*(item[2:] for item in images)), progress=_progress(7))
    torch.testing.assert_close(both.global_crops.view(2, 4, 3, 64, 64)[:, 2:], last.global_crops.view(2, 2, 3, 64, 64))
    other = objective.views(images._replace(epoch=images.epoch + 1), progress=_progress())
    assert not torch.equal(both.global_crops, other.global_crops)


def test_the_teacher_is_updated_with_the_momentum_of_the_stage(make: Make) -> None:
    objective, _ = make()
    with torch.no_grad():
        objective.head.last.weight.add_(1.0)
    before = objective.teacher_head.last.weight.clone()
    objective.after_step(progress=_progress(1))
    torch.testing.assert_close(objective.teacher_head.last.weight, before + 0.5)


def test_prototypes_are_frozen_in_the_first_steps(make: Make) -> None:
    objective, _ = make("dino.freeze_last=2")
    for step, frozen in ((1, True), (2, False)):
        objective(objective.views(_images(), progress=_progress(step)), progress=_progress(step)).terms[
            "loss"
        ].backward()
        objective.before_step(progress=_progress(step))
        assert (objective.head.last.weight.grad is None) is frozen


def test_the_gram_teacher_sees_larger_views(make: Make) -> None:
    objective, _ = make("stages.0.gram=2", "dino.gram_step=0", "stages.0.crops.0.gram_size=128")
    views = objective.views(_images(), progress=_progress())
    assert views.gram_crops.shape == (8, 3, 128, 128)
    terms = objective(views, progress=_progress()).terms
    assert float(terms["gram"]) > 0
    assert make()[0].gram_teacher is None


def test_the_gram_term_is_zero_for_equal_networks_and_views(make: Make) -> None:
    objective, _ = make("stages.0.gram=2", "dino.masked=0", "dino.ibot=0", "data.light=none")
    objective.eval()
    views = objective.views(_images(), progress=_progress())
    same = views._replace(gram_crops=views.global_crops)
    assert float(objective(same, progress=_progress()).terms["gram"]) == pytest.approx(0, abs=1e-9)


def test_the_gram_teacher_is_copied_once_at_its_step(make: Make) -> None:
    stages = "[{name: one, steps: 5, lr: 1e-2, momentum: 0.5}, {name: two, steps: 5, lr: 1e-2, gram: 2}]"
    objective, _ = make(f"stages={stages}", "dino.gram_step=3")
    assert objective.gram_teacher is not None
    first = {}
    for step in range(1, 6):
        with torch.no_grad():
            objective.student.network.norm.weight.add_(1.0)
        objective.after_step(progress=_progress(step))
        first[step] = objective.gram_teacher.network.norm.weight.clone()
        if step == 3:
            torch.testing.assert_close(first[3], objective.teacher.network.norm.weight)
    assert torch.equal(first[1], torch.ones(32))
    assert torch.equal(first[3], first[5])


def test_patches_are_resized_to_the_students_grid() -> None:
    patches = torch.arange(16.0).view(1, 16, 1).expand(2, 16, 3)
    assert resize_patches(patches, count=4).shape == (2, 4, 3)
    torch.testing.assert_close(resize_patches(patches, count=4).mean(), patches.mean())


def test_a_student_can_overfit_one_batch(make: Make) -> None:
    objective, _ = make("dino.koleo=0", "dino.last_std=0.1", "stages.0.momentum=1.0")
    views = objective.views(_images(), progress=_progress())
    objective.student.eval()
    optimizer = torch.optim.AdamW([item for item in objective.parameters() if item.requires_grad], lr=3e-3)
    first = last = None
    for _ in range(25):
        output = objective(views, progress=_progress())
        first, last = first or float(output.terms["dino"]), float(output.terms["dino"])
        output.terms["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    # The entropy of the targets is a lower bound.
    assert last - float(output.statistics["target_entropy"]) < 0.3 * (
        first - float(output.statistics["target_entropy"])
    )


def test_a_late_plateau_is_warned_of(make: Make) -> None:
    objective, _ = make("dino.freeze_last=0")
    statistics = {"dino": math.log(32), "target_entropy": 3.4}
    early, late, short = PretrainProgress(100, 1000, 0), PretrainProgress(200, 1000, 0), PretrainProgress(20, 40, 0)
    assert objective.warning(statistics, progress=early) is None
    assert objective.warning(statistics, progress=short) is None
    assert "ln K" in str(objective.warning(statistics, progress=late))
    assert objective.warning({**statistics, "dino": 3.0}, progress=late) is None
