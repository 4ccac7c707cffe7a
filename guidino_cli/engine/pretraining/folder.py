"""The folder of a pretraining run: settings, history and state while it runs, the backbone when it is done."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidino_cli.engine.checkpointing import STATE_FILE, has_state, read_state, remove_states, write_state
from guidino_cli.engine.run_folders import read_facts, require_empty
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import write_text
from guidino_cli.pretrain_config import PretrainConfig, dump_pretrain_config, read_pretrain_config

_FORMAT = 1
_SETTINGS, _FACTS, _HISTORY = "pretraining.yaml", "pretraining.json", "history.jsonl"
_BACKBONE = ("model.safetensors", "config.json", "preprocessor_config.json", "NOTICE.md")


@dataclass(frozen=True)
class PretrainFolder:
    """Paths of a run: `pretraining.yaml pretraining.json history.jsonl last/state.pt`, and beside them the backbone."""

    path: Path

    @property
    def state(self) -> Path:
        """Everything needed to go on; the state before it is beside it."""
        return self.path / "last" / STATE_FILE

    def require_empty(self, *, overwrite: bool) -> None:
        """`ConfigError` if the folder holds something and may not be overwritten, or is something else."""
        require_empty(self.path, overwrite=overwrite)
        if self.path.is_dir() and any(self.path.iterdir()) and not (self.path / _SETTINGS).is_file():
            raise ConfigError(
                f"{self.path}: is no folder of a pretraining run, and is not written over; choose another -o"
            )

    def create(self, config: PretrainConfig, facts: Mapping[str, Any]) -> None:
        """Start a new run; an old one's backbone, state and history go."""
        for name in (*_BACKBONE, _HISTORY):
            (self.path / name).unlink(missing_ok=True)
        remove_states(self.state.parent)
        write_text(self.path / _SETTINGS, dump_pretrain_config(config))
        self.write_facts({"format": _FORMAT, **facts})

    def config(self) -> PretrainConfig:
        """The run's settings; `DataError` if this is no run."""
        path = self.path / _SETTINGS
        if not path.is_file():
            what = f"no {_SETTINGS}, so no pretraining run" if self.path.exists() else "no such folder"
            raise DataError(f"{self.path}: {what}; give the folder that `guidino pretrain -o` wrote")
        return read_pretrain_config(path)

    def facts(self) -> dict[str, Any]:
        """What the run was made with."""
        return read_facts(self.path / _FACTS, version=_FORMAT, way="begin it anew")

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Write `pretraining.json`."""
        write_text(self.path / _FACTS, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")

    def has_state(self) -> bool:
        """Whether there is something to go on from."""
        return has_state(self.state.parent)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write tensors and plain values; the state before is kept too."""
        write_state(self.state.parent, state)

    def load_state(self) -> dict[str, Any]:
        """What `save_state` wrote last, or before if that is damaged; `DataError` without any."""
        return read_state(self.state.parent)

    def history(self) -> list[dict[str, Any]]:
        """One dictionary for every `train.log_every` steps; `DataError` names a line that is damaged."""
        path = self.path / _HISTORY
        rows: list[dict[str, Any]] = []
        for number, line in enumerate(path.read_bytes().splitlines() if path.is_file() else [], start=1):
            try:
                row: dict[str, Any] = json.loads(line)
                row["step"] = int(row["step"])
                rows.append(row)
            except (ValueError, KeyError, TypeError) as error:
                way = "put it right, or remove the line: only its numbers are lost then"
                raise DataError(f"{path}, line {number}: is damaged ({error}); {way}") from error
        return rows

    def save_history(self, history: list[dict[str, Any]]) -> None:
        """Write the rows as JSON lines."""
        write_text(self.path / _HISTORY, "".join(json.dumps(row) + "\n" for row in history))
