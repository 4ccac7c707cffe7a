"""Building the student, its teacher and their objective from the settings of a run."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from guidino_cli.distributed import run_on_all_ranks, run_on_main_process
from guidino_cli.engine.pretraining.data import fingerprint_images
from guidino_cli.errors import ConfigError
from guidino_cli.models import build_backbone
from guidino_cli.models.base import Backbone
from guidino_cli.models.finetuning import checkpoint_blocks, set_drop_path
from guidino_cli.models.pretrained.hub import replace_hint
from guidino_cli.models.pretrained.strict_loading import hash_weights
from guidino_cli.pretrain_config import DistillSettings, PretrainConfig
from guidino_cli.ssl.distillation import Distillation, OpenFeatureTable, Teacher
from guidino_cli.ssl.networks import TokenEncoder
from guidino_cli.ssl.objective import PretrainObjective
from guidino_cli.ssl.self_distillation import SelfDistillation
from guidino_cli.ssl.student import init_student_from_blocks
from guidino_cli.ssl.teacher_features import TeacherFeatureTable

_STUDENT_HINT = (
    "use a local folder or file (--set student.options.weights=/path), or one that needs no hub: "
    "--set student.name=embedded (guidino weights download embedded)"
)
_TEACHER_HINT = (
    "use a local folder (--distill-from /path), or a teacher that needs no hub: --distill-from embedded "
    "(guidino weights download embedded)"
)
_TRAINABLE = {"dinov3_vit", "dinov2", "dinov2_with_registers"}


class LoadedTeacher(NamedTuple):
    """A frozen teacher and the backbone it was loaded as."""

    teacher: Teacher
    backbone: Backbone


class Student(NamedTuple):
    """Initial student of a run.

    Attributes:
        encoder: The network, all of it trainable.
        identity: Source of its weights.
        loaded_teacher: Teacher for distillation, or None if the teacher is the student's own moving average.
    """

    encoder: TokenEncoder
    identity: dict[str, str]
    loaded_teacher: LoadedTeacher | None = None


class _DeepestMap(nn.Module):
    """A backbone that returns its deepest map only."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> Tensor:
        maps: list[Tensor] = self.backbone(image)
        return maps[-1]


def load_teacher(settings: DistillSettings, *, offline: bool) -> LoadedTeacher:
    """Load the backbone named by `distill.teacher`, frozen.

    Raises:
        ConfigError: Unknown backbone, or one with a `scale`.
        WeightsError: Its weights are missing, gated or damaged.
    """
    part = settings.teacher
    if part.options.get("scale", 1) != 1:
        raise ConfigError("distill.teacher.options.scale: leave it out; stages.0.crops set the teacher's image size")
    with replace_hint(_TEACHER_HINT):
        backbone = build_backbone(part.name, part.options, offline=offline)
    return LoadedTeacher(Teacher(_DeepestMap(backbone), backbone.channels, backbone.stride), backbone)


def build_student(config: PretrainConfig, *, offline: bool) -> Student:
    """Build the trainable student named by `student`, or from blocks of its teacher with `distill.blocks`.

    Raises:
        ConfigError: Unknown backbone, an architecture that cannot be pretrained, or crops that do not fit its patches.
        WeightsError: Its weights, or its teacher's, are missing, gated or damaged.
    """
    teacher = None if config.distill is None else load_teacher(config.distill, offline=offline)
    if teacher is not None and config.distill is not None and config.distill.blocks is not None:
        return _build_from_blocks(teacher, config, config.distill.blocks)
    with replace_hint(_STUDENT_HINT):
        backbone = build_backbone(config.student.name, config.student.options, offline=offline)
    network: Any = getattr(backbone, "vit", None)
    model_type = getattr(getattr(network, "config", None), "model_type", type(backbone).__name__)
    if model_type not in _TRAINABLE:
        raise ConfigError(f"student: {config.student.name} is a {model_type}; use a ViT of DINOv3 or DINOv2")
    # Blocks after the last one in use were removed.
    network.config = _with_depth(network.config, max(backbone.layers))
    encoder = _make_trainable(network, backbone, config)
    return Student(encoder, _derive_identity(backbone.identity, teacher), teacher)


def build_objective(
    student: Student, config: PretrainConfig, *, paths: Sequence[Path], features: Path
) -> PretrainObjective:
    """Build the objective of a run: self-distillation, or distillation from the student's loaded teacher.

    Args:
        student: From `build_student`.
        config: Settings of the run.
        paths: Image files.
        features: Folder for cached features of a loaded teacher.
    """
    loaded = student.loaded_teacher
    if loaded is None or config.distill is None:
        return SelfDistillation(student.encoder, config)
    table = feature_table_opener(features, loaded, config, paths) if config.distill.remember else None
    return Distillation(student.encoder, loaded.teacher, config, table=table)


def feature_table_opener(
    folder: Path, loaded: LoadedTeacher, config: PretrainConfig, paths: Sequence[Path]
) -> OpenFeatureTable:
    """A function that opens the feature table of a grid; other images, views or weights have another table."""
    settings = config.distill or DistillSettings()

    def open_table(grid: int) -> TeacherFeatureTable:
        root = Path(os.path.commonpath([path.parent for path in paths]))
        images = fingerprint_images(root, paths)
        key = {
            "teacher": loaded.backbone.identity.get("sha256"),
            "options": repr(settings.teacher),
            "views": [settings.views, list(settings.area), settings.blur, config.data.light, config.data.side],
            "seed": config.seed,
            "images": [images.names_sha256, images.sizes_sha256],
            "grid": grid,
        }
        rows, channels = len(paths) * settings.views, loaded.teacher.channels
        table = partial(TeacherFeatureTable, folder, key=key, rows=rows, tokens=grid * grid, channels=channels)
        # The main process creates the files, the others open them: two at once would overwrite each other's.
        run_on_main_process(table)
        return run_on_all_ranks(table)

    return open_table


def _build_from_blocks(loaded: LoadedTeacher, config: PretrainConfig, blocks: Sequence[int]) -> Student:
    """A student initialised from blocks of its teacher; `ConfigError` if the teacher does not have them."""
    teacher: Any = getattr(loaded.backbone, "vit", None)
    if teacher is None:
        raise ConfigError("distill.blocks: the teacher is not a vision transformer; leave out the blocks")
    try:
        network: Any = init_student_from_blocks(teacher, blocks, seed=config.seed)
    except ValueError as error:
        raise ConfigError(f"distill.blocks: {error}") from error
    encoder = _make_trainable(network, loaded.backbone, config)
    identity = loaded.backbone.identity
    name = f"blocks {', '.join(str(block) for block in blocks)} of {identity['weights']}"
    return Student(encoder, {**identity, "weights": name, "sha256": hash_weights(network)}, loaded)


def _make_trainable(network: Any, backbone: Backbone, config: PretrainConfig) -> TokenEncoder:
    """Unfreeze a network, in single precision and with the input normalisation of a backbone."""
    _require_whole_patches(config, patch=network.config.patch_size)
    # Updates would be lost in half-precision weights, as the 7B has.
    network.float().requires_grad_(True)
    set_drop_path(network, config.train.drop_path)
    if config.train.checkpointing:
        checkpoint_blocks(network)
    normalizer: Any = backbone.normalizer
    mean, std = (values.flatten().tolist() for values in (normalizer.mean, normalizer.std))
    return TokenEncoder(network, mean=mean, std=std)


def _derive_identity(identity: dict[str, str], loaded: LoadedTeacher | None) -> dict[str, str]:
    """A distilled student derives from its teacher: without a licence of its own it has its teacher's."""
    if loaded is None or "licence" in identity or "licence" not in loaded.backbone.identity:
        return identity
    teacher = loaded.backbone.identity
    name = f"{identity['weights']}, taught by {teacher['weights']}"
    return {**identity, "weights": name, "licence": teacher["licence"]}


def _with_depth(config: Any, depth: int) -> Any:
    """A network's configuration with another number of blocks; names of stages are derived anew."""
    derived = {"num_hidden_layers", "stage_names", "out_features", "out_indices", "_out_features", "_out_indices"}
    others = {name: value for name, value in config.to_dict().items() if name not in derived}
    return type(config)(**others, num_hidden_layers=depth)


def _require_whole_patches(config: PretrainConfig, *, patch: int) -> None:
    for number, stage in enumerate(config.stages):
        for position, sizes in enumerate(stage.crops):
            for name in ("global_size", "local_size", "gram_size"):
                size = getattr(sizes, name)
                if size is not None and size % patch:
                    nearest = max(patch, round(size / patch) * patch)
                    raise ConfigError(
                        f"stages.{number}.crops.{position}.{name} is {size}, but the student's patches have {patch} "
                        f"pixels: use a multiple, such as {nearest}"
                    )
