"""Where the dense maps of a backbone lie: a folder that is its own, what says whose it is, and how much all hold."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import torch

from guidino_cli.engine.dense_maps.files import FORMAT, UNFINISHED, DiskCache
from guidino_cli.errors import ConfigError
from guidino_cli.models.backbones.blueprint import blueprint_of
from guidino_cli.models.backbones.convnext import ConvNeXt
from guidino_cli.models.backbones.vit import ViT
from guidino_cli.models.base import Backbone

_ABOUT = "about.json"
_HOUR = 3600.0


def default_folder() -> Path:
    """Where maps lie, unless a run says otherwise: in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "guidino" / "features"


def disk_cache(backbone: Backbone | None, *, root: Path, gigabytes: float, device: torch.device) -> DiskCache | None:
    """A cache for a backbone, in a folder of `root` that is its own, or None if there is none or it learns.

    Raises:
        ConfigError: The folder cannot be made.
    """
    if backbone is None or not backbone.is_frozen:
        return None
    about = _about(backbone)
    text = json.dumps(about, indent=2, sort_keys=True)
    folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{_ABOUT}.{os.getpid()}{UNFINISHED}"
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, folder / _ABOUT)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be written ({error.strerror}), so no maps can be kept there; "
            "set train.dense_cache_folder, or train.dense_cache=memory"
        ) from error
    _tidy(folder)
    return DiskCache(folder, gigabytes=gigabytes, held_bytes=bytes_in(root), device=device)


def bytes_in(folder: Path) -> int:
    """Of the maps of all backbones that are kept in a folder, not of what else lies there; 0 if it does not exist."""
    total = 0
    for path in folder.glob("*/??/*.safetensors"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # Another run has just renamed it.
            continue
    return total


def _about(backbone: Backbone) -> dict[str, object]:
    """All that decides a backbone's maps. Where its weights lie does not: their SHA-256 does."""
    weights = {"sha256": backbone.identity["sha256"], "dtype": str(next(backbone.parameters()).dtype)}
    about: dict[str, object] = {"format": FORMAT, "kind": type(backbone).__name__, "weights": weights}
    if isinstance(backbone, ViT | ConvNeXt):
        blueprint = asdict(blueprint_of(backbone))
        del blueprint["identity"]
        return about | blueprint
    # The names and sizes of its layers; what they leave open, the comparison of a run's first batch finds out.
    structure = hashlib.sha256(repr(backbone).encode()).hexdigest()
    return about | {"structure": structure, "level_channels": backbone.level_channels, "stride": backbone.stride}


def _tidy(folder: Path) -> None:
    """Remove what killed runs left half written; another run may be writing right now, but not for an hour."""
    for path in folder.glob(f"*/*{UNFINISHED}"):
        try:
            if time.time() - path.stat().st_mtime > _HOUR:
                path.unlink()
        except FileNotFoundError:
            continue
