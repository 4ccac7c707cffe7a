"""Weights of the best epoch: which of a model's tensors belong to a run, and how they are written and read."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from guidino_cli.config import LoraSettings
from guidino_cli.errors import WeightsError
from guidino_cli.files import file_sha256, write_atomically, write_text
from guidino_cli.models.base import is_lora_parameter
from guidino_cli.models.composed import Model
from guidino_cli.models.pretrained.catalogue import licence_note
from guidino_cli.models.pretrained.strict_loading import load_strictly

_ADAPTER = "adapter_model.safetensors"
_ADAPTER_KEY = "adapter_sha256"


@dataclass(frozen=True)
class BestWeights:
    """Paths of the best epoch: `model.safetensors NOTICE.md adapter/`."""

    path: Path

    @property
    def weights(self) -> Path:
        """The weights, without those of a frozen backbone."""
        return self.path / "model.safetensors"

    @property
    def notice(self) -> Path:
        """Licence note of the original weights, if a backbone was trained as a whole."""
        return self.path / "NOTICE.md"

    @property
    def adapter(self) -> Path:
        """The adapter of the backbone, if it has one."""
        return self.path / "adapter"

    def files(self, model: Model) -> list[Path]:
        """Files of the best epoch of a model."""
        return [self.weights, *([self.adapter / _ADAPTER] if has_lora(model) else [])]

    def save(self, model: Model, *, lora: LoraSettings | None) -> None:
        """Write the trained weights; those of a frozen backbone are identified by their hash in `run.json`.

        The heads are written last and contain the hash of their adapter, so that two epochs are never mixed.
        """
        heads = {name: value for name, value in trained_state_dict(model).items() if not is_lora_parameter(name)}
        metadata = None if lora is None else {_ADAPTER_KEY: self._save_adapter(model, lora)}
        content = save({name: value.detach().cpu().contiguous() for name, value in heads.items()}, metadata)
        if model.backbone is not None and model.backbone.is_finetuned:
            write_text(self.notice, licence_note(model.backbone.identity))
        write_atomically(self.weights, lambda path: path.write_bytes(content))

    def _save_adapter(self, model: Model, lora: LoraSettings) -> str:
        """Write `adapter/` and return the SHA-256 of its weights."""
        from guidino_cli.models.lora import adapter_config_json, adapter_state_dict

        if model.backbone is None:
            raise ValueError("an adapter without a backbone")
        content = save(adapter_state_dict(model.backbone), {"format": "pt"})
        write_atomically(self.adapter / _ADAPTER, lambda path: path.write_bytes(content))
        write_text(self.adapter / "adapter_config.json", adapter_config_json(model.backbone, lora))
        write_text(self.adapter / "NOTICE.md", licence_note(model.backbone.identity))
        return hashlib.sha256(content).hexdigest()

    def load(self, model: Model) -> None:
        """Load all trained weights; `WeightsError` if they do not fit."""
        self.load_heads(model)
        if has_lora(model):
            self.load_adapter(model)

    def load_heads(self, model: Model) -> None:
        """Load all weights but those of a frozen backbone; `WeightsError` if they do not fit."""
        pretrained = tuple(name for name in model.state_dict() if _is_pretrained(name, model))
        load_strictly(model, self.weights, may_miss=pretrained)

    def load_adapter(self, model: Model) -> None:
        """Load the adapter; `WeightsError` if it is damaged or does not belong to the heads."""
        from guidino_cli.models.lora import load_adapter

        path = self.adapter / _ADAPTER
        if not path.is_file():
            raise WeightsError(f"{path}: is missing, but the run was trained with LoRA; copy the whole run folder")
        found = file_sha256(path)
        with safe_open(self.weights, framework="pt") as file:
            wanted = (file.metadata() or {}).get(_ADAPTER_KEY)
        if found != wanted:
            raise WeightsError(
                f"{path}: is damaged, or of another epoch than {self.weights.name}: its SHA-256 is {found[:12]}..., "
                f"expected {str(wanted)[:12]}...; copy the whole run folder again, or train again"
            )
        if model.backbone is None:
            raise ValueError("an adapter without a backbone")
        load_adapter(model.backbone, path)


def trained_state_dict(model: Model) -> dict[str, torch.Tensor]:
    """Tensors that belong to a run: all but the pretrained ones of a frozen backbone."""
    return {
        name: value
        for name, value in model.state_dict().items()
        if not _is_pretrained(name, model) or is_lora_parameter(name)
    }


def has_lora(model: Model) -> bool:
    """Whether the backbone has a LoRA adapter."""
    return any(is_lora_parameter(name) for name, _ in model.named_parameters())


def _is_pretrained(name: str, model: Model) -> bool:
    """Whether a tensor belongs to a frozen backbone, and not to adapters of its own."""
    if model.backbone is None or model.backbone.is_finetuned or not name.startswith("backbone."):
        return False
    return not name.startswith(tuple(f"backbone.{part}." for part in model.backbone.adapter_names))
