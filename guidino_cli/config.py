"""Settings of a run as dataclasses: defaults, overridden by a preset, overridden by `--set a.b=c`; validated once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)
from pydantic.dataclasses import dataclass

from guidino_cli.config_checks import check_combinations
from guidino_cli.inheritance import MergedPreset, read_preset
from guidino_cli.settings import apply_overrides, list_presets, read_settings, to_yaml, validate_settings
from guidino_cli.types import LARGEST_SEED

_STRICT = ConfigDict(extra="forbid")
_EXAMPLE = "'train: {lr: 1e-4}'"

IntensityKind = Literal["auto", "ct", "percentile", "zscore", "window", "windows", "suv"]
_Pair = Annotated[list[float], Field(min_length=2, max_length=2)]


def _check_dims(value: float) -> float:
    if value not in (2, 2.5, 3):
        raise ValueError("expected 2, 2.5 or 3")
    return int(value) if value == int(value) else value


Dims = Annotated[float, AfterValidator(_check_dims)]
"""2, 2.5 or 3."""


@dataclass(frozen=True, config=_STRICT)
class ComponentSettings:
    """Name of a registered component and keyword arguments of its constructor.

    Attributes:
        name: Name of the part; `guidino models` lists the segmenters, docs/backbones.md the backbones.
        options: Options of the part itself; `guidino models NAME` shows those of a segmenter.
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, config=_STRICT)
class GuideSettings:
    """The guide, which turns backbone tokens into a map, and the features that the map gates.

    Attributes:
        name: Name of the guide.
        at: What the guide multiplies: "input" the normalised image (GuiDINO-W), "bottleneck" the deepest map
            (GuiDINO-U), "features" every map of the encoder. With "logits" nothing is multiplied: the guide's logit,
            times a learned factor that starts at 1, is added to the network's own logits, which start at 0
            (guided-filter has no logits of its own). With "channels" the guide's logit is a further channel of the
            segmenter's input.
        fit: "gradient" trains the guide with the network. "closed-form" fits it before the first epoch by a ridge
            regression on the tokens of all training images, and freezes it; each training image gets a guide that was
            fitted without its fifth of the images. For guide ridge and a frozen backbone.
        tokens: Further channels of the segmenter's input, to which a learned 1x1 convolution reduces the tokens; the
            guide's logits are added to them, one channel per map. For `at` logits or channels and `fit` closed-form; 0
            for none.
        residual: Multiply by 1 + guide instead of the guide.
        per_class: Make one map per foreground class of the data, each with its own target; the gate is their maximum.
        options: Options of the guide, such as `prototypes` and `aggregate`.
        from_run: Folder of a trained run, for example on slices, whose guide is used, frozen; options and backbone must
            be the same. null trains a guide.
    """

    name: str = "tokenbook"
    at: Literal["input", "bottleneck", "features", "logits", "channels"] = "input"
    fit: Literal["gradient", "closed-form"] = "gradient"
    tokens: NonNegativeInt = 0
    residual: bool = False
    per_class: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    from_run: str | None = None


@dataclass(frozen=True, config=_STRICT)
class LoraSettings:
    """Low-rank updates of the backbone's projections. Defaults: the GuiDINO paper's code, except `targets`.

    Attributes:
        rank: Rank r of the updates.
        alpha: Updates are multiplied by alpha / rank.
        dropout: Dropout of the input of an update, in training.
        targets: "all" is every attention and MLP projection of the backbone's blocks; a list names some, such as
            [q_proj, v_proj].
        layers: Blocks to adapt, counted from 1; null for all.
        rslora: Multiply by alpha / sqrt(rank) instead of alpha / rank.
        dora: Learn the magnitude of each weight row separately from its direction.
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

    Attributes:
        drop_path: Probability, in training, of dropping a residual branch (attention or MLP) for a sample; MedDINOv3
            uses 0.2.
        rope_rescale: Whether a DINOv3 ViT multiplies its position codes by a random factor in training, as in its
            pretraining; MedDINOv3 does not.
        layer_norm_eps: Epsilon of its layer norms; null for that of the weights (1e-5 for DINOv3). MedDINOv3's is 1e-6.
    """

    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    rope_rescale: bool = True
    layer_norm_eps: PositiveFloat | None = None


@dataclass(frozen=True, config=_STRICT)
class ModelSettings:
    """Segmenter, backbone and guide.

    The backbone is frozen, unless `lora` adapts it or `finetune` trains all its weights.

    Attributes:
        target: "classes" learns the class of each pixel. "affinities" learns, along each axis, whether a pixel belongs
            to the instance of the pixel before it; prediction makes instances of them (`predict.instances`).
        segmenter: The network that predicts the mask.
        backbone: The pretrained network that the guide, or the segmenter, reads; null for a plain network.
        lora: Adapt the backbone by LoRA; {} for the defaults, null to keep it frozen.
        finetune: Train the whole backbone; {} for the defaults, null to keep it frozen.
        guide: The guide made of the backbone's tokens; null for none.
        backbone_channels: The three channels of the image, counted from 0, that the backbone sees as red, green and
            blue. null: a single channel three times, [0, 1, 1] of two, [0, 1, 2] of more, and the middle three of
            neighbouring slices.
        reduction: Factor by which the image is downsampled (averaged) for the segmenter; its logits are interpolated
            back. The backbone sees the full size. Not for patches of volumes.
    """

    segmenter: ComponentSettings = field(default_factory=lambda: ComponentSettings("nnwnet"))
    backbone: ComponentSettings | None = None
    lora: LoraSettings | None = None
    finetune: FinetuneSettings | None = None
    guide: GuideSettings | None = None
    backbone_channels: Annotated[list[NonNegativeInt], Field(min_length=3, max_length=3)] | None = None
    reduction: PositiveInt = 1
    target: Literal["classes", "affinities"] = "classes"


@dataclass(frozen=True, config=_STRICT)
class DataSettings:
    """The data and the grid that images are resampled to.

    Attributes:
        root: Folder made by `guidino prepare`; `--data` sets it.
        image_size: Side in pixels of the squares that the network is trained on; a multiple of the network's stride.
        resize: "stretch" resizes the whole image to `image_size` x `image_size` (the paper). "longer" resizes the
            longer side to `image_size`, keeps the aspect ratio and pads with black, which does not count in training.
            "shorter" resizes the shorter side and keeps the aspect ratio, "none" keeps native pixels: if the image is
            then larger than `image_size`, training takes random crops, and prediction slides windows of that size over
            it. For volumes this applies to each slice (dims 2 and 2.5); patches (dims 3) are never resized.
        fold: Fold to validate on, for data with folds; null for the part val. `--folds` sets it.
        augment: Augmentation of the training images: "nnunet" is nnU-Net 2.8.1's, "nnunet-0.1" guidino 0.1.0's version
            of it, "guidino" that of the GuiDINO authors. "light" mirrors and changes brightness. "mirror" mirrors left
            to right and changes contrast, brightness and colour; "dihedral" also uses quarter turns. With these two a
            frozen backbone sees each image once for all epochs, and its maps are mirrored and turned.
        foreground_crops: Share of the random crops that are centred on a foreground pixel. For volumes, share of every
            batch that must show foreground, as in nnU-Net.
        cache_gb: Main memory for decoded images, in 10^9 bytes per process or worker.
        ignore_label: Value in the prepared masks of pixels that are left out of losses and validation; by default the
            one with which the data was prepared (`prepare --ignore-label`), if any.
        dims: Input from volumes: 2 for single slices, 2.5 for a slice with its neighbours as channels, 3 for patches.
            Always 2 for images.
        slab: Number of slices in the input of dims 2.5.
        slice_axis: Axis across which volumes are cut into slices, and the first axis of a patch: z runs from the feet
            up, y from front to back, x from right to left. "auto" is the axis with the largest spacing.
        patch_size: Slices, rows and columns of a patch (dims 3); null for `image_size` along each axis.
        intensity: Mapping of the intensities of volumes, for all channels or as a list with one for each: "ct" by the
            0.5 and 99.5 percentiles of the training foreground, "percentile" by those of the volume, "zscore" as
            nnU-Net, "window", "windows", "suv". "auto" follows the name of the channel: ct for CT, suv for PET, else
            percentile.
        window: Level and width of `intensity: window`, in HU for CT.
        windows: Levels and widths of `intensity: windows`, which makes three channels.
        suv: Lower and upper limit of `intensity: suv`.
    """

    root: str | None = None
    image_size: PositiveInt = 256
    resize: Literal["stretch", "longer", "shorter", "none"] = "stretch"
    fold: int | None = None
    augment: Literal["none", "light", "mirror", "dihedral", "nnunet", "guidino", "nnunet-0.1"] = "nnunet"
    foreground_crops: NonNegativeFloat = 0.33
    ignore_label: NonNegativeInt | None = None
    cache_gb: NonNegativeFloat = 2.0
    dims: Dims = 2
    slab: Literal[3, 5, 7] = 3
    slice_axis: Literal["auto", "z", "y", "x"] = "auto"
    patch_size: Annotated[list[PositiveInt], Field(min_length=3, max_length=3)] | None = None
    intensity: IntensityKind | list[IntensityKind] = "auto"
    window: _Pair = field(default_factory=lambda: [40.0, 400.0])
    windows: Annotated[list[_Pair], Field(min_length=3, max_length=3)] = field(
        default_factory=lambda: [[-600.0, 1500.0], [40.0, 400.0], [400.0, 1800.0]]
    )
    suv: _Pair = field(default_factory=lambda: [0.0, 20.0])


@dataclass(frozen=True, config=_STRICT)
class TrainSettings:
    """The optimisation. Defaults: epochs, batch size and learning rate of the GuiDINO paper, the rest nnU-Net's.

    Attributes:
        epochs: Passes over the training cases; for volumes, multiples of `steps`.
        min_steps: Smallest number of optimisation steps of a new run on images. If `epochs` gives fewer, the run has
            more epochs, and a proportionally longer warm-up; 0 for none.
        steps: Optimisation steps per epoch on volumes; 0 for nnU-Net's 250. An epoch of images uses each image once.
        batch_size: Images, slices or patches per batch, on each process.
        lr: Learning rate at the start, for everything except the backbone.
        lora_lr: Learning rate of the adapter, with `model.lora`.
        backbone_lr: Learning rate of a backbone with `model.finetune`; null for `lr`.
        freeze_heads: Train the adapter only; guide and segmenter are frozen.
        checkpointing: Recompute the activations of a trained backbone in the backward pass: less memory, more time.
        optimizer: AdamW, or SGD with Nesterov momentum 0.99.
        betas: AdamW's decay rates of the two moments.
        eps: AdamW's epsilon.
        weight_decay: Weight decay.
        schedule: Decay of the learning rate after the warm-up: by a power of the remaining steps, along half a cosine,
            or none.
        poly_power: Exponent of the schedule "poly"; 1 for a linear decay.
        final_lr: Learning rate at the end of "poly" or "cosine".
        warmup_epochs: Epochs in which the learning rate rises from 0.
        clip_norm: Largest norm of the gradient; larger gradients are scaled down.
        accumulate: Batches whose gradients are accumulated for a step.
        precision: "auto" is bf16 or fp16 on a GPU, and full precision on a CPU; bf16 is fast on CPUs with AMX.
        channels_last: Memory format of the segmenter's weights and maps; "auto" if it is faster.
        compile: Compile the segmenter with torch: minutes at the start, then steps up to a tenth faster. A failure is
            reported and training continues.
        sync_batch_norm: Batch normalisation over the images of all processes; "auto" if several train on GPUs.
        deterministic: Use only torch algorithms with bitwise reproducible results, which is slower.
        shard_backbone: Split a frozen backbone over the processes of a machine, which gather it block by block in every
            forward pass: less memory, more time. Results do not change.
        trackers: Trackers that also receive the metrics of every epoch; their files are in the run folder.
        profile: Last step of the first epoch to profile, from the third on; 0 for none.
        validate_every: Epochs between validations; the last epoch is always validated.
        patience: End training if validation Dice has not improved for this many epochs; 0 trains all `epochs`. The
            schedule is always that of `epochs`.
        workers: Processes that load images; 0 loads them in the training process.
        save_minutes: Minutes between checkpoints within a long epoch; 0 for none.
        dense_cache: Where features of a frozen backbone are cached, for images that are the same in every epoch: those
            of validation, and those of training with `data.augment` none, mirror or dihedral. "memory" gives identical
            results; "disk" uses half-precision files, which other runs can use. Patches of volumes (dims 3) need
            "disk", no augmentation, and rows and columns that cover all training volumes.
        dense_cache_gb: Main memory per process for cached features, in 10^9 bytes; 0 for none.
        dense_cache_disk_gb: Disk space for cached features, in 10^9 bytes.
        dense_cache_folder: Folder of the cache on disk; null for guidino/features in the user's cache.
        loss: Weight of each loss term. `guide` is the binary cross-entropy of the paper's equation 3, `guide_mse` the
            mean squared error of the authors' code. Pixel terms apply to every level of logits with weights 1, 1/2,
            1/4, ... normalised to sum to 1 (SAM2-UNet: equal weights). `affinities` is the only term for `model.target:
            affinities`.
        class_weights: Weights of the classes in the cross-entropy, background first; null for equal weights. As in
            torch, the loss is divided by the sum of the weights of the pixels.
    """

    epochs: PositiveInt = 400
    min_steps: NonNegativeInt = 0
    steps: NonNegativeInt = 0
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

    def with_epochs(self, epochs: int) -> TrainSettings:
        """The same with another number of epochs, and a warm-up as much longer or shorter."""
        return replace(self, epochs=epochs, warmup_epochs=self.warmup_epochs * epochs / self.epochs)


@dataclass(frozen=True, config=_STRICT)
class PredictSettings:
    """Sliding windows of `data.image_size`, or of `data.patch_size` with dims 3, with Gaussian weights.

    Attributes:
        overlap: Share of a window that overlaps the next one, in [0, 1).
        mirror: Average over flips along the axes that training mirrored: four flips of an image or slice, eight of a
            patch; only x after `data.augment: mirror`, none after `none`. A list of some of [z, y, x] (for images [y,
            x]) is used whatever training did.
        mirror_backbone: "each" runs the backbone on every flip, "once" runs it on the image and flips its maps, which
            is faster but not equivalent.
        batch_size: Windows predicted at once.
        memory_gb: An image whose probabilities need more memory, in 10^9 bytes, is predicted in strips; the mask is the
            same.
        instances: Method that makes instances of `model.target: affinities`: "watershed" merges fragments by their mean
            affinity (scikit-image), "waterz" by the median (pip install 'guidino[em]').
        threshold: Affinity above which fragments are merged, between 0 and 1; null for the one chosen on the validation
            cases.
        min_size: Instances of fewer pixels or voxels become background.
        precision: Precision of prediction, and of validation in training. "auto" is that of training, which the run
            records, so that masks are computed as they were validated; full precision on a device that lacks it.
    """

    overlap: NonNegativeFloat = 0.5
    mirror: bool | list[Literal["z", "y", "x"]] = True
    mirror_backbone: Literal["each", "once"] = "each"
    batch_size: PositiveInt = 4
    memory_gb: PositiveFloat = 4.0
    instances: Literal["watershed", "waterz"] = "watershed"
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    min_size: NonNegativeInt = 0
    precision: Literal["no", "bf16", "fp16", "auto"] = "auto"


@dataclass(frozen=True, config=_STRICT)
class RunConfig:
    """All settings of a run; saved as `config.yaml` in its folder.

    Attributes:
        description: Description in one line.
        paper: Row of the GuiDINO paper's tables that a preset reproduces.
        model: The networks.
        data: The data, and how images are resized.
        train: The optimisation.
        predict: Prediction of whole images and volumes.
        seed: Seed of initial weights, order of cases, crops and augmentation.
    """

    description: str = ""
    paper: str = ""
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    train: TrainSettings = field(default_factory=TrainSettings)
    predict: PredictSettings = field(default_factory=PredictSettings)
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0

    def is_made_from(self, wanted: RunConfig) -> bool:
        """Whether a run of `wanted` has these settings: the same, or more epochs for its `train.min_steps`."""
        if wanted.train.min_steps and self.train.epochs > wanted.train.epochs:
            wanted = replace(wanted, train=wanted.train.with_epochs(self.train.epochs))
        return self == wanted

    @property
    def mirror(self) -> bool | list[Literal["z", "y", "x"]]:
        """`predict.mirror` as it applies to images; see `mirror_along`."""
        return self.mirror_along("yx")

    def mirror_along(self, names: str) -> bool | list[Literal["z", "y", "x"]]:
        """`predict.mirror` as it applies: a network that never saw a mirrored image may segment nothing in one.

        Args:
            names: Axes of a window, such as "yx". `data.augment: mirror` mirrors the last one, left to right.
        """
        wanted = self.predict.mirror
        if wanted is True and self.data.augment == "mirror":
            last: Any = names[-1]
            return [last]
        return wanted if isinstance(wanted, list) else wanted and self.data.augment != "none"


def presets_folder() -> Path:
    """Folder of the packaged presets: inside the package when installed, beside it in a checkout."""
    inside = Path(__file__).parent / "presets"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "presets"


def recipes_folder() -> Path:
    """Folder of the packaged recipes of `guidino bench`."""
    return presets_folder() / "bench"


def preset_names() -> list[str]:
    """Names of the packaged presets, sorted."""
    return list_presets(presets_folder())


def load_preset(preset: str, overrides: Iterable[str] = ()) -> RunConfig:
    """Read a preset by name or path with the bases that it names, and apply `a.b=c` overrides.

    Raises:
        ConfigError: Unknown preset or base, unreadable file, unknown key or unusable value; the message names the key.
    """
    merged = merge_preset(preset, overrides)
    return parse_config(merged.settings, label=merged.label)


def merge_preset(preset: str, overrides: Iterable[str] = ()) -> MergedPreset:
    """A preset over its bases and under overrides, not validated; see `read_preset` for origins and errors."""
    return read_preset(preset, presets_folder(), kind="preset", example=_EXAMPLE, overrides=overrides)


def load_config(path: Path, overrides: Iterable[str] = (), *, label: str | None = None) -> RunConfig:
    """Read a configuration file and apply `a.b=c` overrides; see `load_preset` for the errors."""
    return parse_config(read_settings(path, overrides, example=_EXAMPLE), label=label or str(path))


def parse_config(settings: Mapping[str, Any], *, label: str = "settings") -> RunConfig:
    """Check a nested mapping and make it a `RunConfig`."""
    config = validate_settings(RunConfig, settings, label=label)
    check_combinations(config, label)
    return config


def override(config: RunConfig, overrides: Iterable[str], *, label: str = "settings") -> RunConfig:
    """A copy of a configuration with `a.b=c` overrides applied; `label` names it in errors."""
    settings = asdict(config)
    apply_overrides(settings, overrides)
    return parse_config(settings, label=label)


def dump_config(config: RunConfig) -> str:
    """The configuration as YAML, every setting spelled out."""
    return to_yaml(config)
