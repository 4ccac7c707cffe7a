"""Merge the LoRA adapter of a run into its backbone, as a Hugging Face folder that any run can use."""

import inspect
import shutil
from dataclasses import dataclass
from typing import Any

from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import ConfigError
from guidino_cli.files import atomic_folder, write_text
from guidino_cli.models import BACKBONES, build_backbone
from guidino_cli.models.pretrained.catalogue import licence_note
from guidino_cli.models.pretrained.saving import write_preprocessor_config
from guidino_cli.models.pretrained.strict_loading import hash_weights
from guidino_cli.registry import find


@dataclass(frozen=True)
class MergedBackbone:
    """A merged backbone.

    Attributes:
        sha256: SHA-256 of its weights.
        backbone: Name and options of `model.backbone` that give the same features as the run's backbone.
    """

    sha256: str
    backbone: dict[str, Any]


def write_merged_backbone(folder: RunFolder, *, offline: bool) -> MergedBackbone:
    """Write `merged/` from the best adapter, replacing an older one.

    The base is loaded again with all its blocks, including those that the run dropped as unused.

    Raises:
        ConfigError: The run has no LoRA.
        WeightsError: The base cannot be loaded.
    """
    import transformers

    from guidino_cli.models.lora import merge_adapter

    config = folder.config()
    part = config.model.backbone
    if config.model.lora is None or part is None:
        raise ConfigError(f"{folder.path}: has no adapter to merge")
    backbone = build_backbone(part.name, {**part.options, "layers": None}, offline=offline)
    network = merge_adapter(backbone, folder.best.adapter)
    transformers.utils.logging.disable_progress_bar()
    with atomic_folder(folder.merged) as temporary:
        network.save_pretrained(temporary)
        # Those of the base may differ from the defaults of its architecture.
        write_preprocessor_config(
            temporary, *(values.flatten().tolist() for values in (backbone.normalizer.mean, backbone.normalizer.std))
        )
        for file in temporary.glob("*.safetensors"):
            # safetensors makes files readable by their owner only; a backbone is meant to be shared.
            shutil.copymode(temporary / "config.json", file)
        write_text(temporary / "NOTICE.md", licence_note(backbone.identity))
    options = {"weights": str(folder.merged), **_feature_options(part.name, part.options)}
    return MergedBackbone(
        hash_weights(network), {"name": _backbone_name(network.config.model_type), "options": options}
    )


def _feature_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options, given or defaults of the backbone, that decide which features the network returns."""
    known = inspect.signature(find("backbone", name, BACKBONES)).parameters
    values = {key: options.get(key, known[key].default) for key in ("layers", "norm", "scale", "dtype") if key in known}
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in values.items()
        if value not in (None, True, 1.0, "auto")
    }


def _backbone_name(model_type: str) -> str:
    """Name of the registered backbone for an architecture."""
    return next((name for name in ("dinov3", "dinov2") if model_type.startswith(name)), "vit")
