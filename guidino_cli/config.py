"""Settings of a run as dataclasses: defaults, overridden by a preset, overridden by `--set a.b=c`; validated once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from pydantic.dataclasses import dataclass

from guidino_cli.errors import ConfigError
from guidino_cli.progress import pluralize
from guidino_cli.settings import apply_overrides, find_preset, list_presets, read_settings, to_yaml, validate_settings

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class ComponentSettings:
    """Name of a registered component and keyword arguments of its constructor."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, config=_STRICT)
class GuideSettings:
    """The guide, which turns backbone tokens into a map, and the features that the map gates.

    `at`: "input" multiplies the normalised image (GuiDINO-W), "bottleneck" the deepest map (GuiDINO-U), "features"
    every map of the encoder. `residual` multiplies by 1 + guide instead of the guide. `per_class` makes one map per
    foreground class of the data, each with its own target; their maximum gates.
    """

    name: str = "tokenbook"
    at: Literal["input", "bottleneck", "features"] = "input"
    residual: bool = False
    per_class: bool = False
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, config=_STRICT)
class LoraSettings:
    """Low-rank updates of the backbone's projections. Defaults: the GuiDINO paper's code, except `targets`.

    `targets`: "all" is every attention and MLP projection of the backbone's blocks; a list names some, such as
    [q_proj, v_proj]. `layers`: blocks to adapt, counted from 1; None for all. `rslora` scales by alpha / sqrt(rank)
    instead of alpha / rank, `dora` learns the magnitude of each weight row separately from its direction.
    """

    rank: PositiveInt = 8
    alpha: PositiveInt = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    targets: Literal["all"] | list[str] = "all"
    layers: list[PositiveInt] | None = None
    rslora: bool = False
    dora: bool = False


@dataclass(frozen=True, config=_STRICT)
class FinetuneSettings:
    """All weights of the backbone are trained, at `train.backbone_lr`, and saved with the run.

    `drop_path`: in training, the probability of dropping a residual branch (attention or MLP) for a sample; MedDINOv3
    uses 0.2. `rope_rescale`: whether a DINOv3 ViT multiplies its position codes by a random factor in training, as in
    its pretraining; MedDINOv3 does not. `layer_norm_eps`: epsilon of its layer norms, None for that of the weights
    (1e-5 for DINOv3); MedDINOv3's is 1e-6.
    """

    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    rope_rescale: bool = True
    layer_norm_eps: PositiveFloat | None = None


@dataclass(frozen=True, config=_STRICT)
class ModelSettings:
    """Segmenter, and the backbone and guide beside it (None for a plain network).

    The backbone is frozen, unless `lora` adapts it or `finetune` trains all its weights.
    """

    segmenter: ComponentSettings = field(default_factory=lambda: ComponentSettings("nnwnet"))
    backbone: ComponentSettings | None = None
    lora: LoraSettings | None = None
    finetune: FinetuneSettings | None = None
    guide: GuideSettings | None = None


@dataclass(frozen=True, config=_STRICT)
class DataSettings:
    """The data and the grid that images are resampled to.

    `resize`: "stretch" resizes the whole image to `image_size` x `image_size` (the paper), "shorter" resizes the
    shorter side to `image_size` and keeps the aspect ratio, "none" keeps native pixels. If the image is then larger
    than `image_size`, training takes random crops and prediction slides windows of that size over the same grid.
    """

    root: str | None = None
    image_size: PositiveInt = 256
    resize: Literal["stretch", "shorter", "none"] = "stretch"
    fold: int | None = None
    augment: Literal["none", "light", "nnunet", "guidino"] = "nnunet"
    foreground_crops: NonNegativeFloat = 0.33
    cache_gb: NonNegativeFloat = 2.0


@dataclass(frozen=True, config=_STRICT)
class TrainSettings:
    """The optimisation. Defaults: epochs, batch size and learning rate of the GuiDINO paper, the rest nnU-Net's.

    `loss` is the weight of each term; `guide` is the binary cross-entropy of the paper's equation 3, `guide_mse` the
    mean squared error of the authors' code. Pixel terms apply to every logits level with weights 1, 1/2, 1/4, ...
    normalised to 1 (SAM2-UNet: all alike).

    `precision` "auto" is bf16 or fp16 on a GPU, full on a CPU; bf16 is fast on those with AMX. `channels_last` is
    the memory format of the segmenter's weights and maps, "auto" if it is faster. `compile` compiles the segmenter
    with torch: minutes at the start, then steps up to a tenth faster; a failure is reported and training continues.

    `save_minutes` is the interval between checkpoints within a long epoch; 0 for none.

    `dense_cache_gb` is the main memory per process for cached features of a frozen backbone, of images that are the
    same in every epoch: those of validation and, without augmentation, those of training. Results do not change.
    `dense_cache: disk` caches them in half-precision files instead, which other runs can use: in `dense_cache_folder`
    (by default guidino/features in the user's cache), up to `dense_cache_disk_gb`, in 10^9 bytes.

    `backbone_lr` is the learning rate of a backbone with `model.finetune`, None for `lr`. `betas` and `eps` are
    AdamW's; `poly_power` is the exponent of the schedule "poly", 1 for a linear decay. `final_lr` is the learning rate
    at the end of "poly" or "cosine".

    `sync_batch_norm`: batch normalisation over the images of all processes; "auto" if several train on GPUs.
    `deterministic` uses only torch algorithms with bitwise reproducible results, which is slower.

    `shard_backbone` splits a frozen backbone over the processes of a machine, which gather it block by block in every
    forward pass: less memory, more time. Results do not change.

    `patience` ends training that many epochs after the best one if validation Dice has not improved since; 0 trains
    all `epochs`, for which the schedule is made in any case.

    `class_weights` are weights of the classes in the cross-entropy, background first; None weighs all the same. The
    mean is over the weights of the pixels, as in torch.

    `trackers` also receive the metrics of every epoch; their files are in the run folder. `profile` is the last step of
    the first epoch to profile, from the third on; 0 for none.
    """

    epochs: PositiveInt = 400
    batch_size: PositiveInt = 4
    lr: PositiveFloat = 1e-4
    lora_lr: PositiveFloat = 5e-4
    backbone_lr: PositiveFloat | None = None
    freeze_heads: bool = False
    checkpointing: bool = False
    optimizer: Literal["adamw", "sgd"] = "adamw"
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] = field(
        default_factory=lambda: [0.9, 0.999]
    )
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 1e-4
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    poly_power: PositiveFloat = 0.9
    final_lr: NonNegativeFloat = 0.0
    warmup_epochs: NonNegativeFloat = 0.0
    clip_norm: PositiveFloat = 12.0
    accumulate: PositiveInt = 1
    precision: Literal["no", "bf16", "fp16", "auto"] = "auto"
    channels_last: Literal["auto", True, False] = "auto"
    compile: bool = False
    sync_batch_norm: Literal["auto", True, False] = "auto"
    deterministic: bool = False
    shard_backbone: bool = False
    trackers: list[Literal["tensorboard", "wandb", "mlflow"]] = field(default_factory=list)
    profile: NonNegativeInt = 0
    validate_every: PositiveInt = 1
    patience: NonNegativeInt = 0
    workers: NonNegativeInt = 0
    save_minutes: NonNegativeFloat = 15.0
    dense_cache: Literal["memory", "disk"] = "memory"
    dense_cache_gb: NonNegativeFloat = 2.0
    dense_cache_disk_gb: NonNegativeFloat = 20.0
    dense_cache_folder: str | None = None
    loss: dict[str, NonNegativeFloat] = field(default_factory=lambda: {"dice": 1.0, "cross_entropy": 1.0})
    class_weights: list[PositiveFloat] | None = None


@dataclass(frozen=True, config=_STRICT)
class PredictSettings:
    """Sliding windows of `data.image_size` with Gaussian weights; `mirror` averages over the four flips.

    `mirror_backbone`: "each" runs the backbone on every flip, "once" runs it on the image and flips its maps, which is
    faster but not equivalent. `memory_gb`: an image whose probabilities need more, in 10^9 bytes, is predicted in
    strips; the mask is the same.
    """

    overlap: NonNegativeFloat = 0.5
    mirror: bool = True
    mirror_backbone: Literal["each", "once"] = "each"
    batch_size: PositiveInt = 4
    memory_gb: PositiveFloat = 4.0


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """All settings of a run; saved as `config.yaml` in its folder.

    `paper` is the row of the GuiDINO paper's tables that a preset reproduces.
    """

    description: str = ""
    paper: str = ""
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    predict: PredictSettings = field(default_factory=PredictSettings)
    seed: NonNegativeInt = 0


def presets_folder() -> Path:
    """Folder of the packaged presets: inside the package when installed, beside it in a checkout."""
    inside = Path(__file__).parent / "presets"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "presets"


def preset_names() -> list[str]:
    """Names of the packaged presets, sorted."""
    return list_presets(presets_folder())


def load_preset(preset: str, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a preset by name or path and apply `a.b=c` overrides.

    Raises:
        ConfigError: Unknown preset, unreadable file, unknown key or unusable value; the message names the key.
    """
    return load_config(find_preset(preset, presets_folder(), kind="preset"), overrides, label=preset)


def load_config(path: Path, overrides: Iterable[str] = (), *, label: str | None = None) -> RunConfig:
    """Read a configuration file and apply `a.b=c` overrides; see `load_preset` for the errors."""
    return parse_config(read_settings(path, overrides, example="'train: {lr: 1e-4}'"), label=label or str(path))


def parse_config(settings: Mapping[str, Any], *, label: str = "settings") -> RunConfig:
    """Check a nested mapping and make it a `RunConfig`."""
    config = validate_settings(RunConfig, settings, label=label)
    if config.model.guide is not None and config.model.backbone is None:
        raise ConfigError(f"{label}: model.guide needs a model.backbone to draw tokens from")
    _check_trainable_parts(config, label)
    _check_patience(config, label)
    _check_class_weights(config, label)
    if not 0 <= config.predict.overlap < 1:
        raise ConfigError(f"{label}: predict.overlap is {config.predict.overlap}, expected 0 <= overlap < 1")
    return config


def _check_trainable_parts(config: RunConfig, label: str) -> None:
    """Refuse settings of a trainable backbone if it is frozen, and LoRA together with finetuning."""
    model, train = config.model, config.train
    ways = [name for name in ("lora", "finetune") if getattr(model, name) is not None]
    if len(ways) > 1:
        raise ConfigError(f"{label}: model.lora keeps the backbone's weights, model.finetune trains them: choose one")
    if ways and model.backbone is None:
        raise ConfigError(f"{label}: model.{ways[0]} needs a model.backbone to adapt")
    if model.lora is not None and train.optimizer != "adamw":
        raise ConfigError(f"{label}: model.lora needs train.optimizer=adamw, found {train.optimizer}")
    if train.freeze_heads and model.lora is None:
        raise ConfigError(f"{label}: train.freeze_heads needs an adapted backbone: set model.lora, or leave it out")
    if train.checkpointing and not ways:
        raise ConfigError(
            f"{label}: train.checkpointing needs a trainable backbone: set model.lora or model.finetune, or leave "
            "it out"
        )
    if train.shard_backbone and (ways or model.backbone is None):
        found = f"model.{ways[0]} trains it" if ways else "there is no model.backbone"
        raise ConfigError(f"{label}: train.shard_backbone needs a frozen backbone, but {found}: set it to false")
    rates = {"train.lr": train.lr, "train.backbone_lr": train.backbone_lr or train.lr}
    rates |= {"train.lora_lr": train.lora_lr} if model.lora is not None else {}
    lowest = min(rates, key=rates.__getitem__)
    if train.final_lr > rates[lowest]:
        raise ConfigError(
            f"{label}: train.final_lr is {train.final_lr:g}, expected at most {lowest} ({rates[lowest]:g}), where the "
            "schedule begins"
        )
    if train.final_lr and train.schedule == "constant":
        raise ConfigError(f"{label}: train.final_lr needs a schedule that falls: set train.schedule=cosine or poly")
    if train.backbone_lr is not None and model.finetune is None:
        raise ConfigError(
            f"{label}: train.backbone_lr needs a finetuned backbone: set model.finetune={{}}, or leave it out"
        )


def _check_patience(config: RunConfig, label: str) -> None:
    """Refuse a patience that can never end the run, or that ends it before it could improve."""
    patience, epochs, every = config.train.patience, config.train.epochs, config.train.validate_every
    if patience >= epochs:
        raise ConfigError(
            f"{label}: train.patience is {patience}, but the run has {pluralize(epochs, 'epoch')}, so it would never "
            f"stop early; give fewer than {epochs}, or 0 to train all of them"
        )
    if 0 < patience < every:
        raise ConfigError(
            f"{label}: train.patience is {patience}, but validation takes place every {every} epochs "
            f"(train.validate_every); give {every} or more"
        )


def _check_class_weights(config: RunConfig, label: str) -> None:
    """Refuse class weights without effect; their number is compared with the classes of the data later."""
    if config.train.class_weights is not None and config.train.loss.get("cross_entropy", 0) == 0:
        raise ConfigError(
            f"{label}: train.class_weights weigh the cross-entropy, which train.loss does not have; add "
            "cross_entropy: 1 to it, or leave class_weights out"
        )


def override(config: RunConfig, overrides: Iterable[str]) -> RunConfig:
    """A copy of a configuration with `a.b=c` overrides applied."""
    settings = asdict(config)
    apply_overrides(settings, overrides)
    return parse_config(settings)


def dump_config(config: RunConfig) -> str:
    """The configuration as YAML, every setting spelled out."""
    return to_yaml(config)
