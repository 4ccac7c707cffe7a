"""The best epoch of a run as files: which of a model's weights are the run's own, how they are written and read."""

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
        """The weights, without those of a backbone that keeps them."""
        return self.path / "model.safetensors"

    @property
    def notice(self) -> Path:
        """From which weights `weights` derive, where they hold a backbone that was trained."""
        return self.path / "NOTICE.md"

    @property
    def adapter(self) -> Path:
        """The adapter of the backbone, where `weights` are those beside it."""
        return self.path / "adapter"

    def files(self, model: Model) -> list[Path]:
        """What the best epoch of a model consists of."""
        return [self.weights, *([self.adapter / _ADAPTER] if has_lora(model) else [])]

    def save(self, model: Model, *, lora: LoraSettings | None) -> None:
        """Write the weights that were trained; those of a backbone that keeps them are named by hash in `run.json`.

        The heads come last and name the hash of the adapter beside them, so that no load mixes two epochs.
        """
        heads = {name: value for name, value in trained_state_dict(model).items() if not is_lora_parameter(name)}
        metadata = None if lora is None else {_ADAPTER_KEY: self._save_adapter(model, lora)}
        content = save({name: value.detach().cpu().contiguous() for name, value in heads.items()}, metadata)
        if model.backbone is not None and model.backbone.is_finetuned:
            write_text(self.notice, licence_note(model.backbone.identity))
        write_atomically(self.weights, lambda place: place.write_bytes(content))

    def _save_adapter(self, model: Model, lora: LoraSettings) -> str:
        """Write `adapter/` and return the SHA-256 of its weights."""
        from guidino_cli.models.lora import adapter_config_json, adapter_state_dict

        if model.backbone is None:
            raise ValueError("an adapter without a backbone")
        content = save(adapter_state_dict(model.backbone), {"format": "pt"})
        write_atomically(self.adapter / _ADAPTER, lambda place: place.write_bytes(content))
        write_text(self.adapter / "adapter_config.json", adapter_config_json(model.backbone, lora))
        write_text(self.adapter / "NOTICE.md", licence_note(model.backbone.identity))
        return hashlib.sha256(content).hexdigest()

    def load_heads(self, model: Model) -> None:
        """Fill everything but a backbone that keeps its weights; `WeightsError` if they do not fit."""
        kept = tuple(name for name in model.state_dict() if _is_kept(name, model))
        load_strictly(model, self.weights, may_miss=kept)

    def load_adapter(self, model: Model) -> None:
        """Fill the adapter; `WeightsError` if it is damaged, or another than that of the heads."""
        from guidino_cli.models.lora import load_adapter

        path = self.adapter / _ADAPTER
        if not path.is_file():
            raise WeightsError(f"{path}: missing, but the run was trained with LoRA; copy the whole run folder")
        found = file_sha256(path)
        with safe_open(self.weights, framework="pt") as file:
            wanted = (file.metadata() or {}).get(_ADAPTER_KEY)
        if found != wanted:
            raise WeightsError(
                f"{path}: damaged, or of another epoch than {self.weights.name}: its SHA-256 is {found[:12]}..., "
                f"expected {str(wanted)[:12]}...; copy the whole run folder again, or train again"
            )
        if model.backbone is None:
            raise ValueError("an adapter without a backbone")
        load_adapter(model.backbone, path)


def trained_state_dict(model: Model) -> dict[str, torch.Tensor]:
    """The tensors that belong to a run: all but the pretrained ones of a backbone that keeps them."""
    return {
        name: value
        for name, value in model.state_dict().items()
        if not _is_kept(name, model) or is_lora_parameter(name)
    }


def has_lora(model: Model) -> bool:
    """Whether a model's backbone is adapted."""
    return any(is_lora_parameter(name) for name, _ in model.named_parameters())


def _is_kept(name: str, model: Model) -> bool:
    """Whether a tensor lies in a backbone whose pretrained weights stay, and in no part of it that is the run's own."""
    if model.backbone is None or model.backbone.is_finetuned or not name.startswith("backbone."):
        return False
    return not name.startswith(tuple(f"backbone.{part}." for part in model.backbone.adapter_names))
