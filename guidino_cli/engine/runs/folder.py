"""Files of a run folder: settings, `run.json`, state and history."""

import json
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from guidino_cli import __version__
from guidino_cli.config import LoraSettings, RunConfig, dump_config
from guidino_cli.data.manifest import MANIFEST_NAME, manifest_sha256
from guidino_cli.engine.checkpointing import StateFolder
from guidino_cli.engine.openvino.folder import ENGINE_FILE, NETWORK_FILES, EngineFolder, is_engine_folder
from guidino_cli.engine.run_folders import read_history, require_new_run_folder, write_history
from guidino_cli.engine.runs.best import BestWeights
from guidino_cli.engine.runs.facts import AUGMENTATION_REVISION, FACTS_FILE, FACTS_FORMAT, read_run_facts
from guidino_cli.engine.runs.settings import read_run_config
from guidino_cli.errors import WeightsError
from guidino_cli.files import write_text
from guidino_cli.json_files import require_type
from guidino_cli.models.backbones.normalizer import InputNormalizer
from guidino_cli.models.backbones.spec import BackboneSpec, describe_backbone
from guidino_cli.models.base import Backbone
from guidino_cli.models.composed import Model
from guidino_cli.models.segmenters.registry import segmenter_revision
from guidino_cli.tables import to_csv


def run_facts(model: Model, *, classes: list[str], data: Path) -> dict[str, Any]:
    """Metadata needed to repeat a run: classes, versions, hashes of the data and the backbone.

    "parameters" are the numbers of trained and of all parameters; "blueprint" exists if the
    backbone is trained as a whole. "augmentation" tells what the names in `data.augment` mean; runs of guidino 0.1.0
    lack it.
    """
    from importlib.metadata import version

    manifest = data / MANIFEST_NAME
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    backbone = model.backbone
    whole = model.backbone is not None and model.backbone.is_finetuned
    return {
        "guidino": __version__,
        "augmentation": AUGMENTATION_REVISION,
        "classes": classes,
        "data": {"cases": str(manifest), "sha256": manifest_sha256(manifest)},
        "backbone": None if backbone is None else {**backbone.identity, **backbone_statistics(backbone)},
        **({"blueprint": asdict(describe_backbone(model.backbone))} if whole and model.backbone is not None else {}),
        "parameters": [sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)],
        "git": _git_commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "transformers", "accelerate", "peft", "numpy")},
    }


def backbone_statistics(backbone: Backbone) -> dict[str, list[float]]:
    """Values "mean" and "std" per channel with which a backbone normalises images in [0, 1]; {} if it does not say."""
    normalizer = getattr(backbone, "normalizer", None)
    if not isinstance(normalizer, InputNormalizer):
        return {}
    # Six decimals, so that single precision does not show.
    return {
        name: [round(value, 6) for value in getattr(normalizer, name).flatten().tolist()] for name in ("mean", "std")
    }


def _git_commit() -> str | None:
    """Commit of the guidino checkout, if it is one, marked if files were changed."""
    here = Path(__file__).parent
    try:
        wanted = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(wanted, capture_output=True, text=True, check=True, timeout=5).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


@dataclass(frozen=True)
class RunFolder(StateFolder):
    """Paths of a run: `config.yaml run.json history.jsonl history.csv best/model.safetensors last/state.pt`.

    `last/previous.pt` is the state before the newest. A run with LoRA has `best/adapter/`, too, in PEFT's format, and
    `merged/` if it was requested.
    """

    @property
    def best(self) -> BestWeights:
        """The best epoch's files; a model folder of `guidino card` has them at its top."""
        inside = self.path / "best"
        is_shared = not inside.exists() and (self.path / "model.safetensors").is_file()
        return BestWeights(self.path if is_shared else inside)

    @property
    def weights(self) -> Path:
        """Weights of the best epoch, without those of a frozen backbone."""
        return self.best.weights

    @property
    def merged(self) -> Path:
        """The backbone with the best adapter merged, as a Hugging Face folder."""
        return self.path / "merged"

    def require_empty(self, *, overwrite: bool) -> None:
        """`ConfigError` unless a new run may be written to the folder."""
        require_new_run_folder(self.path, overwrite=overwrite)

    def require_weights(self) -> None:
        """`WeightsError` if there are no weights of a best epoch."""
        if is_engine_folder(self.path):
            name = EngineFolder(self.path).facts()["run"]
            raise WeightsError(f"{self.path}: a network for OpenVINO, which only predicts; give run {name} instead")
        if (self.path / NETWORK_FILES[0]).is_file():
            raise WeightsError(
                f"{self.path}: a network for OpenVINO without its {ENGINE_FILE}; copy the whole folder, or export the "
                "run again"
            )
        if not self.weights.is_file():
            go_on = f"finish an epoch: guidino train --resume -o {self.path}"
            raise WeightsError(f"{self.path}: no trained weights (best/model.safetensors); {go_on}")

    def create(self, config: RunConfig, facts: dict[str, Any]) -> None:
        """Start a new run; weights, state and history of an old one are removed."""
        self.remove_states()
        for old in (self.weights, self.best.notice, self.path / "history.jsonl", self.path / "history.csv"):
            old.unlink(missing_ok=True)
        for folder in (self.best.adapter, self.merged):
            shutil.rmtree(folder, ignore_errors=True)
        write_text(self.path / "config.yaml", dump_config(config))
        marks = {"format": FACTS_FORMAT, "segmenter_revision": segmenter_revision(config.model.segmenter.name)}
        write_text(self.path / FACTS_FILE, json.dumps({**marks, **facts}, indent=2, ensure_ascii=False) + "\n")

    def replace_config(self, config: RunConfig) -> None:
        """Write other settings, and add the replaced epochs and patience to "extended" in `run.json`."""
        old, facts = self.config().train, self.facts()
        earlier = {"finished": len(self.history()), "epochs": old.epochs, "patience": old.patience}
        facts["extended"] = [*facts.get("extended", []), earlier]
        write_text(self.path / "run.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
        write_text(self.path / "config.yaml", dump_config(config))

    def config(self) -> RunConfig:
        """The run's configuration; `DataError` if this is no run folder."""
        return read_run_config(self.path)

    def facts(self) -> dict[str, Any]:
        """Content of `run.json`: classes, versions, weights and data of the run."""
        return read_run_facts(self.path)

    def add_facts(self, more: dict[str, Any]) -> None:
        """Write further entries to `run.json`."""
        write_text(self.path / FACTS_FILE, json.dumps({**self.facts(), **more}, indent=2, ensure_ascii=False) + "\n")

    def backbone_spec(self) -> BackboneSpec | None:
        """Spec of the backbone if the run stores its own backbone weights, else None; `DataError` if it is damaged."""
        found, path = self.facts().get("blueprint"), self.path / FACTS_FILE
        if found is None:
            return None
        return require_type(found, BackboneSpec, source=path, what="blueprint", hint="train the run again")

    def save_weights(self, model: Model, *, lora: LoraSettings | None = None) -> None:
        """Write the trained weights of a model as those of the best epoch."""
        self.best.save(model, lora=lora)

    def history(self, *, finished: int | None = None) -> list[dict[str, Any]]:
        """One dictionary per epoch; with `finished`, of the first `finished` epochs only.

        Raises:
            DataError: A line is damaged, unless it is the last one, of an epoch that is not finished.
        """
        return read_history(self.path / "history.jsonl", counter="epoch", finished=finished)

    def save_history(self, history: list[dict[str, Any]]) -> None:
        """Write the epochs as JSON lines and as CSV."""
        write_history(self.path / "history.jsonl", history)
        names = list(dict.fromkeys(name for row in history for name in row))
        rows = ([row.get(name, "") for name in names] for row in history)
        write_text(self.path / "history.csv", to_csv(names, rows))


def with_data_root(config: RunConfig, root: Path) -> RunConfig:
    """The configuration with `data.root` set."""
    return replace(config, data=replace(config.data, root=str(root)))
