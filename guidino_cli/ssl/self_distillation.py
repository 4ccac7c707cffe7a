"""DINOv3's objective: a student that sees parts of an image says what its own moving average says of the rest."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.pretrain_config import PretrainConfig
from guidino_cli.ssl.losses import dino_loss, gram_loss, grouped_koleo_loss, ibot_loss, sinkhorn_knopp
from guidino_cli.ssl.networks import DINOHead, TokenEncoder, Tokens, ema_update, frozen_copy
from guidino_cli.ssl.objective import ObjectiveOutput, PretrainObjective, PretrainProgress
from guidino_cli.ssl.schedules import cosine_schedule, linear_schedule
from guidino_cli.ssl.views import MultiCropViews, make_views
from guidino_cli.types import UnlabelledSample

# Of ln K, and of the run: a loss that high so late has not begun to fall.
_PLATEAU, _LATE = 0.985, 0.15
# Fewer steps tell nothing, whatever their share of the run.
_EARLY_STEPS = 100


class _Scores(NamedTuple):
    """What student and teacher say: (views, B, K) of class tokens, (M, K) of masked patches."""

    whole: Tensor
    parts: Tensor | None
    patches: Tensor
    targets: Tensor
    patch_targets: Tensor


class SelfDistillation(PretrainObjective):
    """DINO + iBOT + KoLeo, and a Gram term in the stages that have one (DINOv2; DINOv3; MedDINOv3, equations 1 to 3).

    Args:
        student: Where the run begins; the teacher begins as its copy, and so does the Gram teacher.
        config: Of the run.
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
        for part in (self.teacher, self.teacher_head, self.teacher_patch_head, self.gram_teacher):
            if part is not None:
                part.eval()
        return self

    def views(self, images: UnlabelledSample, *, at: PretrainProgress) -> MultiCropViews:
        """Two global and some local crops of every image, and what is masked of the global ones."""
        return make_views(images, self._config, at=at, patch=self.student.patch)

    def forward(self, views: MultiCropViews, *, at: PretrainProgress) -> ObjectiveOutput:
        """The stage's terms on a batch of views."""
        temperature, tau = self.temperature(at.step), self._config.dino.student_temperature
        with torch.no_grad():
            taught = self.teacher(views.whole)
        seen = self.student(views.whole, views.mask)
        scores = self._scores(views, seen, taught, temperature)
        with torch.autocast(views.whole.device.type, enabled=False):
            terms = self._terms(views, scores, seen, group=self._config.stage_at(at.step)[0].koleo_group)
            figures = _figures(scores, tau)
        terms["loss"] = torch.stack(list(terms.values())).sum()
        return ObjectiveOutput(terms, figures, seen.cls.detach().float()[: len(seen.cls) // 2])

    def before_step(self, *, at: PretrainProgress) -> None:
        """Freeze the prototypes at the beginning, as DINO does."""
        if at.step < self._config.dino.freeze_last:
            self.head.last.weight.grad = self.patch_head.last.weight.grad = None

    def after_step(self, *, at: PretrainProgress) -> None:
        """Move the teacher, and take the Gram teacher at its step."""
        stage, done = self._config.stage_at(at.step - 1)
        end = stage.momentum if stage.final_momentum is None else stage.final_momentum
        momentum = cosine_schedule(done, steps=stage.steps, start=stage.momentum, end=end)
        ema_update(self.teacher, self.student, momentum=momentum)
        ema_update(self.teacher_head, self.head, momentum=momentum)
        ema_update(self.teacher_patch_head, self.patch_head, momentum=momentum)
        if self.gram_teacher is not None and at.step == self._config.dino.gram_step:
            ema_update(self.gram_teacher, self.teacher, momentum=0.0)

    def result(self) -> torch.nn.Module:
        """The teacher's network: the average is better than the student (DINO, figure 6)."""
        network: torch.nn.Module = self.teacher.network
        return network

    def warning(self, figures: dict[str, float], *, at: PretrainProgress) -> str | None:
        """The plateau: student and targets tell nothing yet when a good part of the run is over."""
        settings = self._config.dino
        flat = math.log(settings.prototypes)
        is_early = at.share < _LATE or at.step < max(_EARLY_STEPS, 2 * settings.freeze_last)
        if not settings.dino or is_early or figures["dino"] / settings.dino < _PLATEAU * flat:
            return None
        return (
            f"the DINO term stays at ln K = {flat:.2f} after {at.share:.0%} of the steps (target entropy "
            f"{figures['target_entropy']:.2f}): nothing is learned yet; docs/pretrain.md, 'The plateau', has the cures"
        )

    def temperature(self, step: int) -> float:
        """Of the teacher."""
        settings = self._config.dino
        return linear_schedule(
            step, steps=settings.temperature_steps, start=settings.temperature, end=settings.final_temperature
        )

    def _scores(self, views: MultiCropViews, seen: Tokens, taught: Tokens, temperature: float) -> _Scores:
        batch = len(views.whole) // 2
        with torch.no_grad():
            whole = self.teacher_head(taught.cls).float()
            patches = self.teacher_patch_head(taught.patches.flatten(0, 1)[views.masked]).float()
        parts = None
        if views.parts is not None:
            parts = self.head(self.student(views.parts).cls).float().unflatten(0, (-1, batch))
        return _Scores(
            whole=self.head(seen.cls).float().unflatten(0, (2, batch)),
            parts=parts,
            patches=self.patch_head(seen.patches.flatten(0, 1)[views.masked]).float(),
            targets=sinkhorn_knopp(whole, temperature=temperature).unflatten(0, (2, batch)),
            patch_targets=sinkhorn_knopp(patches, temperature=temperature),
        )

    def _terms(self, views: MultiCropViews, scores: _Scores, seen: Tokens, *, group: int | None) -> dict[str, Tensor]:
        settings = self._config.dino
        tau = settings.student_temperature
        patches = ibot_loss(
            scores.patches,
            scores.patch_targets,
            weights=views.mask_weights,
            views=len(views.whole),
            temperature=tau,
        )
        terms = {"dino": settings.dino * self._dino(scores), "ibot": settings.ibot * patches}
        if settings.koleo:
            halves = seen.cls.float().chunk(2)
            terms["koleo"] = (
                settings.koleo * torch.stack([grouped_koleo_loss(half, size=group) for half in halves]).sum()
            )
        if views.gram is not None:
            terms["gram"] = views.gram_weight * self._gram(views.gram, seen)
        return terms

    def _dino(self, scores: _Scores) -> Tensor:
        """Global and local pairs together, each pair with the same weight, of which global ones have two."""
        tau = self._config.dino.student_temperature
        between = dino_loss(scores.whole, scores.targets, temperature=tau, same_views=True)
        if scores.parts is None:
            return between
        count = len(scores.parts)
        within = dino_loss(scores.parts, scores.targets, temperature=tau, same_views=False)
        return (between + count * within) / (1 + count)

    def _gram(self, views: Tensor, seen: Tokens) -> Tensor:
        if self.gram_teacher is None:
            raise ValueError("views for a Gram teacher, but no stage has one")
        with torch.no_grad():
            patches = self.gram_teacher(views).patches.float()
        return gram_loss(seen.patches.float(), resize_patches(patches, count=seen.patches.shape[1]))


def resize_patches(patches: Tensor, *, count: int) -> Tensor:
    """Square maps of patches (B, P, D) brought to `count` patches, bicubically."""
    if patches.shape[1] == count:
        return patches
    side, wanted = math.isqrt(patches.shape[1]), math.isqrt(count)
    maps = patches.transpose(1, 2).unflatten(2, (side, side))
    return F.interpolate(maps, size=(wanted, wanted), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)


def _figures(scores: _Scores, tau: float) -> dict[str, Tensor]:
    """Entropies in nats: of targets, of what the student says, and of the targets of patches where some are masked."""
    said = torch.softmax(scores.whole.detach() / tau, dim=-1)
    named = {"target_entropy": scores.targets, "student_entropy": said, "patch_entropy": scores.patch_targets}
    return {name: torch.special.entr(shares).sum(dim=-1).mean() for name, shares in named.items() if len(shares)}
