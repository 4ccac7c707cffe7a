"""The guide of a trained run as the fixed guide of another: `model.guide.from_run`."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from guidino_cli.config import GuideSettings, ModelSettings
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.runs.loading import require_same_backbone
from guidino_cli.errors import ConfigError, WeightsError, file_errors
from guidino_cli.files import file_sha256
from guidino_cli.models.composed import Model
from guidino_cli.models.pretrained.strict_loading import load_tensors_strictly

_PREFIX = "guide."


def take_guide(model: Model, settings: ModelSettings) -> dict[str, Any]:
    """Load the guide of the run that `model.guide.from_run` names; see `fix_guide` for keeping it.

    Returns:
        "guide_origin" of the new run's metadata: folder of the run and SHA-256 of its weights.

    Raises:
        ConfigError: The run has no guide, another one, or one of another map of the backbone.
        DataError: Not a run folder, or a damaged one.
        WeightsError: No trained weights, or those of another or an adapted backbone.
    """
    if model.guide is None or settings.guide is None or settings.guide.from_run is None:
        raise ValueError("no guide to take from a run")
    folder = RunFolder(Path(settings.guide.from_run))
    facts, own = folder.facts(), folder.config().model
    folder.require_weights()
    _require_same_guide(folder.path, own, settings)
    if own.lora is not None or own.finetune is not None:
        raise WeightsError(
            f"{folder.path}: its guide reads a backbone that was trained with it; take that of a run without "
            "model.lora and model.finetune"
        )
    require_same_backbone(model, facts)
    with file_errors(folder.weights, "weights cannot be read", error=WeightsError, hint="train or download them again"):
        tensors = load_file(folder.weights)
    guide = {name.removeprefix(_PREFIX): value for name, value in tensors.items() if name.startswith(_PREFIX)}
    load_tensors_strictly(model.guide, guide, source=folder.weights)
    return {"run": str(folder.path.resolve()), "sha256": file_sha256(folder.weights)}


def fix_guide(model: Model) -> None:
    """Train nothing of the guide."""
    if model.guide is not None:
        model.guide.requires_grad_(False)


def _require_same_guide(run: Path, own: ModelSettings, wanted: ModelSettings) -> None:
    if own.guide is None:
        raise ConfigError(f"model.guide.from_run: {run} has no guide; name a run that was trained with one")
    if own.guide.fit == "closed-form":
        raise ConfigError(
            f"model.guide.from_run: the guide of {run} was solved in closed form, for its own training images; name a "
            "run that was trained with model.guide.fit=gradient"
        )
    for name in ("name", "per_class", "options"):
        found, expected = getattr(own.guide, name), getattr(wanted.guide, name)
        if found != expected:
            raise ConfigError(
                f"model.guide.{name} is {expected}, but the guide of {run} (model.guide.from_run) has {found}; "
                "set it alike"
            )
    found, expected = _tokens(own), _tokens(wanted)
    if found != expected:
        raise ConfigError(
            f"the guide of {run} (model.guide.from_run) reads the tokens of {found}, this model's would be of "
            f"{expected}; set model.backbone alike, but for layers before the last"
        )


def _tokens(settings: ModelSettings) -> dict[str, Any]:
    """Settings that decide which tokens a guide reads: it sees only the deepest map."""
    if settings.backbone is None:
        return {}
    options = {key: value for key, value in settings.backbone.options.items() if key not in {"layers", "weights"}}
    layers = settings.backbone.options.get("layers")
    return {"backbone": settings.backbone.name, "layer": layers[-1] if layers else "its default", **options}


def is_fixed(guide: GuideSettings | None) -> bool:
    """Whether the guide comes from another run and is frozen."""
    return guide is not None and guide.from_run is not None
