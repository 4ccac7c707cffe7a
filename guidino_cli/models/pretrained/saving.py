"""Write pretrained weights as a folder in Hugging Face layout, whole or not at all, with where they came from."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from guidino_cli.errors import WeightsError
from guidino_cli.files import atomic_folder
from guidino_cli.models.pretrained.catalogue import LICENCE_PAGES
from guidino_cli.models.pretrained.loading import LoadedNetwork

IMPORT_RECORD_FILE = "guidino.json"


@dataclass(frozen=True)
class ImportRecord:
    """What a folder says of its weights.

    Attributes:
        name: Of the weights.
        source: Name of the file or folder they were read from.
        source_sha256: Of that file; of a folder, the first of its files of weights.
        weights_sha256: Over the tensors, as runs record it.
        licence: That the weights are under.
        features: See `feature_fingerprint`.
    """

    name: str
    source: str
    source_sha256: str
    weights_sha256: str
    licence: str
    features: list[float]


def save_converted_weights(loaded: LoadedNetwork, record: ImportRecord, folder: Path) -> None:
    """Write config, weights, normalisation, licence note and record; an older folder is replaced.

    Raises:
        ResourceError: The disk is full or the place cannot be written.
    """
    with atomic_folder(folder) as place:
        _fill(place, loaded, record)


def read_import_record(folder: Path) -> ImportRecord | None:
    """The record of a folder, or None where guidino has not written it.

    Raises:
        WeightsError: It is there and damaged.
    """
    path = folder / IMPORT_RECORD_FILE
    if not path.is_file():
        return None
    try:
        return ImportRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{path}: not readable ({error}); import the weights again") from error


def write_preprocessor_config(folder: Path, mean: Sequence[float], std: Sequence[float]) -> None:
    """Say in `preprocessor_config.json` how images are normalised for the weights of a folder."""
    statistics = {"do_normalize": True, "image_mean": list(mean), "image_std": list(std)}
    _write_json(folder / "preprocessor_config.json", statistics)


def _fill(folder: Path, loaded: LoadedNetwork, record: ImportRecord) -> None:
    with torch.no_grad():
        for parameter in loaded.network.parameters():
            # Thirds of a fused tensor share its storage, which safetensors refuses to write.
            if parameter.untyped_storage().nbytes() != parameter.numel() * parameter.element_size():
                parameter.data = parameter.data.clone()
    loaded.network.save_pretrained(folder)
    write_preprocessor_config(folder, loaded.mean, loaded.std)
    _write_json(folder / IMPORT_RECORD_FILE, asdict(record))
    page = LICENCE_PAGES.get(record.licence, "the place where you got the weights")
    (folder / "LICENCE.txt").write_text(
        f"These weights ({record.name}) are under: {record.licence}.\nIts text: {page}\n"
        "Whoever passes them on, or weights derived from them, passes the licence on too.\n",
        encoding="utf-8",
    )
    _open_to_all(folder)


def _open_to_all(folder: Path) -> None:
    """safetensors writes files that only their owner may read; weights are for a whole group."""
    mask = os.umask(0)
    os.umask(mask)
    for file in folder.iterdir():
        file.chmod(0o666 & ~mask)


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
