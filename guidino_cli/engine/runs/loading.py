"""Load the trained model of a run folder, or initialize a new run from it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from guidino_cli.config import ModelSettings, RunConfig
from guidino_cli.engine.runs.folder import RunFolder, backbone_statistics
from guidino_cli.engine.runs.inputs import NetworkInput, count_outputs
from guidino_cli.engine.runs.settings import resolve_run_config
from guidino_cli.errors import DataError, WeightsError
from guidino_cli.files import file_sha256
from guidino_cli.models import build_model
from guidino_cli.models.backbones.spec import BackboneSpec
from guidino_cli.models.composed import Model
from guidino_cli.models.segmenters.registry import SEGMENTER_INFO, segmenter_revision


def load_run(
    path: Path, *, overrides: tuple[str, ...] = (), offline: bool = False
) -> tuple[Model, RunConfig, dict[str, Any]]:
    """The trained model of a run in evaluation mode, its configuration and its metadata.

    A run whose backbone was trained as a whole needs nothing but its folder.

    Args:
        path: The run's folder.
        overrides: Settings such as `predict.mirror=false`; of the model, only the source of its weights.
        offline: Never download the backbone.

    Raises:
        ConfigError: An override changes the model.
        DataError: No run folder, or a damaged one.
        WeightsError: No trained weights, weights that do not fit, or another backbone or form of the segmenter than the
            run was trained with.
    """
    folder = RunFolder(path)
    config, facts = resolve_run_config(path, overrides), folder.facts()
    folder.require_weights()
    require_same_segmenter(path, config.model.segmenter.name, facts)
    settings = _without_initial_weights(config.model)
    network_input = NetworkInput.from_facts(facts, config)
    model = build_model(
        settings,
        num_classes=count_outputs(config, facts["classes"]),
        **network_input.model_arguments(),
        offline=offline,
        backbone_spec=folder.backbone_spec(),
    )
    require_same_backbone(model, facts)
    folder.best.load(model)
    if model.backbone is not None:
        model.backbone.freeze()
    return model.eval(), config, facts


def load_best(
    folder: RunFolder,
    *,
    device: torch.device,
    model: Model | None = None,
    overrides: tuple[str, ...] = (),
    offline: bool = False,
) -> tuple[Model, RunConfig, dict[str, Any]]:
    """The best weights of a run, in the model that was trained where there is one, in evaluation mode.

    Args:
        folder: Folder of the run.
        device: Where to load a model.
        model: The trained model, because a second one may not fit on its device. None to load the run.
        overrides: See `load_run`.
        offline: Never download the backbone.

    Raises:
        UserError: See `load_run`.
    """
    if model is None:
        loaded, config, facts = load_run(folder.path, overrides=overrides, offline=offline)
        return loaded.to(device), config, facts
    folder.best.load(model.eval())
    return model, resolve_run_config(folder.path, overrides), folder.facts()


def _without_initial_weights(settings: ModelSettings) -> ModelSettings:
    """The same settings without initial weights of the segmenter: those of the run replace them."""
    options = {name: value for name, value in settings.segmenter.options.items() if name != "weights"}
    return replace(settings, segmenter=replace(settings.segmenter, options=options))


def require_same_segmenter(run: Path, name: str, facts: dict[str, Any]) -> None:
    """`WeightsError` if a run was trained with another form of its segmenter, whose weights may fit all the same.

    Runs of guidino 0.1.0 record no revision: theirs is the first.
    """
    key = name.partition(":")[0]
    found, expected = facts.get("segmenter_revision", 1), segmenter_revision(key)
    if found == expected:
        return
    writer = ", commit ".join(str(facts[item]) for item in ("guidino", "git") if facts.get(item))
    if found not in range(1, expected):
        raise WeightsError(
            f"{run}: trained with revision {found} of {key}, this guidino has revision {expected}; "
            f"use the guidino that trained it ({writer}) or a newer one"
        )
    raise WeightsError(
        f"{run}: {key} has changed since this run was trained, and its weights would predict something else now "
        f"({'; '.join(SEGMENTER_INFO[key].changes[found - 1 :])}); train again, or use the guidino that trained it "
        f"({writer})"
    )


def require_same_backbone(model: Model, facts: dict[str, Any]) -> None:
    """`WeightsError` if weights, mean or std of the backbone differ from those that the run was trained with.

    Runs of older versions record no mean and std; nothing is compared with them.
    """
    wanted = (facts.get("backbone") or {}).get("sha256")
    found = model.backbone.identity["sha256"] if model.backbone is not None else None
    if wanted != found:
        raise WeightsError(
            f"the backbone's weights have SHA-256 {found}, but the run was trained with {wanted} "
            f"({(facts.get('backbone') or {}).get('weights')}); use those"
        )
    recorded = facts.get("backbone") or {}
    for name, values in backbone_statistics(model.backbone).items() if model.backbone is not None else ():
        if name in recorded and recorded[name] != values:
            raise WeightsError(
                f"the backbone normalises images with {name} {values}, but the run was trained with {recorded[name]}; "
                "restore preprocessor_config.json beside the weights"
            )


@dataclass(frozen=True)
class BaseRun:
    """A run with a frozen backbone whose heads initialize another run."""

    folder: RunFolder

    def backbone_spec(self, _: ModelSettings) -> BackboneSpec | None:
        """Spec of a backbone that the run stores; None, as its backbone is frozen."""
        return None

    def fill(self, model: Model, *, classes: list[str]) -> dict[str, Any]:
        """Load the run's guide and segmenter into a model.

        Returns:
            "origin" of the new run's metadata: folder of the run and SHA-256 of its weights.

        Raises:
            DataError: Not a run folder, a damaged one, or other classes.
            WeightsError: No trained weights, weights that do not fit, or another backbone or form of the segmenter.
        """
        facts = self.folder.facts()
        if facts["classes"] != classes:
            raise DataError(
                f"{self.folder.path}: was trained for {', '.join(facts['classes'])}, "
                f"but the data has {', '.join(classes)}; give --data with the same classes"
            )
        self.folder.require_weights()
        require_same_segmenter(self.folder.path, self.folder.config().model.segmenter.name, facts)
        require_same_backbone(model, facts)
        self.folder.best.load_heads(model)
        return self.facts()

    def facts(self) -> dict[str, Any]:
        """Folder of the run and SHA-256 of its weights."""
        return {"run": str(self.folder.path.resolve()), "sha256": file_sha256(self.folder.weights)}
