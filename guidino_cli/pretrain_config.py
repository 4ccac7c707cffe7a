"""Settings of a pretraining run; they are read, overridden and checked as those of a training run are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from guidino_cli.config import ComponentSettings, presets_folder
from guidino_cli.errors import ConfigError, unknown_name
from guidino_cli.settings import apply_overrides, read_settings, to_yaml, validate_settings

_STRICT = ConfigDict(extra="forbid")
_Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, config=_STRICT)
class UnlabelledDataSettings:
    """How images are kept and lit.

    `side`: every image is squeezed to a square of so many pixels, out of which crops of its own shape are cut; at least
    the largest crop, better half as much again. `light`: see `ssl.crops.Kind`; "photo" for colour, "grey" for
    ultrasound and X-ray, "window" for CT and MR.
    """

    side: PositiveInt = 384
    light: Literal["photo", "grey", "window", "none"] = "photo"
    flip: _Share = 0.5
    cache_gb: NonNegativeFloat = 2.0
    workers: NonNegativeInt = 0


@dataclass(frozen=True, config=_STRICT)
class OptimizationSettings:
    """The optimisation, AdamW. Defaults: DINOv3's for a ViT-L.

    `layer_decay`: learning rate of each block relative to the one above it. `patch_lr`: factor of the patch embedding.
    `drop_path`: share of the images for which a half of a block of the student is left out, the same in every block
    (stochastic depth; 0.3 for DINOv3's ViT-L, 0.4 for its 7B).
    `log_every`: steps a row of the history is the mean of. `picture_every`: steps between two pictures of what the
    tokens of some fixed images show; 0 for none. `save_minutes`: how often the state is saved.
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
    """Sides of the views in pixels, multiples of the backbone's patch, and how often these are drawn.

    `gram_size`: of what the Gram teacher sees; None for twice `global_size`.
    """

    global_size: PositiveInt = 224
    local_size: PositiveInt = 96
    gram_size: PositiveInt | None = None
    weight: PositiveFloat = 1.0


@dataclass(frozen=True, config=_STRICT)
class StageSettings:
    """A part of the run.

    The learning rate rises over `warmup_steps`, then falls along a half cosine to `final_lr`, or stays where that is
    None. `momentum`: the teacher keeps this share of itself at each step; `final_momentum`: what it rises to. `gram`:
    weight of the Gram term. `crops`: for each batch, one of them is drawn. `side`: `data.side` of this stage.
    `koleo_group`: among how many images KoLeo looks for neighbours, those of several processes where each has fewer
    (DINOv3 at high resolution: 16); None for the batch of each process.
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


@dataclass(frozen=True, config=_STRICT)
class DinoSettings:
    """Student and teacher, DINOv2's losses. Defaults: DINOv3's configuration for a ViT-L.

    `prototypes`: K of the head of the class token, `patch_prototypes` of that of the patches. `masked`: share of the
    global views that are masked, `mask_ratio`: how much of them. `temperature`: of the teacher, rising to
    `final_temperature` over `temperature_steps`. `freeze_last`: steps in which the last layers of the heads do not
    learn. `last_std`: of their weights at the beginning. `gram_step`: the teacher of this step is the Gram teacher.
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
    """A student that learns from a frozen teacher instead of its own average; `dino` is left unread.

    `teacher`: a backbone as `model.backbone` names it. `blocks`: the student begins as these blocks of the teacher,
    counted from 1, with patches of 16 px and rotary positions, and `student` is left unread; None for `student`.
    `views`: crops of every image, one an epoch; they come again after so many epochs. `area`: of a crop, as a share of
    the image. `blur`: how many of them are blurred. `remember`: keep what the teacher says in the run's folder (half
    precision), so that it sees every view once.
    """

    teacher: ComponentSettings = field(default_factory=lambda: ComponentSettings("embedded"))
    blocks: Annotated[list[PositiveInt], Field(min_length=1)] | None = None
    views: PositiveInt = 8
    area: tuple[PositiveFloat, _Share] = (0.12, 1.0)
    blur: _Share = 0.2
    remember: bool = True


@dataclass(frozen=True, config=_STRICT)
class PretrainConfig:
    """Everything that decides a pretraining run; saved as `pretraining.yaml` in its folder.

    `student`: a backbone as `model.backbone` names it; its weights are where the run begins. `distill`: learn from a
    teacher; None for DINOv3's own objective.
    """

    description: str = ""
    student: ComponentSettings = field(default_factory=lambda: ComponentSettings("dinov3", {"size": "base"}))
    data: UnlabelledDataSettings = field(default_factory=UnlabelledDataSettings)
    train: OptimizationSettings = field(default_factory=OptimizationSettings)
    dino: DinoSettings = field(default_factory=DinoSettings)
    distill: DistillSettings | None = None
    stages: list[StageSettings] = field(default_factory=lambda: [StageSettings("stage 1", 1000, 2e-4)])
    seed: NonNegativeInt = 0

    @property
    def steps(self) -> int:
        """Of all stages together."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[StageSettings, int]:
        """The stage of the step that follows `step` finished ones, and how many of its own steps are finished.

        Behind the last step it is the last stage, with all of its steps finished.
        """
        for stage in self.stages:
            if step < stage.steps:
                return stage, step
            step -= stage.steps
        return self.stages[-1], self.stages[-1].steps + step


def pretrain_presets_folder() -> Path:
    """Folder of the packaged presets of pretraining."""
    return presets_folder() / "pretraining"


def pretrain_preset_names() -> list[str]:
    """Their names, sorted."""
    return sorted(path.stem for path in pretrain_presets_folder().glob("*.yaml"))


def load_pretrain_preset(preset: str, overrides: Iterable[str] = ()) -> PretrainConfig:
    """Read a preset by name or path and apply `a.b=c` overrides; `stages.0.steps=5` reaches into a list.

    Raises:
        ConfigError: Unknown preset, unreadable file, unknown key or unusable value; the message names the key.
    """
    path = Path(preset)
    if path.suffix not in {".yaml", ".yml"}:
        path = pretrain_presets_folder() / f"{preset}.yaml"
        if preset not in pretrain_preset_names():
            raise ConfigError(
                unknown_name("preset of pretraining", preset, pretrain_preset_names(), lister="guidino presets")
            )
    return read_pretrain_config(path, overrides, label=preset)


def read_pretrain_config(path: Path, overrides: Iterable[str] = (), *, label: str | None = None) -> PretrainConfig:
    """Read a configuration file; see `load_pretraining` for the errors."""
    return _checked(read_settings(path, overrides, example="'train: {batch_size: 32}'"), label=label or str(path))


def override_pretrain_config(config: PretrainConfig, overrides: Iterable[str]) -> PretrainConfig:
    """A copy of a configuration with `a.b=c` overrides applied."""
    settings = asdict(config)
    apply_overrides(settings, overrides)
    return _checked(settings, label="settings")


def dump_pretrain_config(config: PretrainConfig) -> str:
    """The configuration as YAML, every setting spelled out."""
    return to_yaml(config)


def _checked(settings: dict, *, label: str) -> PretrainConfig:
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
            raise ConfigError(f"{where}.warmup_steps is {stage.warmup_steps}, more than its {stage.steps} steps")
    for name in ("global_area", "local_area", "mask_ratio"):
        low, high = getattr(config.dino, name)
        if low > high:
            raise ConfigError(f"{label}: dino.{name} is [{low:g}, {high:g}], expected the smaller one first")
    if config.distill is not None and config.distill.area[0] > config.distill.area[1]:
        low, high = config.distill.area
        raise ConfigError(f"{label}: distill.area is [{low:g}, {high:g}], expected the smaller one first")
    gram = next((sum(s.steps for s in config.stages[:i]) for i, s in enumerate(config.stages) if s.gram), None)
    if gram is not None and config.dino.gram_step > gram:
        raise ConfigError(
            f"{label}: dino.gram_step is {config.dino.gram_step}, but a stage with a Gram term begins at step {gram}; "
            "its teacher must be of a step before"
        )
    return config
