"""Distillation: a small student learns what a large frozen teacher says of every patch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from guidino_cli.distributed import all_reduce_sum, world_size
from guidino_cli.pretrain_config import DistillSettings, PretrainConfig
from guidino_cli.ssl.crops import CropDistribution, CropParams, apply_crops, draw_crop
from guidino_cli.ssl.losses import cosine_distance, gram_loss
from guidino_cli.ssl.networks import TokenEncoder
from guidino_cli.ssl.objective import ObjectiveOutput, PretrainObjective, PretrainProgress
from guidino_cli.ssl.teacher_features import TeacherFeatureTable
from guidino_cli.ssl.views import draw_crop_sizes
from guidino_cli.types import UnlabelledSample

# A student of which so much is left to learn so late has not begun.
_FAR, _LATE = 0.95, 0.2
# Last words of the seeds, beside the numbers of the views.
_SIZES, _TURNS = 1001, 1002

OpenFeatureTable = Callable[[int], TeacherFeatureTable]
"""The table of rows for images x views, in this order, at a grid of so many patches a side."""


@dataclass(frozen=True)
class Teacher:
    """A frozen network.

    Attributes:
        network: Images (B, 3, H, W) in [0, 1] to a dense map (B, D, h, w).
        channels: D.
        patch: Pixels of a patch.
    """

    network: nn.Module
    channels: int
    patch: int


class DistillationBatch(NamedTuple):
    """Views of a batch and what the teacher says of them.

    Attributes:
        image: (B, 3, S, S) in [0, 1].
        tokens: (B, P, D), row by row.
        gram_weight: Of the Gram term.
    """

    image: Tensor
    tokens: Tensor
    gram_weight: float


class Distillation(PretrainObjective):
    """L = (1 - cosine) + gram x Gram loss, both of tokens seen from the middle of the teacher's.

    Both networks see a view at the size that gives their patches the same grid: a student of 16 px patches 128 px, a
    teacher of 14 px patches 112 px. Every image has `distill.views` views that come again after so many epochs,
    mirrored anew together with what the teacher said, so the teacher need see each only once.

    Where the widths differ, a linear map from the student's tokens to the teacher's is learned along and left behind
    afterwards: a guide reads the student's own tokens.

    Args:
        student: What learns.
        teacher: What it learns from; it is no part of the state.
        config: Of the run, with `distill`.
        table: Where what the teacher says is kept, or None to ask it every time.
    """

    centre: Tensor
    batches: Tensor

    def __init__(
        self, student: TokenEncoder, teacher: Teacher, config: PretrainConfig, *, table: OpenFeatureTable | None = None
    ) -> None:
        super().__init__()
        self.student = student
        # Nothing is hidden here: a token that waits for a gradient would stop several processes at their second step.
        for name, weight in student.named_parameters():
            if name.endswith("mask_token"):
                weight.requires_grad_(False)
        alike = student.channels == teacher.channels
        self.project = nn.Identity() if alike else nn.Linear(student.channels, teacher.channels)
        self.register_buffer("centre", torch.zeros(teacher.channels))
        self.register_buffer("batches", torch.zeros(()))
        self._config, self._settings = config, config.distill or DistillSettings()
        # In a tuple: a frozen network that is read from elsewhere is neither trained nor saved.
        self._teacher = (teacher,)
        self._open, self._tables = table, dict[int, TeacherFeatureTable]()

    @torch.no_grad()
    def views(self, images: UnlabelledSample, *, at: PretrainProgress) -> DistillationBatch:
        """One view of every image, mirrored by chance together with what the teacher said of it."""
        stage, _ = self._config.stage_at(at.step)
        size = draw_crop_sizes(stage, np.random.default_rng([at.seed, at.step, _SIZES])).global_size
        crops, rows = self._crops(images, seed=at.seed)
        image = apply_crops(images.pixels, crops, size=size)
        maps = self._said(images.pixels, crops, rows, grid=size // self.student.patch).to(image.device)
        turns = self._turns(images, seed=at.seed)
        return DistillationBatch(_turned(image, turns), _turned(maps, turns).flatten(2).transpose(1, 2), stage.gram)

    def forward(self, views: DistillationBatch, *, at: PretrainProgress) -> ObjectiveOutput:
        """Both terms."""
        given = self.project(self.student(views.image).patches)
        with torch.autocast(views.image.device.type, enabled=False):
            self._follow(views.tokens)
            given, wanted = given.float(), views.tokens.float()
            terms = {"distance": cosine_distance(given, wanted, self.centre)}
            if views.gram_weight:
                terms["gram"] = views.gram_weight * gram_loss(given - self.centre, wanted - self.centre)
            terms["loss"] = torch.stack(list(terms.values())).sum()
        return ObjectiveOutput(terms, {}, given.detach().mean(dim=1) - self.centre)

    def result(self) -> nn.Module:
        """The student's network."""
        network: nn.Module = self.student.network
        return network

    def warning(self, figures: dict[str, float], *, at: PretrainProgress) -> str | None:
        """A student that is still as far from its teacher as the mean token is."""
        if at.share < _LATE or figures["distance"] < _FAR:
            return None
        return (
            f"the distance to the teacher is {figures['distance']:.2f} after {at.share:.0%} of the steps, and that of "
            "a student that knows nothing is 1; begin anew with another stages.0.lr"
        )

    def _crops(self, images: UnlabelledSample, *, seed: int) -> tuple[list[CropParams], list[int]]:
        """A crop of every image, and the row of the table that is for it."""
        settings, light = self._settings, self._config.data.light
        kind = CropDistribution(area=settings.area, flip=0.0, blur=settings.blur, light=light)
        crops, rows = [], []
        shown = zip(images.epoch.tolist(), images.image_index.tolist(), images.aspect.tolist(), strict=True)
        for epoch, index, aspect in shown:
            number = epoch % settings.views
            crops.append(draw_crop(kind, np.random.default_rng([seed, index, number]), aspect=aspect))
            rows.append(index * settings.views + number)
        return crops, rows

    def _turns(self, images: UnlabelledSample, *, seed: int) -> list[list[bool]]:
        """Of each image, whether it is mirrored left to right, top to bottom and about the diagonal in this epoch."""
        shown = zip(images.epoch.tolist(), images.image_index.tolist(), strict=True)
        chance = self._config.data.flip
        return [
            (np.random.default_rng([seed, epoch, index, _TURNS]).random(3) < chance).tolist() for epoch, index in shown
        ]

    def _said(self, pixels: Tensor, crops: Sequence[CropParams], rows: Sequence[int], *, grid: int) -> Tensor:
        """The teacher's maps (B, D, grid, grid) of the crops."""
        (teacher,) = self._teacher

        def compute(places: list[int]) -> Tensor:
            view = apply_crops(pixels[places], [crops[place] for place in places], size=grid * teacher.patch)
            tokens: Tensor = teacher.network.to(view.device)(view).float()
            return tokens.flatten(2).transpose(1, 2)

        tokens = compute(list(range(len(rows)))) if self._open is None else self._table(grid).recall(rows, compute)
        return tokens.transpose(1, 2).unflatten(2, (grid, grid))

    def _table(self, grid: int) -> TeacherFeatureTable:
        """Opened when first wanted: a dry run writes nothing."""
        if grid not in self._tables and self._open is not None:
            self._tables[grid] = self._open(grid)
        return self._tables[grid]

    @torch.no_grad()
    def _follow(self, tokens: Tensor) -> None:
        """The teacher's mean token: the plain mean of the first hundred batches, then a moving one."""
        if self.training:
            self.batches += 1
            mean = all_reduce_sum(tokens.float().mean(dim=(0, 1))) / world_size()
            self.centre += (mean - self.centre) / self.batches.clamp(max=100)


def _turned(maps: Tensor, turns: Sequence[Sequence[bool]]) -> Tensor:
    """(B, C, s, s) with each item mirrored its own way."""
    return torch.stack([_mirrored(one, *turn) for one, turn in zip(maps, turns, strict=True)])


def _mirrored(one: Tensor, across: bool, down: bool, diagonal: bool) -> Tensor:
    one = one.flip(2) if across else one
    one = one.flip(1) if down else one
    return one.transpose(1, 2) if diagonal else one
