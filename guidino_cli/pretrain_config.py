"""Settings of a pretraining run: presets, overrides and validation, as for training runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from guidino_cli.config import ComponentSettings, presets_folder
from guidino_cli.errors import ConfigError
from guidino_cli.inheritance import MergedPreset, read_preset
from guidino_cli.settings import apply_overrides, list_presets, read_settings, to_yaml, validate_settings
from guidino_cli.types import LARGEST_SEED

_STRICT = ConfigDict(extra="forbid")
_EXAMPLE = "'train: {batch_size: 32}'"
_Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, config=_STRICT)
class UnlabelledDataSettings:
    """Images and photometric augmentation.

    Attributes:
        side: Every image is resized to a square of this side, from which crops with its own aspect ratio are cut; at
            least the largest crop, better 1.5 times as much.
        light: Photometric augmentation: "photo" for colour, "grey" for ultrasound and
            X-ray, "window" for CT and MR.
        flip: Probability of a left-right flip.
        cache_gb: Main memory for decoded images, in 10^9 bytes per process or worker.
        workers: Processes that load images; 0 loads them in the training process.
    """

    side: PositiveInt = 384
    light: Literal["photo", "grey", "window", "none"] = "photo"
    flip: _Share = 0.5
    cache_gb: NonNegativeFloat = 2.0
    workers: NonNegativeInt = 0


@dataclass(frozen=True, config=_STRICT)
class OptimizationSettings:
    """Optimisation by AdamW. Defaults: DINOv3's for a ViT-L.

    Attributes:
        batch_size: Images of a batch, on each process.
        accumulate: Batches whose gradients are added up for a step.
        weight_decay: Weight decay at the start.
        final_weight_decay: Weight decay at the end, reached along half a cosine; null keeps it constant.
        beta2: AdamW's decay rate of the second moment.
        clip_norm: Largest norm of the gradient; longer ones are scaled down.
        layer_decay: Learning rate of each block relative to the one above it.
        patch_lr: Factor of the learning rate for the patch embedding.
        drop_path: Stochastic depth rate of the student, the same in every block (0.3 for DINOv3's ViT-L, 0.4 for its
            7B).
        precision: "auto" is bf16 on a GPU that has it, full on a CPU.
        checkpointing: Compute activations again in the backward pass: less memory, more time.
        log_every: Steps per row of the history.
        picture_every: Steps between feature snapshots of some fixed images; 0 for none.
        save_minutes: Minutes between checkpoints.
    """

    batch_size: PositiveInt = 64
    accumulate: PositiveInt = 1
    weight_decay: NonNegativeFloat = 0.04
    final_weight_decay: NonNegativeFloat | None = None
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    clip_norm: PositiveFloat = 3.0
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 0.9
    patch_lr: PositiveFloat = 0.2
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    precision: Literal["no", "bf16", "auto"] = "auto"
    checkpointing: bool = False
    log_every: PositiveInt = 50
    picture_every: NonNegativeInt = 500
    save_minutes: NonNegativeFloat = 15.0


@dataclass(frozen=True, config=_STRICT)
class CropSizes:
    """Sides of the views in pixels, multiples of the patch size, and the weight with which they are drawn.

    Attributes:
        global_size: Side of the two large views.
        local_size: Side of the small views.
        gram_size: Side of the Gram teacher's views; null for twice `global_size`.
        weight: Weight with which these sizes are drawn.
    """

    global_size: PositiveInt = 224
    local_size: PositiveInt = 96
    gram_size: PositiveInt | None = None
    weight: PositiveFloat = 1.0


@dataclass(frozen=True, config=_STRICT)
class StageSettings:
    """One stage of the run.

    Attributes:
        name: Name in the history.
        steps: Steps of the stage.
        lr: Learning rate after the warm-up.
        final_lr: Learning rate at the end, reached along half a cosine; null keeps it constant.
        warmup_steps: Steps in which the learning rate rises from 0.
        momentum: EMA momentum of the teacher.
        final_momentum: Its value at the end of the stage; null keeps it constant.
        gram: Weight of the Gram term.
        crops: Sizes of the views; one of them is drawn per batch.
        side: Replaces `data.side` in this stage.
        koleo_group: Number of images among which KoLeo searches nearest neighbours, across processes if each has fewer
            (DINOv3 at high resolution: 16); null for the batch of each process.
        local_weight: Weight of a pair with a local view in the DINO term, relative to one of global views (DINOv3 with
            a Gram term: 0.5).
        flip: Replaces `data.flip` in this stage; null for `data.flip`.
    """

    name: str
    steps: PositiveInt
    lr: PositiveFloat
    final_lr: NonNegativeFloat | None = None
    warmup_steps: NonNegativeInt = 0
    momentum: _Share = 0.994
    final_momentum: _Share | None = None
    gram: NonNegativeFloat = 0.0
    crops: list[CropSizes] = field(default_factory=lambda: [CropSizes()])
    side: PositiveInt | None = None
    koleo_group: Annotated[int, Field(ge=2)] | None = None
    local_weight: NonNegativeFloat = 1.0
    flip: _Share | None = None


@dataclass(frozen=True, config=_STRICT)
class DinoSettings:
    """Heads, masks and losses of self-distillation. Defaults: DINOv3's configuration for a ViT-L.

    Attributes:
        prototypes: K of the class token's head.
        patch_prototypes: K of the patches' head.
        hidden: Width of the heads' hidden layers.
        bottleneck: Width of the heads' last layer but one.
        local_count: Small views of an image.
        global_area: Smallest and largest area of a large view, as a share of the image.
        local_area: Smallest and largest area of a small view.
        dino: Weight of the class token's loss.
        ibot: Weight of the masked patches' loss.
        koleo: Weight of the KoLeo loss, which spreads features.
        masked: Share of the global views that are masked.
        mask_ratio: Smallest and largest masked share of their patches.
        student_temperature: Temperature of the student's softmax.
        temperature: Temperature of the teacher at the start.
        final_temperature: Temperature of the teacher after `temperature_steps`.
        temperature_steps: Steps in which it rises.
        freeze_last: Initial steps in which the heads' last layers are frozen.
        last_std: Initial standard deviation of their weights.
        gram_step: Step whose teacher becomes the Gram teacher.
    """

    prototypes: PositiveInt = 65536
    patch_prototypes: PositiveInt = 65536
    hidden: PositiveInt = 2048
    bottleneck: PositiveInt = 256
    local_count: NonNegativeInt = 8
    global_area: tuple[PositiveFloat, _Share] = (0.32, 1.0)
    local_area: tuple[PositiveFloat, _Share] = (0.05, 0.32)
    dino: NonNegativeFloat = 1.0
    ibot: NonNegativeFloat = 1.0
    koleo: NonNegativeFloat = 0.1
    masked: _Share = 0.5
    mask_ratio: tuple[_Share, _Share] = (0.1, 0.5)
    student_temperature: PositiveFloat = 0.1
    temperature: PositiveFloat = 0.04
    final_temperature: PositiveFloat = 0.07
    temperature_steps: NonNegativeInt = 37500
    freeze_last: NonNegativeInt = 1250
    last_std: PositiveFloat = 0.02
    gram_step: NonNegativeInt = 0


@dataclass(frozen=True, config=_STRICT)
class DistillSettings:
    """Distillation from a frozen teacher instead of the student's own average; `dino` is ignored.

    Attributes:
        teacher: A backbone as in `model.backbone`.
        blocks: Blocks of the teacher, counted from 1, from which the student is initialised, with patches of 16 px and
            rotary positions; `student` is ignored. Null for `student`.
        views: Crops per image, one per epoch; they repeat after so many epochs.
        area: Smallest and largest area of a crop, as a share of the image.
        blur: Probability of a blur.
        remember: Cache the teacher's features in the run's folder (half precision), so that it sees every view once.
    """

    teacher: ComponentSettings = field(default_factory=lambda: ComponentSettings("embedded"))
    blocks: Annotated[list[PositiveInt], Field(min_length=1)] | None = None
    views: PositiveInt = 8
    area: tuple[PositiveFloat, _Share] = (0.12, 1.0)
    blur: _Share = 0.2
    remember: bool = True


@dataclass(frozen=True, config=_STRICT)
class PretrainConfig:
    """All settings of a pretraining run; saved as `pretraining.yaml` in its folder.

    Attributes:
        description: Description in one line.
        student: A backbone as in `model.backbone`, with the initial weights.
        data: The images.
        train: The optimisation.
        dino: DINOv3's own objective.
        distill: Distillation from a teacher; null for DINOv3's own objective.
        stages: Stages, one after another.
        seed: Seed of heads, order of images, crops and masks.
    """

    description: str = ""
    student: ComponentSettings = field(default_factory=lambda: ComponentSettings("dinov3", {"size": "base"}))
    data: UnlabelledDataSettings = field(default_factory=UnlabelledDataSettings)
    train: OptimizationSettings = field(default_factory=OptimizationSettings)
    dino: DinoSettings = field(default_factory=DinoSettings)
    distill: DistillSettings | None = None
    stages: list[StageSettings] = field(default_factory=lambda: [StageSettings("stage 1", 1000, 2e-4)])
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[StageSettings, int]:
        """The stage of the step after `step` finished ones, and the number of its own finished steps.

        After the last step it is the last stage, with all of its steps finished.
        """
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        return self.stages[-1], self.stages[-1].steps + step


def pretrain_presets_folder() -> Path:
    """Folder of the packaged pretraining presets."""
    return presets_folder() / "pretraining"


def pretrain_preset_names() -> list[str]:
    """Names of the packaged pretraining presets, sorted."""
    return list_presets(pretrain_presets_folder())


def load_pretrain_preset(preset: str, overrides: Iterable[str] = ()) -> PretrainConfig:
    """Read a preset by name or path with the bases that it names, and apply `a.b=c` overrides.

    `stages.0.steps=5` reaches into a list.

    Raises:
        ConfigError: Unknown preset or base, unreadable file, unknown key or unusable value; the message names the key.
    """
    merged = merge_pretrain_preset(preset, overrides)
    return parse_pretrain_config(merged.settings, label=merged.label)


def merge_pretrain_preset(preset: str, overrides: Iterable[str] = ()) -> MergedPreset:
    """A preset over its bases and under overrides, not validated; see `read_preset` for origins and errors."""
    return read_preset(
        preset, pretrain_presets_folder(), kind="pretraining preset", example=_EXAMPLE, overrides=overrides
    )


def read_pretrain_config(path: Path, overrides: Iterable[str] = (), *, label: str | None = None) -> PretrainConfig:
    """Read a configuration file; see `load_pretrain_preset` for the errors."""
    return parse_pretrain_config(read_settings(path, overrides, example=_EXAMPLE), label=label or str(path))


def override_pretrain_config(config: PretrainConfig, overrides: Iterable[str]) -> PretrainConfig:
    """A copy of a configuration with `a.b=c` overrides applied."""
    settings = asdict(config)
    apply_overrides(settings, overrides)
    return parse_pretrain_config(settings, label="settings")


def dump_pretrain_config(config: PretrainConfig) -> str:
    """The configuration as YAML, with every setting."""
    return to_yaml(config)


def parse_pretrain_config(settings: dict, *, label: str) -> PretrainConfig:
    """Check a nested mapping and make it a `PretrainConfig`."""
    config = validate_settings(PretrainConfig, settings, label=label)
    if not config.stages:
        raise ConfigError(
            f"{label}: stages is empty, expected at least one, such as [{{name: one, steps: 1000, lr: 1e-4}}]"
        )
    for number, stage in enumerate(config.stages):
        where = f"{label}: stages.{number}"
        if not stage.crops:
            raise ConfigError(f"{where}.crops is empty, expected one such as [{{global_size: 224, local_size: 96}}]")
        if stage.warmup_steps > stage.steps:
            raise ConfigError(
                f"{where}.warmup_steps is {stage.warmup_steps}, more than its {stage.steps} steps: lower it, too, such "
                f"as --set stages.{number}.warmup_steps={stage.steps // 10}"
            )
    ranges = {f"dino.{name}": getattr(config.dino, name) for name in ("global_area", "local_area", "mask_ratio")}
    if config.distill is not None:
        ranges["distill.area"] = config.distill.area
    for name, (low, high) in ranges.items():
        if low > high:
            raise ConfigError(f"{label}: {name} is [{low:g}, {high:g}], expected the smaller one first")
    gram = next((sum(s.steps for s in config.stages[:i]) for i, s in enumerate(config.stages) if s.gram), None)
    if gram is not None and config.dino.gram_step > gram:
        raise ConfigError(
            f"{label}: dino.gram_step is {config.dino.gram_step}, but a stage with a Gram term begins at step {gram}; "
            "its teacher must come from that step or an earlier one"
        )
    return config
