"""Facts of a model card: how the run was made, from which data, what it needs, and its limits."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guidino_cli.commands.card_licences import Licence, find_licences, name_source
from guidino_cli.commands.card_scores import ScoreTable
from guidino_cli.config import RunConfig
from guidino_cli.data.manifest import Manifest, load_manifest, manifest_sha256
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import UserError
from guidino_cli.json_files import read_json_object
from guidino_cli.models.pretrained.catalogue import KnownWeights, identify_weights
from guidino_cli.models.segmenters.registry import SEGMENTER_INFO
from guidino_cli.progress import pluralize

_FEW = 100


@dataclass(frozen=True)
class CardFacts:
    """Parts of the card, as sentences for lists where they are several; see `collect_facts`."""

    sentence: str
    classes: list[str]
    guidino: str
    example: str
    needs: str
    data: list[str]
    training: list[str]
    limits: list[str]
    licences: list[Licence]
    scores: list[ScoreTable] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    base_model: str = ""


def collect_facts(run: Path, scores: list[ScoreTable], *, holds_backbone: bool = False) -> CardFacts:
    """Read a run folder, and the manifest of its data if it is still there.

    Args:
        run: Run folder.
        scores: See `read_scores`.
        holds_backbone: Whether a frozen backbone is passed on with the run's weights.

    Raises:
        DataError: No run folder, or a damaged one.
    """
    folder = RunFolder(run)
    config, facts = folder.config(), folder.facts()
    manifest = _find_manifest(facts)
    known = _known_backbone(facts)
    name = config.model.segmenter.name
    is_volume = "volumes" in facts
    return CardFacts(
        sentence=_describe(config, facts, is_volume=is_volume),
        classes=facts["classes"],
        guidino=str(facts.get("guidino", "0.1.0")),
        example="scan.nii.gz" if is_volume else "image.png",
        needs=_needs(config, facts, known),
        data=_data(facts, manifest),
        training=_training(run, config, facts),
        limits=_limits(config, facts, manifest, has_scores=bool(scores)),
        licences=find_licences(config, facts, holds_backbone=holds_backbone),
        scores=scores,
        tags=list(
            dict.fromkeys([name.replace(":", "-"), *([config.model.backbone.name] if config.model.backbone else [])])
        ),
        base_model=known.repository if known else "",
    )


def _find_manifest(facts: dict[str, Any]) -> Manifest | None:
    """The manifest of the training data, if it is there and unchanged."""
    path = Path(facts["data"]["cases"])
    try:
        if path.is_file() and manifest_sha256(path) == facts["data"]["sha256"]:
            return load_manifest(path, takes_instances=True)
    except UserError:
        pass
    return None


def _known_backbone(facts: dict[str, Any]) -> KnownWeights | None:
    return identify_weights(facts["backbone"]["weights"]) if facts["backbone"] else None


def _describe(config: RunConfig, facts: dict[str, Any], *, is_volume: bool) -> str:
    key = config.model.segmenter.name.partition(":")[0]
    info = SEGMENTER_INFO.get(key)
    title = config.model.segmenter.name if info is None or ":" in config.model.segmenter.name else info.title
    paper = f" ({info.paper})" if info is not None and info.paper != "-" else ""
    guided = ""
    if config.model.guide is not None and config.model.backbone is not None:
        guided = f", guided (GuiDINO) at its {config.model.guide.at} by the backbone {config.model.backbone.name}"
    elif config.model.backbone is not None:
        guided = f" on the backbone {config.model.backbone.name}"
    objects = ", ".join(facts["classes"][1:])
    return f"{title}{paper}{guided}. It segments {objects} in {'volumes' if is_volume else 'images'}."


def _needs(config: RunConfig, facts: dict[str, Any], known: KnownWeights | None) -> str:
    backbone = config.model.backbone
    if backbone is None or "blueprint" in facts:
        return "The whole network is in `model.safetensors`; nothing else is needed."
    if backbone.name == "guidino-tiny":
        return "Its frozen backbone, guidino-tiny, comes with guidino."
    if backbone.name == "random":
        return "Its frozen backbone has random weights, which are drawn again from their seed."
    identity = facts["backbone"]
    if backbone.name == "embedded":
        return "Its frozen backbone is fetched once: `guidino weights download embedded`."
    weights = f"{name_source(identity['weights'])} (SHA-256 of its tensors {identity['sha256'][:16]}...)"
    if known is None:
        given = "--set model.backbone.options.weights=/path"
        return f"Its frozen backbone {weights} is **not in this folder**; name it with `{given}`."
    gate = ""
    if known.gated:
        copy = f", or `guidino weights download {known.name} --ungated`" if known.ungated_copy else ""
        gate = f" It is gated: accept its licence at https://huggingface.co/{known.repository} first{copy}."
    return f"Its frozen backbone {weights} is not in this folder; guidino downloads it once from the hub.{gate}"


def _data(facts: dict[str, Any], manifest: Manifest | None) -> list[str]:
    if manifest is None:
        digest = facts["data"]["sha256"][:16]
        return [f"no more is recorded than the SHA-256 of the list of cases, {digest}..."]
    counts = Counter(case.split for case in manifest.cases)
    noun = "volume" if manifest.is_volumes and not manifest.is_pictures else "image"
    parts = ", ".join(f"{counts[split]} for {use}" for split, use in _SPLITS.items() if counts[split])
    lines = [f"data set `{manifest.name}`: {pluralize(len(manifest.cases), noun)}, {parts}"]
    groups = {case.group for case in manifest.cases if case.group is not None}
    if manifest.source.get("group_by") and groups:
        lines.append(
            f"{pluralize(len(groups), 'group')} by `{manifest.source['group_by']}`, each in one part of the split"
        )
    sizes = sorted({case.size_hw for case in manifest.cases if case.size_hw is not None and noun == "image"})
    if sizes:
        smallest, largest = min(sizes, key=lambda item: item[0] * item[1]), max(sizes, key=lambda x: x[0] * x[1])
        text = f"{smallest[1]} x {smallest[0]}"
        lines.append(f"size in pixels: {text if smallest == largest else f'{text} to {largest[1]} x {largest[0]}'}")
    if manifest.channels:
        lines.append(f"channels: {', '.join(manifest.channels)}")
    if manifest.source.get("split_rule"):
        lines.append(f"split: {manifest.source['split_rule']}")
    return lines


_SPLITS = {"train": "training", "val": "validation", "test": "test"}


def _training(run: Path, config: RunConfig, facts: dict[str, Any]) -> list[str]:
    train, data = config.train, config.data
    trained, total = facts.get("parameters", [None, None])
    lines = [config.description] if config.description else []
    lines.append(
        f"{_input_size(config, facts)}, augmentation {data.augment}, {train.optimizer} with learning rate "
        f"{train.lr:g}, batch size {train.batch_size}"
    )
    if trained is not None:
        lines.append(f"{trained:,} weights were trained, of {total:,}")
    result = read_json_object(run / "result.json", hint="delete it") if (run / "result.json").is_file() else {}
    if "fewshot" in facts:
        lines.append(f"made from {pluralize(facts['fewshot'].get('labels', 0), 'labelled image')} in closed form")
    elif {"epoch", "epochs", "val_dice"} <= set(result):
        lines.append(
            f"epoch {result['epoch']} of {result['epochs']} was kept, the best by validation Dice "
            f"({result['val_dice']:.3f})"
        )
    packages = facts.get("packages", {})
    device = facts.get("torch", {}).get("device")
    versions = ", ".join(f"{name} {packages[name]}" for name in ("torch", "transformers") if name in packages)
    lines.append(
        f"guidino {facts.get('guidino')}, {versions}{f', on {device}' if device else ''}; all settings are in "
        "`config.yaml`"
    )
    return lines


def _input_size(config: RunConfig, facts: dict[str, Any]) -> str:
    """Size of the network's input, in words."""
    data = config.data
    if "volumes" not in facts:
        return f"image size {data.image_size} px (`resize: {data.resize}`)"
    sizes = facts["volumes"]["spacing_mm"]
    spacing = ", ".join("as in the file" if item is None else f"{item:g} mm" for item in sizes)
    spacing = f"along z, y, x: {spacing}" if any(sizes) else "as in the file"
    patch = " x ".join(str(side) for side in data.patch_size or [data.image_size] * 3)
    seen = f"patches of {patch} voxels" if data.dims == 3 else f"slices of {data.image_size} px"
    return f"{seen}, voxel size {spacing}"


def _limits(config: RunConfig, facts: dict[str, Any], manifest: Manifest | None, *, has_scores: bool) -> list[str]:
    lines = [
        "it was trained on one collection of images; other devices, centres, patients and image qualities may give "
        "worse masks, and nothing in a mask says so",
        f"every image is taken for one of its kind: one without {' or '.join(facts['classes'][1:])}, or of something "
        "else, may still get a mask",
    ]
    if manifest is not None:
        count = sum(case.split == "train" for case in manifest.cases)
        if count < _FEW:
            lines.append(f"it learned from {pluralize(count, 'case')} only")
        if not manifest.source.get("group_by") and "seed" in str(manifest.source.get("split_rule")):
            lines.append("the split knows no patients: if several cases are of one patient, scores may be too good")
    if config.data.resize == "stretch" and "volumes" not in facts:
        side = config.data.image_size
        lines.append(f"images are squeezed to {side} x {side} px, in which small and thin structures may vanish")
    if not has_scores:
        lines.append("it was scored on no test data")
    return lines
