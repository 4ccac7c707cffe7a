"""Patch-wise distillation: a small student learns the patch tokens of a large frozen teacher."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from guidino_cli.device_transfer import to_device
from guidino_cli.distributed import all_reduce_sum, world_size
from guidino_cli.pretrain_config import DistillSettings, PretrainConfig
from guidino_cli.ssl.crops import CropDistribution, CropParams, apply_crops, draw_crop
from guidino_cli.ssl.losses import cosine_distance, gram_loss
from guidino_cli.ssl.networks import TokenEncoder
from guidino_cli.ssl.objective import ObjectiveOutput, PretrainObjective, PretrainProgress
from guidino_cli.ssl.teacher_features import TeacherFeatureTable
from guidino_cli.ssl.views import draw_crop_sizes
from guidino_cli.types import UnlabelledSample

# A distance this large this late in the run means that nothing is learned.
_FAR, _LATE = 0.95, 0.2
# Last word of seeds, above all view indices; `views` has 1000 and 1001.
_FLIP_SEED = 1002
# The centre is the plain mean of so many batches, then a moving average.
_CENTRE_BATCHES = 100

OpenFeatureTable = Callable[[int], TeacherFeatureTable]
"""Opens the table of all images x views, in this order, at a grid of so many patches a side."""


@dataclass(frozen=True)
class Teacher:
    """A frozen network.

    Attributes:
        network: Images (B, 3, H, W) in [0, 1] to a dense map (B, D, h, w).
        channels: D.
        patch_size: Pixels per patch.
    """

    network: nn.Module
    channels: int
    patch_size: int


class DistillationBatch(NamedTuple):
    """Views of a batch with the teacher's tokens.

    Attributes:
        image: (B, 3, S, S) in [0, 1].
        tokens: (B, P, D), row by row.
        gram_weight: Weight of the Gram term.
    """

    image: Tensor
    tokens: Tensor
    gram_weight: float


class Distillation(PretrainObjective):
    """L = (1 - cosine) + gram x Gram loss, both after subtracting the teacher's mean token.

    Both networks see a view at the size that gives their patches the same grid: a student of 16 px patches 128 px, a
    teacher of 14 px patches 112 px. Every image has `distill.views` views that repeat after so many epochs, flipped
    anew together with the teacher's map, so the teacher needs to see each only once.

    Where the widths differ, a linear map from the student's tokens to the teacher's is trained too and dropped in the
    end: a guide reads the student's own tokens.

    Args:
        student: The network that is trained.
        teacher: Frozen; not part of the state.
        config: Settings of the run, with `distill`.
        table: Opens the cache of the teacher's tokens, or None to compute them every time.
    """

    centre: Tensor
    batches: Tensor

    def __init__(
        self, student: TokenEncoder, teacher: Teacher, config: PretrainConfig, *, table: OpenFeatureTable | None = None
    ) -> None:
        super().__init__()
        self.student = student
        # Nothing is masked here: a token that waits for a gradient would stop several processes at their second step.
        for name, weight in student.named_parameters():
            if name.endswith("mask_token"):
                weight.requires_grad_(False)
        has_same_width = student.channels == teacher.channels
        self.project = nn.Identity() if has_same_width else nn.Linear(student.channels, teacher.channels)
        self.register_buffer("centre", torch.zeros(teacher.channels))
        self.register_buffer("batches", torch.zeros(()))
        self._config, self._settings = config, config.distill or DistillSettings()
        # In a tuple: a frozen network that is loaded from elsewhere is neither trained nor saved.
        self._teacher = (teacher,)
        self._open_table, self._tables = table, dict[int, TeacherFeatureTable]()

    @torch.no_grad()
    def views(self, images: UnlabelledSample, *, progress: PretrainProgress) -> DistillationBatch:
        """One view of every image, randomly flipped together with the teacher's tokens."""
        stage, _ = self._config.stage_at(progress.step)
        size = draw_crop_sizes(stage, progress).global_size
        crops, rows = self._draw_crops(images, seed=progress.seed)
        image = apply_crops(images.pixels, crops, size=size)
        maps = to_device(
            self._teacher_maps(images.pixels, crops, rows, grid=size // self.student.patch_size), image.device
        )
        flip = self._config.data.flip if stage.flip is None else stage.flip
        flips = self._draw_flips(images, seed=progress.seed, probability=flip)
        tokens = _flip_each(maps, flips).flatten(2).transpose(1, 2)
        return DistillationBatch(_flip_each(image, flips), tokens, stage.gram)

    def forward(self, views: DistillationBatch, *, progress: PretrainProgress) -> ObjectiveOutput:
        """Both weighted terms on a batch."""
        predicted = self.project(self.student(views.image).patches)
        with torch.autocast(views.image.device.type, enabled=False):
            self._update_centre(views.tokens)
            predicted, targets = predicted.float(), views.tokens.float()
            terms = {"distance": cosine_distance(predicted, targets, self.centre)}
            if views.gram_weight:
                terms["gram"] = views.gram_weight * gram_loss(predicted - self.centre, targets - self.centre)
            terms["loss"] = torch.stack(list(terms.values())).sum()
        return ObjectiveOutput(terms, {}, predicted.detach().mean(dim=1) - self.centre)

    def exported_encoder(self) -> TokenEncoder:
        """The student."""
        return self.student

    def warning(self, metrics: dict[str, float], *, progress: PretrainProgress) -> str | None:
        """Warn if the student is still as far from its teacher as the teacher's mean token is."""
        if progress.fraction < _LATE or metrics["distance"] < _FAR:
            return None
        return (
            f"the distance to the teacher is {metrics['distance']:.2f} after {progress.fraction:.0%} of the steps, and "
            "an untrained student has 1; start again with another stages.0.lr"
        )

    def _draw_crops(self, images: UnlabelledSample, *, seed: int) -> tuple[list[CropParams], list[int]]:
        """A crop of every image, and its row of the table."""
        settings, light = self._settings, self._config.data.light
        distribution = CropDistribution(area=settings.area, flip=0.0, blur=settings.blur, light=light)
        crops, rows = [], []
        items = zip(images.epoch.tolist(), images.image_index.tolist(), images.aspect.tolist(), strict=True)
        for epoch, index, aspect in items:
            view = epoch % settings.views
            crops.append(draw_crop(distribution, np.random.default_rng([seed, index, view]), aspect=aspect))
            rows.append(index * settings.views + view)
        return crops, rows

    @staticmethod
    def _draw_flips(images: UnlabelledSample, *, seed: int, probability: float) -> list[list[bool]]:
        """Per image, whether it is flipped left-right, top-bottom and about the diagonal in this epoch."""
        items = zip(images.epoch.tolist(), images.image_index.tolist(), strict=True)
        return [
            (np.random.default_rng([seed, epoch, index, _FLIP_SEED]).random(3) < probability).tolist()
            for epoch, index in items
        ]

    def _teacher_maps(self, pixels: Tensor, crops: Sequence[CropParams], rows: Sequence[int], *, grid: int) -> Tensor:
        """The teacher's maps (B, D, grid, grid) of the crops."""
        (teacher,) = self._teacher

        def compute(positions: list[int]) -> Tensor:
            selected = [crops[position] for position in positions]
            view = apply_crops(pixels[positions], selected, size=grid * teacher.patch_size)
            maps: Tensor = teacher.network.to(view.device)(view).float()
            return maps.flatten(2).transpose(1, 2)

        if self._open_table is None:
            tokens = compute(list(range(len(rows))))
        else:
            # Opened on first use: a dry run writes nothing.
            if grid not in self._tables:
                self._tables[grid] = self._open_table(grid)
            tokens = self._tables[grid].get_or_compute(rows, compute)
        return tokens.transpose(1, 2).unflatten(2, (grid, grid))

    @torch.no_grad()
    def _update_centre(self, tokens: Tensor) -> None:
        """Update the teacher's mean token."""
        if self.training:
            self.batches += 1
            mean = all_reduce_sum(tokens.float().mean(dim=(0, 1))) / world_size()
            self.centre += (mean - self.centre) / self.batches.clamp(max=_CENTRE_BATCHES)


def _flip_each(maps: Tensor, flips: Sequence[Sequence[bool]]) -> Tensor:
    """(B, C, s, s) with each item flipped its own way."""
    return torch.stack([_flip(item, *flip) for item, flip in zip(maps, flips, strict=True)])


def _flip(item: Tensor, left_right: bool, top_bottom: bool, diagonal: bool) -> Tensor:
    item = item.flip(2) if left_right else item
    item = item.flip(1) if top_bottom else item
    return item.transpose(1, 2) if diagonal else item
