"""Writing imported weights as a folder in Hugging Face layout, with a record of their origin."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from guidino_cli.errors import WeightsError
from guidino_cli.files import atomic_folder
from guidino_cli.json_files import read_record
from guidino_cli.models.pretrained.catalogue import LICENCE_PAGES
from guidino_cli.models.pretrained.loading import LoadedNetwork

IMPORT_RECORD_FILE = "guidino.json"


@dataclass(frozen=True)
class ImportRecord:
    """Origin of the weights in a folder.

    Attributes:
        name: Name of the weights.
        source: Name of the file or folder they were imported from.
        source_sha256: SHA-256 of that file, or of the first weight file of a folder.
        weights_sha256: See `hash_weights`.
        licence: Licence of the weights.
        features: See `feature_fingerprint`.
    """

    name: str
    source: str
    source_sha256: str
    weights_sha256: str
    licence: str
    features: list[float]


def save_converted_weights(loaded: LoadedNetwork, record: ImportRecord, folder: Path) -> None:
    """Write config, weights, preprocessing, licence note and import record; an existing folder is replaced.

    Raises:
        ResourceError: The disk is full or the folder cannot be written.
    """
    with atomic_folder(folder) as temporary:
        _write_files(temporary, loaded, record)


def read_import_record(folder: Path) -> ImportRecord | None:
    """The import record of a folder, or None if guidino has not written it.

    Raises:
        WeightsError: The record is damaged.
    """
    path = folder / IMPORT_RECORD_FILE
    if not path.is_file():
        return None
    return read_record(path, ImportRecord, error=WeightsError, hint="import the weights again")


def write_preprocessor_config(folder: Path, mean: Sequence[float], std: Sequence[float]) -> None:
    """Write `preprocessor_config.json`: mean and standard deviation per channel for images in [0, 1]."""
    settings = {"do_normalize": True, "image_mean": list(mean), "image_std": list(std)}
    _write_json(folder / "preprocessor_config.json", settings)


def _write_files(folder: Path, loaded: LoadedNetwork, record: ImportRecord) -> None:
    with torch.no_grad():
        for parameter in loaded.network.parameters():
            # Chunks of a fused tensor share its storage, which safetensors refuses to write.
            if parameter.untyped_storage().nbytes() != parameter.numel() * parameter.element_size():
                parameter.data = parameter.data.clone()
    loaded.network.save_pretrained(folder)
    write_preprocessor_config(folder, loaded.mean, loaded.std)
    _write_json(folder / IMPORT_RECORD_FILE, asdict(record))
    page = LICENCE_PAGES.get(record.licence, "the source of the weights")
    (folder / "LICENCE.txt").write_text(
        f"These weights ({record.name}) are under: {record.licence}.\nIts text: {page}\n"
        "If you pass on these weights, or weights derived from them, pass on the licence too.\n",
        encoding="utf-8",
    )
    _make_readable(folder)


def _make_readable(folder: Path) -> None:
    """Apply the umask: safetensors writes files that only their owner can read."""
    mask = os.umask(0)
    os.umask(mask)
    for file in folder.iterdir():
        file.chmod(0o666 & ~mask)


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
