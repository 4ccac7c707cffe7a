"""The folder of a network for OpenVINO: its files, what `engine.json` says about them, and the check of both."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from guidino_cli.errors import WeightsError
from guidino_cli.files import file_sha256, write_text
from guidino_cli.json_files import read_json_object, require_type

ENGINE_FILE = "engine.json"
"""Its presence tells such a folder from that of a run."""
NETWORK_FILES = ("model.xml", "model.bin")
_FORMAT = 1
Precision = Literal["f32", "int8"]


class EngineFacts(TypedDict):
    """Entries of `engine.json` that are read again; the others are for readers.

    Attributes:
        format: Version of the file.
        engine: Always "openvino".
        precision: "f32", or "int8" where NNCF quantised it.
        run: Name of the run that was exported.
        weights: What identifies the masks: the SHA-256 of the run's weights in full precision, else of the network.
        has_guide: Whether the network has an output "guide".
        sha256: Of each file of the network.
    """

    format: int
    engine: Literal["openvino"]
    precision: Precision
    run: str
    weights: str
    has_guide: bool
    sha256: dict[str, str]
    int8: NotRequired[dict[str, Any]]


@dataclass(frozen=True)
class EngineFolder:
    """A folder that `guidino export --openvino` wrote, beside whose network lie the settings and facts of the run."""

    path: Path

    @property
    def network(self) -> Path:
        """The file that OpenVINO reads; the weights lie beside it."""
        return self.path / NETWORK_FILES[0]

    def facts(self) -> EngineFacts:
        """Content of `engine.json`; `WeightsError` if it is damaged or of another format."""
        path, hint = self.path / ENGINE_FILE, "export the run again"
        content = read_json_object(path, hint=hint, error=WeightsError)
        if content.get("format") != _FORMAT:
            found = content.get("format")
            raise WeightsError(f"{path}: format {found}, this guidino reads {_FORMAT}; {hint}, or use a newer guidino")
        facts: EngineFacts = require_type(content, EngineFacts, source=path, hint=hint, error=WeightsError)
        return facts

    def verify(self) -> EngineFacts:
        """The facts, after comparing the files with their SHA-256.

        Raises:
            WeightsError: A file is missing or changed, or `engine.json` is damaged.
        """
        facts = self.facts()
        for name in NETWORK_FILES:
            path = self.path / name
            if not path.is_file():
                raise WeightsError(f"{path}: missing; copy the whole folder, or export {facts['run']} again")
            found, expected = file_sha256(path), facts["sha256"].get(name)
            if found != expected:
                raise WeightsError(
                    f"{path}: has SHA-256 {found}, but {ENGINE_FILE} says {expected}; "
                    f"copy the folder again, or export {facts['run']} again"
                )
        return facts

    def write_facts(self, facts: dict[str, Any]) -> None:
        """Write `engine.json` with the format, the engine and the SHA-256 of the files that are there."""
        sha256 = {name: file_sha256(self.path / name) for name in NETWORK_FILES}
        content = {"format": _FORMAT, "engine": "openvino", **facts, "sha256": sha256}
        write_text(self.path / ENGINE_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def is_engine_folder(path: Path) -> bool:
    """Whether a folder holds a network for OpenVINO instead of the weights of a run."""
    return (path / ENGINE_FILE).is_file()
