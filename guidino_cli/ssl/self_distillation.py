"""DINOv3's objective: the student predicts the outputs of its own moving average from masked and local views."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.pretrain_config import PretrainConfig, StageSettings
from guidino_cli.ssl.losses import dino_loss, gram_loss, grouped_koleo_loss, ibot_loss, sinkhorn_knopp
from guidino_cli.ssl.networks import DINOHead, TokenEncoder, Tokens, ema_update, frozen_copy
from guidino_cli.ssl.objective import ObjectiveOutput, PretrainObjective, PretrainProgress
from guidino_cli.ssl.schedules import cosine_schedule, linear_schedule
from guidino_cli.ssl.views import MultiCropViews, make_views
from guidino_cli.types import UnlabelledSample

# Relative to ln K, and to the run: a loss this high this late has not begun to fall.
_PLATEAU, _LATE = 0.985, 0.15
# Fewer steps are no evidence, whatever their share of the run.
_MIN_STEPS = 100


class _Logits(NamedTuple):
    """Outputs of heads: (views, B, K) of class tokens, (M, K) of masked patches; targets are probabilities."""

    global_crops: Tensor
    local_crops: Tensor | None
    patches: Tensor
    targets: Tensor
    patch_targets: Tensor


class SelfDistillation(PretrainObjective):
    """DINO + iBOT + KoLeo, and a Gram term in the stages that have one (DINOv2; DINOv3; MedDINOv3, equations 1 to 3).

    Args:
        student: Initial student; teacher and Gram teacher begin as copies of it.
        config: Settings of the run.
    """

    def __init__(self, student: TokenEncoder, config: PretrainConfig) -> None:
        super().__init__()
        self._config = config
        settings = config.dino
        self.student = student
        self.head, self.patch_head = (
            DINOHead(
                student.channels,
                prototypes=count,
                hidden=settings.hidden,
                bottleneck=settings.bottleneck,
                last_std=settings.last_std,
            )
            for count in (settings.prototypes, settings.patch_prototypes)
        )
        self.teacher = frozen_copy(student)
        self.teacher_head, self.teacher_patch_head = frozen_copy(self.head), frozen_copy(self.patch_head)
        self.gram_teacher = frozen_copy(student) if any(stage.gram for stage in config.stages) else None

    def train(self, mode: bool = True) -> "SelfDistillation":
        """Set the mode of the student; teachers stay in evaluation mode."""
        super().train(mode)
        for module in (self.teacher, self.teacher_head, self.teacher_patch_head, self.gram_teacher):
            if module is not None:
                module.eval()
        return self

    def views(self, images: UnlabelledSample, *, progress: PretrainProgress) -> MultiCropViews:
        """Two global and several local crops of every image, and masks of the global ones."""
        return make_views(images, self._config, progress=progress, patch_size=self.student.patch_size)

    def forward(self, views: MultiCropViews, *, progress: PretrainProgress) -> ObjectiveOutput:
        """Weighted terms of the stage on a batch of views."""
        with torch.no_grad():
            teacher_tokens = self.teacher(views.global_crops)
            gram_patches = None if views.gram_crops is None else self._gram_patches(views.gram_crops)
        student_tokens = self.student(views.global_crops, views.mask)
        logits = self._logits(views, student_tokens, teacher_tokens, self.temperature(progress.step))
        with torch.autocast(views.global_crops.device.type, enabled=False):
            stage, _ = self._config.stage_at(progress.step)
            terms = self._terms(views, logits, student_tokens, gram_patches, stage=stage)
            entropies = _entropies(logits, self._config.dino.student_temperature)
        terms["loss"] = torch.stack(list(terms.values())).sum()
        features = student_tokens.cls.detach().float()
        return ObjectiveOutput(terms, entropies, features[: len(features) // 2])

    def before_step(self, *, progress: PretrainProgress) -> None:
        """Freeze the prototypes at the beginning, as DINO does."""
        if progress.step < self._config.dino.freeze_last:
            self.head.last.weight.grad = self.patch_head.last.weight.grad = None

    def after_step(self, *, progress: PretrainProgress) -> None:
        """Update the EMA teacher, and copy it to the Gram teacher at `dino.gram_step`."""
        stage, done = self._config.stage_at(progress.step - 1)
        end = stage.momentum if stage.final_momentum is None else stage.final_momentum
        momentum = cosine_schedule(done, steps=stage.steps, start=stage.momentum, end=end)
        ema_update(self.teacher, self.student, momentum=momentum)
        ema_update(self.teacher_head, self.head, momentum=momentum)
        ema_update(self.teacher_patch_head, self.patch_head, momentum=momentum)
        if self.gram_teacher is not None and progress.step == self._config.dino.gram_step:
            ema_update(self.gram_teacher, self.teacher, momentum=0.0)

    def exported_encoder(self) -> TokenEncoder:
        """The teacher: the average is better than the student (DINO, figure 6)."""
        return self.teacher

    def warning(self, metrics: dict[str, float], *, progress: PretrainProgress) -> str | None:
        """Warn of the plateau: student and targets are still uniform when a good part of the run is over."""
        settings = self._config.dino
        uniform = math.log(settings.prototypes)
        is_early = progress.fraction < _LATE or progress.step < max(_MIN_STEPS, 2 * settings.freeze_last)
        if not settings.dino or is_early or metrics["dino"] / settings.dino < _PLATEAU * uniform:
            return None
        return (
            f"the DINO term stays at ln K = {uniform:.2f} after {progress.fraction:.0%} of the steps (target entropy "
            f"{metrics['target_entropy']:.2f}): nothing is learned yet; see 'The plateau' in docs/pretrain.md"
        )

    def temperature(self, step: int) -> float:
        """Temperature of the teacher."""
        settings = self._config.dino
        return linear_schedule(
            step, steps=settings.temperature_steps, start=settings.temperature, end=settings.final_temperature
        )

    def _logits(self, views: MultiCropViews, student: Tokens, teacher: Tokens, temperature: float) -> _Logits:
        batch = len(views.global_crops) // 2
        with torch.no_grad():
            teacher_logits = self.teacher_head(teacher.cls).float()
            teacher_patches = self.teacher_patch_head(teacher.patches.flatten(0, 1)[views.masked_indices]).float()
        local_crops = None
        if views.local_crops is not None:
            local_crops = self.head(self.student(views.local_crops).cls).float().unflatten(0, (-1, batch))
        return _Logits(
            global_crops=self.head(student.cls).float().unflatten(0, (2, batch)),
            local_crops=local_crops,
            patches=self.patch_head(student.patches.flatten(0, 1)[views.masked_indices]).float(),
            targets=sinkhorn_knopp(teacher_logits, temperature=temperature).unflatten(0, (2, batch)),
            patch_targets=sinkhorn_knopp(teacher_patches, temperature=temperature),
        )

    def _terms(
        self,
        views: MultiCropViews,
        logits: _Logits,
        student: Tokens,
        gram_patches: Tensor | None,
        *,
        stage: StageSettings,
    ) -> dict[str, Tensor]:
        settings = self._config.dino
        ibot = ibot_loss(
            logits.patches,
            logits.patch_targets,
            weights=views.mask_weights,
            views=len(views.global_crops),
            temperature=settings.student_temperature,
        )
        terms = {"dino": settings.dino * self._dino(logits, stage.local_weight), "ibot": settings.ibot * ibot}
        if settings.koleo:
            halves = student.cls.float().chunk(2)
            koleo = torch.stack([grouped_koleo_loss(half, size=stage.koleo_group) for half in halves]).sum()
            terms["koleo"] = settings.koleo * koleo
        if gram_patches is not None:
            targets = resize_patches(gram_patches, count=student.patches.shape[1])
            terms["gram"] = views.gram_weight * gram_loss(student.patches.float(), targets)
        return terms

    def _dino(self, logits: _Logits, local_weight: float) -> Tensor:
        """DINO loss over global and local pairs, each with the same weight except for a factor of the local ones.

        Of global pairs there are two.
        """
        tau = self._config.dino.student_temperature
        global_loss = dino_loss(logits.global_crops, logits.targets, temperature=tau, same_views=True)
        if logits.local_crops is None:
            return global_loss
        count = len(logits.local_crops)
        local_loss = dino_loss(logits.local_crops, logits.targets, temperature=tau, same_views=False)
        return (global_loss + local_weight * count * local_loss) / (1 + count)

    def _gram_patches(self, crops: Tensor) -> Tensor:
        if self.gram_teacher is None:
            raise ValueError("crops for a Gram teacher, but no stage has one")
        patches: Tensor = self.gram_teacher(crops).patches
        return patches.float()


def resize_patches(patches: Tensor, *, count: int) -> Tensor:
    """Resize square maps of patch tokens (B, P, D) bicubically to `count` patches."""
    if patches.shape[1] == count:
        return patches
    old_side, new_side = math.isqrt(patches.shape[1]), math.isqrt(count)
    maps = patches.transpose(1, 2).unflatten(2, (old_side, old_side))
    resized = F.interpolate(maps, size=(new_side, new_side), mode="bicubic", align_corners=False)
    return resized.flatten(2).transpose(1, 2)


def _entropies(logits: _Logits, temperature: float) -> dict[str, Tensor]:
    """Mean entropies in nats: of targets, of the student's predictions, and of patch targets if any are masked."""
    student = torch.softmax(logits.global_crops.detach() / temperature, dim=-1)
    named = {"target_entropy": logits.targets, "student_entropy": student, "patch_entropy": logits.patch_targets}
    return {name: torch.special.entr(rows).sum(dim=-1).mean() for name, rows in named.items() if len(rows)}
