"""Settings of a run: defaults, then a preset, then `--set a.b=c`, checked once before anything slow starts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_type_hints

import yaml
from pydantic import (
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from guidino_cli.errors import ConfigError, nearest, unknown

_STRICT = ConfigDict(extra="forbid")

C = TypeVar("C")


@dataclass(frozen=True, config=_STRICT)
class Part:
    """A registered part and the keyword arguments of its constructor."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, config=_STRICT)
class GuideSettings:
    """How tokens become a guide map, and what the map gates.

    `at`: "input" multiplies the normalised image (GuiDINO-W), "bottleneck" the deepest map (GuiDINO-U), "features"
    every map of the encoder. `residual` multiplies by 1 + guide instead of the guide. `per_class` makes one map a
    foreground class of the data, each with its own target; the largest of them gates.
    """

    name: str = "tokenbook"
    at: Literal["input", "bottleneck", "features"] = "input"
    residual: bool = False
    per_class: bool = False
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, config=_STRICT)
class LoraSettings:
    """Low-rank updates of the backbone's projections. Defaults: the GuiDINO paper's code, but for `targets`.

    `targets`: "all" is every attention and MLP projection of the backbone's blocks; a list names some, such as
    [q_proj, v_proj]. `layers`: blocks to adapt, counted from 1; None for all. `rslora` scales by alpha / sqrt(rank)
    instead of alpha / rank, `dora` learns the length of each weight's rows apart from its direction.
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
    """All weights of the backbone learn, at `train.backbone_lr`, and the run keeps them itself.

    `drop_path`: in training, the chance that a half of a block (attention or MLP) is left out for a sample; MedDINOv3
    takes 0.2.
    """

    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0


@dataclass(frozen=True, config=_STRICT)
class ModelSettings:
    """Segmenter, and the backbone and guide beside it (None for a plain network).

    The backbone is frozen, unless `lora` adapts it or `finetune` has it learn whole.
    """

    segmenter: Part = field(default_factory=lambda: Part("nnwnet"))
    backbone: Part | None = None
    lora: LoraSettings | None = None
    finetune: FinetuneSettings | None = None
    guide: GuideSettings | None = None


@dataclass(frozen=True, config=_STRICT)
class DataSettings:
    """Where the cases are and in which grid the network sees them.

    `resize`: "stretch" squeezes the whole image to `image_size` x `image_size` (the paper), "shorter" brings the
    shorter side to `image_size` and keeps the aspect ratio, "none" keeps native pixels. Where an image is then larger
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

    `loss` gives each term its weight; `guide` is the binary cross-entropy of the paper's equation 3, `guide_mse` the
    mean squared error of the authors' code. Pixel terms apply to every logits level with weights 1, 1/2, 1/4, ...
    normalised to 1.

    `precision` "auto" is bf16 or fp16 on a GPU, full on a CPU; bf16 is fast on those with AMX. `channels_last` is
    the order of the segmenter's weights and maps in memory, "auto" where it is faster. `compile` has torch compile the
    segmenter: minutes at the start, then steps up to a tenth faster; on failure it says why and goes on without.

    `save_minutes` is how often the state is saved within an epoch, for epochs that take longer; 0 for never.

    `dense_cache_gb` is the main memory, for each process, in which what a frozen backbone says about images that come
    again every epoch is kept: those of validation, and without augmentation those of training. Results do not change.
    `dense_cache: disk` keeps it in files of half precision instead, for other runs too: in `dense_cache_folder` (by
    default guidino/features in the user's cache), until there are `dense_cache_disk_gb`, in 10^9 bytes.

    `backbone_lr` is the learning rate of a backbone that learns whole (`model.finetune`), None for `lr`. `betas` are
    AdamW's; `poly_power` is the exponent of the schedule "poly", 1 for a straight line.

    `sync_batch_norm`: batch normalisation over the images of all processes; "auto" where several train on GPUs.
    `deterministic` has torch take only algorithms that give the same bits every time, which costs time.

    `shard_backbone` splits a frozen backbone over the processes of a machine, which gather it block by block whenever
    it sees images: memory for time. Results do not change.

    `trackers` are told every epoch's numbers too; their files lie in the run folder. `profile` writes what the steps
    from the third to this one of the first epoch spent their time on; 0 for none.
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
    weight_decay: NonNegativeFloat = 1e-4
    schedule: Literal["poly", "cosine", "constant"] = "poly"
    poly_power: PositiveFloat = 0.9
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
    workers: NonNegativeInt = 0
    save_minutes: NonNegativeFloat = 15.0
    dense_cache: Literal["memory", "disk"] = "memory"
    dense_cache_gb: NonNegativeFloat = 2.0
    dense_cache_disk_gb: NonNegativeFloat = 20.0
    dense_cache_folder: str | None = None
    loss: dict[str, NonNegativeFloat] = field(default_factory=lambda: {"dice": 1.0, "cross_entropy": 1.0})


@dataclass(frozen=True, config=_STRICT)
class PredictSettings:
    """Sliding windows of `data.image_size` with Gaussian weights; `mirror` averages over the four flips.

    `mirror_backbone`: "each" shows every flip to the backbone, "once" shows it the image and flips its maps, which is
    faster and not the same. `memory_gb`: an image whose probabilities would need more, in 10^9 bytes, is done strip by
    strip; the mask is the same.
    """

    overlap: NonNegativeFloat = 0.5
    mirror: bool = True
    mirror_backbone: Literal["each", "once"] = "each"
    batch_size: PositiveInt = 4
    memory_gb: PositiveFloat = 4.0


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """Everything that decides a run; saved as `config.yaml` in its folder.

    `paper` is the row of the GuiDINO paper's tables that a preset is meant to be.
    """

    description: str = ""
    paper: str = ""
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    predict: PredictSettings = field(default_factory=PredictSettings)
    seed: NonNegativeInt = 0


class _Loader(yaml.SafeLoader):
    """YAML in which `1e-4` is a number and `no` a word: PyYAML follows YAML 1.1, where it is text, and false."""


_BOOL = "tag:yaml.org,2002:bool"
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _BOOL]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)


def presets_folder() -> Path:
    """Folder of the packaged presets: inside the package when installed, beside it in a checkout."""
    inside = Path(__file__).parent / "presets"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "presets"


def preset_names() -> list[str]:
    """Names of the packaged presets, sorted."""
    return sorted(path.stem for path in presets_folder().glob("*.yaml"))


def load_preset(preset: str, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a preset by name or path and apply `a.b=c` overrides.

    Raises:
        ConfigError: Unknown preset, unreadable file, unknown key or unusable value; the message names the key.
    """
    path = Path(preset)
    if path.suffix not in {".yaml", ".yml"}:
        path = presets_folder() / f"{preset}.yaml"
        if preset not in preset_names():
            raise ConfigError(unknown("preset", preset, preset_names(), lister="guidino presets"))
    return load_config(path, overrides, label=preset)


def load_config(path: Path, overrides: Iterable[str] = (), *, label: str | None = None) -> RunConfig:
    """Read a configuration file and apply `a.b=c` overrides; see `load_preset` for the errors."""
    return parse(read_settings(path, overrides, example="'train: {lr: 1e-4}'"), label=label or str(path))


def read_settings(path: Path, overrides: Iterable[str] = (), *, example: str) -> dict[str, Any]:
    """The settings of a YAML file with `a.b=c` overrides, not checked yet; see `load_preset` for the errors."""
    try:
        settings = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: expected settings such as {example}, found {type(settings).__name__}")
    apply_overrides(settings, overrides)
    return settings


def checked(kind: type[C], settings: Mapping[str, Any], *, label: str) -> C:
    """A nested mapping as the dataclass that describes it; `ConfigError` with the keys that are wrong."""
    try:
        return TypeAdapter(kind).validate_python(dict(settings))
    except ValidationError as error:
        raise ConfigError(f"{label}: " + "; ".join(_line(detail, kind) for detail in error.errors())) from error


def parse(settings: Mapping[str, Any], *, label: str = "settings") -> RunConfig:
    """Check a nested mapping and make it a `RunConfig`."""
    config = checked(RunConfig, settings, label=label)
    if config.model.guide is not None and config.model.backbone is None:
        raise ConfigError(f"{label}: model.guide needs a model.backbone to draw tokens from")
    _check_what_learns(config, label)
    if not 0 <= config.predict.overlap < 1:
        raise ConfigError(f"{label}: predict.overlap is {config.predict.overlap}, expected 0 <= overlap < 1")
    return config


def _check_what_learns(config: RunConfig, label: str) -> None:
    """Refuse settings for a backbone that learns where it is frozen, and two ways of learning at once."""
    model, train = config.model, config.train
    ways = [name for name in ("lora", "finetune") if getattr(model, name) is not None]
    if len(ways) > 1:
        raise ConfigError(f"{label}: model.lora keeps the backbone's weights, model.finetune trains them: choose one")
    if ways and model.backbone is None:
        raise ConfigError(f"{label}: model.{ways[0]} needs a model.backbone to adapt")
    if model.lora is not None and train.optimizer != "adamw":
        raise ConfigError(f"{label}: model.lora needs train.optimizer=adamw, found {train.optimizer}")
    if train.freeze_heads and model.lora is None:
        raise ConfigError(f"{label}: train.freeze_heads is for an adapted backbone: set model.lora, or leave it out")
    if train.checkpointing and not ways:
        raise ConfigError(
            f"{label}: train.checkpointing is for a backbone that learns: set model.lora or model.finetune, or leave "
            "it out"
        )
    if train.shard_backbone and (ways or model.backbone is None):
        found = f"model.{ways[0]} has it learn" if ways else "there is no model.backbone"
        raise ConfigError(f"{label}: train.shard_backbone is for a frozen backbone, but {found}: set it to false")
    if train.backbone_lr is not None and model.finetune is None:
        raise ConfigError(
            f"{label}: train.backbone_lr is for a backbone that learns whole: set model.finetune={{}}, or leave it out"
        )


def override(config: RunConfig, overrides: Iterable[str]) -> RunConfig:
    """A copy of a configuration with `a.b=c` overrides applied."""
    settings = asdict(config)
    apply_overrides(settings, overrides)
    return parse(settings)


def dump(config: RunConfig) -> str:
    """The configuration as YAML, every setting spelled out."""
    return as_yaml(config)


def as_yaml(config: Any) -> str:
    """A configuration of any kind as YAML."""
    return yaml.safe_dump(_plain(asdict(config)), sort_keys=False, allow_unicode=True)


def _plain(value: Any) -> Any:
    """YAML has no tuples."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def apply_overrides(settings: dict[str, Any], overrides: Iterable[str]) -> None:
    """Apply `a.b=c` to a nested mapping, the names of parts first.

    Another part has other options, so those of the one before do not outlive it.
    """
    for override in sorted(overrides, key=lambda item: not item.partition("=")[0].endswith(".name")):
        _apply(settings, override)


def _apply(settings: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: expected key=value, such as train.epochs=3")
    *path, last = key.split(".")
    for name in path:
        settings = _inner(settings, name, override)
    try:
        parsed = yaml.load(value, Loader=_Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from error
    if isinstance(settings, list):
        _inner(settings, last, override)
        settings[int(last)] = parsed
        return
    if last == "name" and settings.get("name") != parsed:
        settings.pop("options", None)
    is_of_backbone = path[-2:] in (["backbone", "options"], ["student", "options"])
    if is_of_backbone and last in {"size", "weights"} and parsed is not None:
        # Both say which weights; the one that is set now replaces the other.
        settings.pop("size" if last == "weights" else "weights", None)
    settings[last] = parsed


def _inner(settings: Any, name: str, override: str) -> Any:
    """The section or the item of a list (`stages.0`) of that name; a section that is not there yet is made."""
    if isinstance(settings, list):
        if not name.isdigit() or int(name) >= len(settings):
            raise ConfigError(f"--set {override}: {name} is none of the {len(settings)} items, which count from 0")
        return settings[int(name)]
    if not isinstance(settings.get(name), dict | list):
        settings[name] = {}
    return settings[name]


def _line(detail: Any, kind: type) -> str:
    """One pydantic error as `train.lr: what is wrong`."""
    path = [str(part) for part in detail["loc"] if not str(part)[:1].isupper()]
    key = ".".join(path)
    if detail["type"] in {"unexpected_keyword_argument", "extra_forbidden"}:
        return f"{key}: " + _unknown_setting(path, _settings_at(path[:-1], kind), _all_settings(kind))
    if detail["type"] == "missing":
        return f"{key}: must be given"
    if detail["type"] in {"dataclass_type", "dataclass_exact_type"}:
        return f"{key}: expected settings such as {{}} for its defaults, found {detail['input']!r}"
    return f"{key}: {detail['msg'].lower()}, found {detail['input']!r}"


def _unknown_setting(path: list[str], here: list[str], everywhere: list[str]) -> str:
    """A line that names a setting of another section where the name is to be found there, such as `train.epochs`.

    Args:
        path: Of the setting that does not exist.
        here: The settings of its section.
        everywhere: Dotted paths of all settings.
    """
    name = path[-1]
    names = {place.rpartition(".")[2] for place in everywhere}
    meant = [name] if name in names else nearest(name, names, cutoff=0.75)
    if not meant or (name not in names and nearest(name, here, cutoff=0.5 if path[:-1] else 0.75)):
        return unknown("setting", name, here, lister="guidino presets NAME --resolved")
    places = [place for place in everywhere if place.rpartition(".")[2] == meant[0]]
    return f"unknown setting '{name}'; did you mean {' or '.join(map(repr, places))}?"


def _all_settings(section: Any, prefix: str = "") -> list[str]:
    """Dotted paths of all settings of a section and the sections in it."""
    found = []
    for name, hint in get_type_hints(section).items():
        found.append(f"{prefix}{name}")
        inner = next((kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)), None)
        found += _all_settings(inner, f"{prefix}{name}.") if inner is not None else []
    return found


def _settings_at(path: list[str], kind: type) -> list[str]:
    """Names of the settings in the section of a configuration at a dotted path."""
    section: Any = kind
    for name in path:
        if name.isdigit():
            continue
        hint = get_type_hints(section).get(name)
        section = next((kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)), None)
        if section is None:
            return []
    return [item.name for item in fields(section)]
