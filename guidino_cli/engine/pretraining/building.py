"""From settings to a student and what teaches it."""

from typing import Any, NamedTuple

from guidino_cli.errors import ConfigError
from guidino_cli.models import build_backbone
from guidino_cli.pretrain_config import PretrainConfig
from guidino_cli.ssl.objective import Objective
from guidino_cli.ssl.self_distillation import SelfDistillation
from guidino_cli.ssl.trunk import Trunk

_LEARNING = {"dinov3_vit": "dinov3", "dinov2": "dinov2", "dinov2_with_registers": "dinov2"}


class Student(NamedTuple):
    """Where a run begins.

    Attributes:
        trunk: The network, all of it learning.
        identity: Where its weights came from.
    """

    trunk: Trunk
    identity: dict[str, str]


def build_student(config: PretrainConfig, *, offline: bool) -> Student:
    """The backbone that `student` names, unfrozen.

    Raises:
        ConfigError: Unknown, of an architecture that cannot be pretrained, or crops that its patches do not fit.
        WeightsError: Its weights are missing, gated or damaged.
    """
    backbone = build_backbone(config.student.name, config.student.options, offline=offline)
    network: Any = getattr(backbone, "vit", None)
    kind = getattr(getattr(network, "config", None), "model_type", type(backbone).__name__)
    if kind not in _LEARNING:
        raise ConfigError(f"student: {config.student.name} is a {kind}; give a ViT of DINOv3 or DINOv2")
    _require_whole_patches(config, patch=network.config.patch_size)
    # Blocks behind the one that is used were dropped.
    network.config.num_hidden_layers = max(backbone.layers)
    network.requires_grad_(True)
    if config.train.checkpointing:
        network.gradient_checkpointing_enable({"use_reentrant": False})
    trunk = Trunk(network, mean=backbone.eye.mean.flatten().tolist(), std=backbone.eye.std.flatten().tolist())
    return Student(trunk, backbone.identity)


def build_objective(student: Trunk, config: PretrainConfig) -> Objective:
    """What teaches the student: its own moving average."""
    return SelfDistillation(student, config)


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
