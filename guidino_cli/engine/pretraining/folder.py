"""Folder of a pretraining run: settings, history and state during the run, the backbone at the end."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NotRequired

from typing_extensions import TypedDict

from guidino_cli.engine.checkpointing import StateFolder
from guidino_cli.engine.run_folders import read_facts, read_history, require_new_run_folder, write_history
from guidino_cli.errors import DataError
from guidino_cli.files import write_text
from guidino_cli.json_files import require_type
from guidino_cli.pretrain_config import PretrainConfig, dump_pretrain_config, read_pretrain_config

_FORMAT = 1
_SETTINGS, _FACTS, _HISTORY = "pretraining.yaml", "pretraining.json", "history.jsonl"
_BACKBONE = ("model.safetensors", "config.json", "preprocessor_config.json", "NOTICE.md")


class _Student(TypedDict):
    weights: str
    sha256: NotRequired[str | None]


class _Images(TypedDict):
    folder: str
    images: int
    names_sha256: str
    sizes_sha256: str


class _Facts(TypedDict):
    """Entries of `pretraining.json` that are read again; see `ImageFingerprint`."""

    student: _Student
    images: _Images


@dataclass(frozen=True)
class PretrainFolder(StateFolder):
    """Paths of a run: `pretraining.yaml pretraining.json history.jsonl last/state.pt`, beside the backbone."""

    def require_empty(self, *, overwrite: bool) -> None:
        """`ConfigError` unless a new run may be written to the folder."""
        require_new_run_folder(self.path, overwrite=overwrite, recognised=(self.path / _SETTINGS).is_file())

    def create(self, config: PretrainConfig, facts: Mapping[str, Any]) -> None:
        """Start a new run; backbone, state and history of an old one are removed."""
        for name in (*_BACKBONE, _HISTORY):
            (self.path / name).unlink(missing_ok=True)
        self.remove_states()
        write_text(self.path / _SETTINGS, dump_pretrain_config(config))
        self.write_facts({"format": _FORMAT, **facts})

    def config(self) -> PretrainConfig:
        """Settings of the run; `DataError` if this is not a run."""
        path = self.path / _SETTINGS
        if not path.is_file():
            problem = f"no {_SETTINGS}, so not a pretraining run" if self.path.exists() else "no such folder"
            raise DataError(f"{self.path}: {problem}; use a folder written by `guidino pretrain -o`")
        return read_pretrain_config(path)

    def facts(self) -> dict[str, Any]:
        """Content of `pretraining.json`: versions, weights, images and result."""
        path, hint = self.path / _FACTS, "start it again"
        facts = read_facts(path, version=_FORMAT, hint=hint)
        require_type(facts, _Facts, source=path, hint=hint)
        return facts

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Write `pretraining.json`."""
        write_text(self.path / _FACTS, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """One dictionary for every `train.log_every` steps; `DataError` names a line that is damaged."""
        return read_history(self.path / _HISTORY, counter="step")

    def save_history(self, history: list[dict[str, Any]]) -> None:
        """Write the rows as JSON lines."""
        write_history(self.path / _HISTORY, history)
