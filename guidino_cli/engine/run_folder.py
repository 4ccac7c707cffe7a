"""A run's folder: configuration, weights, state for resuming, history; the one place that writes or loads a run."""

import csv
import hashlib
import io
import json
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from guidino_cli import __version__
from guidino_cli.config import LoraSettings, ModelSettings, RunConfig, dump, load_config, override
from guidino_cli.data.images import write_atomically, write_text
from guidino_cli.data.manifest import FILE_NAME
from guidino_cli.engine.training.state_files import NEWEST, read_state, remove_states, write_state
from guidino_cli.errors import ConfigError, DataError, WeightsError
from guidino_cli.models import build_model
from guidino_cli.models.backbones.blueprint import Blueprint, blueprint_of
from guidino_cli.models.base import is_adapter
from guidino_cli.models.composed import Model
from guidino_cli.models.pretrained.catalogue import licence_note
from guidino_cli.models.weights import load_strictly

_FORMAT = 1
_ADAPTER = "adapter_model.safetensors"
_ADAPTER_KEY = "adapter_sha256"


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run: `config.yaml run.json history.jsonl history.csv best/model.safetensors last/state.pt`.

    `last/previous.pt` is the state before, for the day when the newest is damaged.
    A run with LoRA has `best/adapter/` too, in PEFT's own format, and `merged/` where it was asked for.
    """

    path: Path

    @property
    def weights(self) -> Path:
        """The best epoch's weights, without those of a backbone that keeps them."""
        return self.path / "best" / "model.safetensors"

    @property
    def notice(self) -> Path:
        """From which weights `weights` derive, where they hold a backbone that was trained."""
        return self.weights.with_name("NOTICE.md")

    @property
    def adapter(self) -> Path:
        """The best epoch's adapter of the backbone, where `weights` are those beside it."""
        return self.path / "best" / "adapter"

    @property
    def merged(self) -> Path:
        """The backbone with the best adapter folded in, as a Hugging Face folder."""
        return self.path / "merged"

    @property
    def state(self) -> Path:
        """Everything needed to go on; the state before it is beside it."""
        return self.path / "last" / NEWEST

    def require_empty(self, *, overwrite: bool) -> None:
        """`ConfigError` if the folder holds something and may not be overwritten."""
        if not overwrite and self.path.is_dir() and any(self.path.iterdir()):
            ways = "go on with --resume, start anew with --overwrite, or choose another -o"
            raise ConfigError(f"{self.path}: is not empty; {ways}")

    def require_weights(self) -> None:
        """`WeightsError` if no epoch was ever the best."""
        if not self.weights.is_file():
            go_on = f"finish an epoch: guidino train --resume -o {self.path}"
            raise WeightsError(f"{self.path}: no trained weights (best/model.safetensors); {go_on}")

    def create(self, config: RunConfig, facts: dict[str, Any]) -> None:
        """Start a new run; an old one's weights, state and history go."""
        remove_states(self.state.parent)
        for old in (self.weights, self.notice, self.path / "history.jsonl", self.path / "history.csv"):
            old.unlink(missing_ok=True)
        for folder in (self.adapter, self.merged):
            shutil.rmtree(folder, ignore_errors=True)
        write_text(self.path / "config.yaml", dump(config))
        write_text(
            self.path / "run.json", json.dumps({"format": _FORMAT, **facts}, indent=2, ensure_ascii=False) + "\n"
        )

    def config(self) -> RunConfig:
        """The run's configuration; `DataError` if this is no run folder."""
        if not (self.path / "config.yaml").is_file():
            raise DataError(f"{self.path}: {self._what_it_is()}; give the folder that `guidino train -o` wrote")
        return load_config(self.path / "config.yaml")

    def _what_it_is(self) -> str:
        """Words for a place that is no run, since the likely mix-ups have ways out of their own."""
        if not self.path.exists():
            return "no such folder"
        runs = sorted(path.parent.name for path in self.path.glob("*/config.yaml"))
        if runs:
            return f"a set of runs, not one of them ({', '.join(runs[:4])}{', ...' if len(runs) > 4 else ''})"
        if (self.path / FILE_NAME).is_file():
            return "prepared data, not a run"
        return "no config.yaml, so not a run"

    def facts(self) -> dict[str, Any]:
        """What `run.json` says: classes, versions, weights and data the run was made with."""
        path = self.path / "run.json"
        try:
            facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            version = facts["format"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); the run is damaged, train it again") from error
        if version != _FORMAT:
            raise DataError(f"{path}: written in format {version}, this guidino reads format {_FORMAT}")
        return facts

    def blueprint(self) -> Blueprint | None:
        """How the run's backbone is built, where the run keeps its weights itself; `DataError` if that is damaged."""
        found = self.facts().get("blueprint")
        try:
            return None if found is None else Blueprint(**found)
        except TypeError as error:
            raise DataError(f"{self.path / 'run.json'}: blueprint of the backbone is damaged ({error})") from error

    def best_files(self, model: Model) -> list[Path]:
        """What the best epoch of a model consists of."""
        return [self.weights, *([self.adapter / _ADAPTER] if _has_lora(model) else [])]

    def save_weights(self, model: Model, *, lora: LoraSettings | None = None) -> None:
        """Write the weights that were trained; those of a backbone that keeps them are named by hash in `run.json`.

        The heads come last and name the hash of the adapter beside them, so that no load mixes two epochs.
        """
        heads = {name: value for name, value in own_tensors(model).items() if not is_adapter(name)}
        metadata = None if lora is None else {_ADAPTER_KEY: self._save_adapter(model, lora)}
        content = save({name: value.detach().cpu().contiguous() for name, value in heads.items()}, metadata)
        if model.backbone is not None and model.backbone.is_whole:
            write_text(self.notice, licence_note(model.backbone.identity))
        write_atomically(self.weights, lambda place: place.write_bytes(content))

    def _save_adapter(self, model: Model, lora: LoraSettings) -> str:
        """Write `adapter/` and return the SHA-256 of its weights."""
        from guidino_cli.models.lora import adapter_config, adapter_tensors

        if model.backbone is None:
            raise ValueError("an adapter without a backbone")
        content = save(adapter_tensors(model.backbone), {"format": "pt"})
        write_atomically(self.adapter / _ADAPTER, lambda place: place.write_bytes(content))
        write_text(self.adapter / "adapter_config.json", adapter_config(model.backbone, lora))
        write_text(self.adapter / "NOTICE.md", licence_note(model.backbone.identity))
        return hashlib.sha256(content).hexdigest()

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write tensors and plain values; the state before is kept too."""
        write_state(self.state.parent, state)

    def load_state(self) -> dict[str, Any]:
        """What `save_state` wrote last, or before if that is damaged; `DataError` without any."""
        return read_state(self.state.parent)

    def history(self, *, finished: int | None = None) -> list[dict[str, Any]]:
        """One dictionary an epoch, of the finished ones only where it is said how many they are.

        Raises:
            DataError: A line is damaged, unless it is the last one, of an epoch that is not finished.
        """
        path = self.path / "history.jsonl"
        lines = path.read_bytes().splitlines() if path.is_file() else []
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(lines, start=1):
            try:
                row: dict[str, Any] = json.loads(line)
                row["epoch"] = int(row["epoch"])
                rows.append(row)
            except (ValueError, KeyError, TypeError) as error:
                if number == len(lines) and finished is not None and number > finished:
                    break
                way = "put it right, or remove the line: only this epoch's numbers are lost then"
                raise DataError(f"{path}, line {number}: is damaged ({error}); {way}") from error
        return [row for row in rows if finished is None or row["epoch"] <= finished]

    def save_history(self, history: list[dict[str, Any]]) -> None:
        """Write the epochs as JSON lines and as CSV."""
        write_text(self.path / "history.jsonl", "".join(json.dumps(row) + "\n" for row in history))
        names = list(dict.fromkeys(name for row in history for name in row))
        table = io.StringIO()
        writer = csv.DictWriter(table, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
        write_text(self.path / "history.csv", table.getvalue())


def load_run(
    path: Path, *, overrides: tuple[str, ...] = (), offline: bool = False
) -> tuple[Model, RunConfig, dict[str, Any]]:
    """The trained model of a run in evaluation mode, its configuration and its facts.

    Of a run whose backbone learned whole nothing is needed but its folder.

    Args:
        path: The run's folder.
        overrides: Settings such as `predict.mirror=false`; the model's own may only change where weights come from.
        offline: Never ask the hub for the backbone.

    Raises:
        ConfigError: An override changes the model.
        DataError: No run folder, or a damaged one.
        WeightsError: No trained weights, weights that do not fit, or another backbone than the run was trained with.
    """
    folder = RunFolder(path)
    trained, facts = folder.config(), folder.facts()
    config = override(trained, overrides)
    _require_still_open(path, overrides)
    require_same_model(path, trained.model, config.model)
    folder.require_weights()
    settings = _without_start(config.model)
    model = build_model(settings, num_classes=len(facts["classes"]), offline=offline, blueprint=folder.blueprint())
    check_backbone(model, facts)
    load_heads(model, folder)
    if _has_lora(model):
        _load_adapter(model, folder)
    if model.backbone is not None:
        model.backbone.freeze()
    return model.eval(), config, facts


def _require_still_open(path: Path, overrides: Iterable[str]) -> None:
    """Refuse settings that training has used up: to accept them would look as if they did something."""
    for item in overrides:
        section, key = item.partition(".")[0], item.partition("=")[0]
        if section not in {"predict", "model"}:
            raise ConfigError(f"--set {key}: {path} is trained already; here predict.* can be set, {key} when training")


def _without_start(settings: ModelSettings) -> ModelSettings:
    """The same model without the weights that its segmenter began with: the run's own come in their place."""
    options = {name: value for name, value in settings.segmenter.options.items() if name != "weights"}
    return replace(settings, segmenter=replace(settings.segmenter, options=options))


def load_heads(model: Model, folder: RunFolder) -> None:
    """Fill everything but a backbone that keeps its weights with a run's best; `WeightsError` if they do not fit."""
    load_strictly(model, folder.weights, may_miss=tuple(name for name in model.state_dict() if _is_kept(name, model)))


def _load_adapter(model: Model, folder: RunFolder) -> None:
    """Fill the adapter with a run's best one."""
    from guidino_cli.models.lora import load_adapter

    path = folder.adapter / _ADAPTER
    if not path.is_file():
        raise WeightsError(f"{path}: missing, but the run was trained with LoRA; copy the whole run folder")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with safe_open(folder.weights, framework="pt") as file:
        wanted = (file.metadata() or {}).get(_ADAPTER_KEY)
    if found != wanted:
        raise WeightsError(
            f"{path}: damaged, or of another epoch than {folder.weights.name}: its SHA-256 is {found[:12]}..., "
            f"expected {str(wanted)[:12]}...; copy the whole run folder again, or train again"
        )
    if model.backbone is None:
        raise ValueError("an adapter without a backbone")
    load_adapter(model.backbone, path)


def own_tensors(model: Model) -> dict[str, torch.Tensor]:
    """The tensors that belong to a run: all but the pretrained ones of a backbone that keeps them."""
    return {name: value for name, value in model.state_dict().items() if not _is_kept(name, model) or is_adapter(name)}


@dataclass(frozen=True)
class Origin:
    """The frozen run whose heads another run begins with."""

    folder: RunFolder

    def fill(self, model: Model, *, classes: list[str]) -> None:
        """Give a model the run's TokenBook and segmenter.

        Raises:
            DataError: No run folder, a damaged one, or other classes.
            WeightsError: No trained weights, weights that do not fit, or another backbone.
        """
        facts = self.folder.facts()
        if facts["classes"] != classes:
            raise DataError(
                f"{self.folder.path}: was trained for {', '.join(facts['classes'])}, "
                f"but the data has {', '.join(classes)}; give --data with the same classes"
            )
        self.folder.require_weights()
        check_backbone(model, facts)
        load_heads(model, self.folder)

    def facts(self) -> dict[str, str]:
        """Which run it was: its folder and the SHA-256 of its weights."""
        digest = hashlib.sha256(self.folder.weights.read_bytes()).hexdigest()
        return {"run": str(self.folder.path.resolve()), "sha256": digest}


def check_backbone(model: Model, facts: dict[str, Any]) -> None:
    """Refuse a backbone whose weights are not those that the run was trained with."""
    wanted = (facts.get("backbone") or {}).get("sha256")
    found = model.backbone.identity["sha256"] if model.backbone is not None else None
    if wanted != found:
        raise WeightsError(
            f"the backbone's weights have SHA-256 {found}, but the run was trained with {wanted} "
            f"({(facts.get('backbone') or {}).get('weights')}); give those"
        )


def run_facts(model: Model, *, classes: list[str], data: Path) -> dict[str, Any]:
    """What a reader must know to repeat a run: classes, versions, hashes of the data and the backbone.

    "parameters" are the trained ones and all; "blueprint" is there where the backbone's own weights are trained.
    """
    from importlib.metadata import version

    manifest = data / FILE_NAME
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    whole = model.backbone is not None and model.backbone.is_whole
    return {
        "guidino": __version__,
        "classes": classes,
        "data": {"cases": str(manifest), "sha256": hashlib.sha256(manifest.read_bytes()).hexdigest()},
        "backbone": None if model.backbone is None else model.backbone.identity,
        **({"blueprint": asdict(blueprint_of(model.backbone))} if whole and model.backbone is not None else {}),
        "parameters": [sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)],
        "git": _git_commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("torch", "transformers", "accelerate", "peft", "numpy")},
    }


def with_root(config: RunConfig, root: Path) -> RunConfig:
    """The configuration with the data folder filled in."""
    return replace(config, data=replace(config.data, root=str(root)))


def require_same_model(path: Path, old: ModelSettings, new: ModelSettings) -> None:
    """`ConfigError` if settings of a model differ in more than where the backbone's weights come from."""
    before, after = _flat(asdict(old)), _flat(asdict(new))
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    # A folder or file instead of the short name; that it holds the same weights is checked by their hash.
    may = {"backbone.options.weights", *(["backbone.options.size"] if "backbone.options.weights" in changed else [])}
    for name in changed:
        if name not in may:
            raise ConfigError(
                f"{path}: model.{name} is what the run was trained with; only model.backbone.options.weights may change"
            )


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _has_lora(model: Model) -> bool:
    return any(is_adapter(name) for name, _ in model.named_parameters())


def _is_kept(name: str, model: Model) -> bool:
    """Whether a tensor lies in a backbone whose pretrained weights stay, and in no part of it that is the run's own."""
    if model.backbone is None or model.backbone.is_whole or not name.startswith("backbone."):
        return False
    return not name.startswith(tuple(f"backbone.{part}." for part in model.backbone.own))


def _git_commit() -> str | None:
    """Commit of the guidino checkout, if it is one, marked when files differ from it."""
    here = Path(__file__).parent
    try:
        wanted = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
        return subprocess.run(wanted, capture_output=True, text=True, check=True, timeout=5).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None
