"""Start a run from the weights of another one with other data or settings, as far as their shapes fit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from guidino_cli.config import ModelSettings
from guidino_cli.distributed import rank
from guidino_cli.engine.runs.best import has_lora, trained_state_dict
from guidino_cli.engine.runs.loading import BaseRun, require_same_backbone, require_same_segmenter
from guidino_cli.errors import ConfigError, WeightsError
from guidino_cli.models import SEGMENTERS
from guidino_cli.models.backbones.spec import BackboneSpec
from guidino_cli.models.base import is_lora_parameter
from guidino_cli.models.composed import Model
from guidino_cli.models.pretrained.strict_loading import require_finite
from guidino_cli.progress import join_first, log_info, log_warning
from guidino_cli.registry import find


@dataclass(frozen=True)
class TransferredRun(BaseRun):
    """A run whose weights start another run.

    Its segmenter and guide are taken tensor by tensor, where name and shape fit; a backbone that it trained, as a whole
    or by LoRA, is taken completely or not at all.
    """

    def require_usable(self, model: ModelSettings) -> None:
        """Check the settings of the new run's model against the run, before anything is built.

        Raises:
            ConfigError: Another segmenter, or the new run would lose the backbone that the run trained.
            DataError: Not a run folder.
            WeightsError: No trained weights, or those of another form of the segmenter.
        """
        path, own = self.folder.path, self.folder.config().model
        self.folder.require_weights()
        if own.segmenter.name != model.segmenter.name:
            raise ConfigError(
                f"{path}: its segmenter is {own.segmenter.name}, that of the new run {model.segmenter.name}, so its "
                "weights do not fit; choose a preset with the same segmenter, or leave out --from"
            )
        require_same_segmenter(path, own.segmenter.name, self.folder.facts())
        if own.finetune is not None and (model.finetune is None or model.backbone != own.backbone):
            raise ConfigError(
                f"{path}: its backbone was trained whole, and the new run would lose it; keep model.backbone and "
                "model.finetune as they are (without --preset they are)"
            )
        if own.lora is not None and model.lora != own.lora:
            raise ConfigError(
                f"{path}: its backbone is adapted by LoRA, and the new run would lose that; keep model.lora as it is "
                "(without --preset it is), or use the merged backbone: guidino lora-tune --merge"
            )

    def backbone_spec(self, model: ModelSettings) -> BackboneSpec | None:
        """Spec of the backbone that the run trained as a whole; None for any other."""
        return None if model.finetune is None else self.folder.backbone_spec()

    def fill(self, model: Model, *, classes: list[str]) -> dict[str, Any]:
        """Load all weights of the run that fit, and report the rest.

        Args:
            model: Model of the new run, freshly built.
            classes: Classes of its data, background first.

        Returns:
            "origin" of the new run's metadata: folder of the run, SHA-256 of its weights, and the names of the tensors
            that keep their random values.

        Raises:
            DataError: Not a run folder, or a damaged one.
            WeightsError: No weights, unreadable ones, none that fit, or another backbone under the same segmenter.
        """
        facts, weights = self.folder.facts(), self.folder.weights
        try:
            tensors = load_file(weights)
        except (OSError, SafetensorError) as error:
            raise WeightsError(f"{weights}: cannot be read ({error}); copy the run again, or train it again") from error
        require_finite(weights, tensors)
        if has_lora(model) and self.folder.config().model.lora is not None:
            require_same_backbone(model, facts)
            self.folder.best.load_adapter(model)
        usable = self._without_foreign_tokens(tensors, model, facts)
        wanted = self._wanted(model, tensors)
        fitting = {name: usable[name] for name, value in wanted.items() if _shape(usable, name) == value.shape}
        if not any(name.startswith("segmenter.") for name in fitting):
            raise WeightsError(f"{weights}: no tensor fits the new segmenter; leave out --from")
        model.load_state_dict(fitting, strict=False)
        if rank() == 0:
            self._report(wanted, fitting, tensors)
            _warn_of_other_classes(self.folder.path, old=facts["classes"], new=classes)
        return self.facts() | {"initial": sorted(wanted.keys() - fitting.keys())}

    def _wanted(self, model: Model, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors that the new run trains, apart from an adapter and from a backbone that the run left as it was."""
        trained = {name: value for name, value in trained_state_dict(model).items() if not is_lora_parameter(name)}
        if model.backbone is None or not model.backbone.is_finetuned:
            return trained
        if self.folder.config().model.finetune is None:
            return {name: value for name, value in trained.items() if not name.startswith("backbone.")}
        if lost := [name for name in trained if name.startswith("backbone.") and name not in tensors]:
            raise WeightsError(f"{self.folder.weights}: lacks weights of the backbone ({join_first(lost, limit=3)})")
        return trained

    def _without_foreign_tokens(
        self, tensors: Mapping[str, Tensor], model: Model, facts: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """The tensors without those that read the tokens of a backbone that the new run does not have."""
        if (facts.get("backbone") or model.backbone) is None:
            return dict(tensors)
        try:
            require_same_backbone(model, dict(facts))
        except WeightsError as error:
            name = self.folder.config().model.segmenter.name
            if find("segmenter", name, SEGMENTERS).uses_backbone:
                raise WeightsError(f"{self.folder.path}: segmenter {name} reads the backbone, and {error}") from error
            return {name: value for name, value in tensors.items() if not name.startswith("guide.")}
        return dict(tensors)

    def _report(
        self, wanted: Mapping[str, Tensor], fitting: Mapping[str, Tensor], tensors: Mapping[str, Tensor]
    ) -> None:
        """Say how much was taken over, and name the rest."""
        initial = [_describe(name, tensors, value) for name, value in sorted(wanted.items()) if name not in fitting]
        unused = sorted(name for name in tensors if name not in wanted)
        log_info(f"guidino: {len(fitting)} of {len(wanted)} tensors start from {self.folder.weights}")
        if initial:
            log_info(f"guidino: {len(initial)} start from random values: {join_first(initial)}")
        if unused:
            log_info(f"guidino: {len(unused)} of the run are not used: {join_first(unused)}")


def _shape(tensors: Mapping[str, Tensor], name: str) -> torch.Size | None:
    return tensors[name].shape if name in tensors else None


def _describe(name: str, tensors: Mapping[str, Tensor], wanted: Tensor) -> str:
    """The tensor's name, and its shapes in the run and in the new model if they differ."""
    found = _shape(tensors, name)
    return name if found in {None, wanted.shape} else f"{name} {tuple(found or ())} for {tuple(wanted.shape)}"


def _warn_of_other_classes(path: Path, *, old: list[str], new: list[str]) -> None:
    if old != new:
        log_warning(
            f"{path}: was trained for {', '.join(old)}, but the data has {', '.join(new)}; check that the classes "
            "mean the same, in the same order"
        )
