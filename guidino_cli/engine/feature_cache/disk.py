"""Cache for the features of a frozen backbone on disk, shared between runs; one folder for each backbone."""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from guidino_cli.device_transfer import to_device
from guidino_cli.engine.feature_cache.cache import FeatureCache
from guidino_cli.errors import ConfigError, ResourceError
from guidino_cli.models.backbones.convnext import ConvNeXt
from guidino_cli.models.backbones.spec import describe_backbone
from guidino_cli.models.backbones.vit import ViT
from guidino_cli.models.base import Backbone
from guidino_cli.progress import log_warning

FORMAT = "1"
TEMPORARY_SUFFIX = ".tmp"
# Relative to their mean size. Half precision and another order of sums stay far below, another network far above.
_MAX_DIFFERENCE = 0.05


class DiskCache(FeatureCache):
    """Features in half precision, one file for each input image of a backbone, for this run and others.

    Files are named by a digest of the pixels, so resized, cropped or mirrored images are images of their own. They are
    written atomically, and their checksum is verified before the first use; the first batch cached by another run is
    computed all the same, and compared. Features that have just been computed are rounded like those that are read, so
    a run does not depend on what was cached before it.

    Args:
        folder: Folder of this backbone; see `open_disk_cache`.
        gigabytes: Limit for all backbones in the parent folder, in 10^9 bytes; beyond it nothing is written.
        held_bytes: Current size of the parent folder.
        device: Device of the returned features.

    Attributes:
        folder: Folder of this backbone.
        written: Number of images whose features were written.
    """

    def __init__(self, folder: Path, *, gigabytes: float, held_bytes: int, device: torch.device) -> None:
        self.folder, self.written = folder, 0
        self._device, self._gigabytes = device, gigabytes
        self._free_bytes = gigabytes * 1e9 - held_bytes
        self._digests: dict[Hashable, str] = {}
        # Files written by this run, and others whose checksum was verified.
        self._own: set[str] = set()
        self._verified: set[str] = set()
        self._warned: set[str] = set()
        self._is_trusted = False

    def get_or_compute(
        self, keys: Sequence[Hashable], compute: Callable[[], list[Tensor]], *, pixels: Tensor
    ) -> list[Tensor]:
        """See `FeatureCache`; features are float32 on the cache's device.

        Raises:
            ConfigError: The cached features differ from what the backbone computes.
        """
        names = [self._name(key, image) for key, image in zip(keys, pixels, strict=True)]
        cached = [self._read(name) for name in names]
        found = [item for item in cached if item is not None]
        needs_check = not self._is_trusted and any(
            item is not None and name not in self._own for item, name in zip(cached, names, strict=True)
        )
        if len(found) == len(names) and not needs_check:
            return self._join(found)
        computed = _to_half(compute())
        if needs_check:
            self._compare(cached, computed)
        for name, old, new in zip(names, cached, computed, strict=True):
            if old is None:
                self._write(name, new)
        return self._join([new if old is None else old for old, new in zip(cached, computed, strict=True)])

    def _name(self, key: Hashable, image: Tensor) -> str:
        """Name of the file; the digest of a key is computed once. Autocast gives other features, hence other files."""
        if key not in self._digests:
            self._digests[key] = pixel_digest(image)
        kind = self._device.type
        if not torch.is_autocast_enabled(kind):
            return self._digests[key]
        return f"{self._digests[key]}-{str(torch.get_autocast_dtype(kind)).removeprefix('torch.')}"

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.safetensors"

    def _read(self, name: str) -> list[Tensor] | None:
        """Memory-mapped levels (h, w, D), or None if the file is missing or damaged."""
        path = self._path(name)
        try:
            with safe_open(path, framework="pt") as file:
                levels = [file.get_tensor(str(number)) for number in range(len(file.keys()))]
                is_intact = name in self._verified or file.metadata() == _metadata(levels)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except MemoryError:
            raise
        except Exception:  # safetensors lets many kinds of errors of damaged files through
            is_intact = False
        if not is_intact:
            self._warn_once("damaged", f"{path}: is damaged, so its features are computed again")
            return None
        self._verified.add(name)
        return levels

    def _write(self, name: str, levels: list[Tensor]) -> None:
        content = save({str(number): level for number, level in enumerate(levels)}, _metadata(levels))
        path = self._path(name)
        if len(content) > self._free_bytes:
            limit = f"{self._gigabytes:g} GB (train.dense_cache_disk_gb)"
            self._warn_once(
                "full", f"{self.folder.parent}: reached its limit of {limit}; features of other images are not cached"
            )
            return
        temporary = path.with_name(f"{name}.{os.getpid()}{TEMPORARY_SUFFIX}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            os.replace(temporary, path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            self._free_bytes = 0
            self._warn_once("full", f"{self.folder}: cannot be written ({error.strerror}); no more features are cached")
            return
        self._free_bytes -= len(content)
        self.written += 1
        self._own.add(name)

    def _compare(self, cached: Sequence[list[Tensor] | None], computed: Sequence[list[Tensor]]) -> None:
        """Refuse features of other runs that differ from those computed now: an update may have changed the code."""
        for old, new in zip(cached, computed, strict=True):
            for before, now in zip(old or (), new, strict=False):
                if before.shape != now.shape or _relative_difference(before, now) > _MAX_DIFFERENCE:
                    raise ConfigError(
                        f"{self.folder}: the cached features differ from those of the backbone; delete that folder, "
                        "or set train.dense_cache=memory"
                    )
        self._is_trusted = True

    def _join(self, samples: Sequence[list[Tensor]]) -> list[Tensor]:
        """(B, D, h, w) float32 of each level, channels-last in memory as a ViT's tokens are."""
        levels = zip(*samples, strict=True)
        # Autocast to bfloat16 cannot stack half precision.
        with torch.autocast("cpu", enabled=False):
            batch = [torch.stack(level) for level in levels]
        return [to_device(level, self._device).float().permute(0, 3, 1, 2) for level in batch]

    def _warn_once(self, topic: str, message: str) -> None:
        """Warn of the first of possibly many files only."""
        if topic not in self._warned:
            log_warning(message)
        self._warned.add(topic)


def pixel_digest(image: Tensor) -> str:
    """Digest of an image's shape and pixels; 32 hexadecimal digits."""
    pixels = image.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tuple(pixels.shape)} {pixels.dtype}".encode())
    digest.update(pixels.numpy().data)
    return digest.hexdigest()[:32]


def _to_half(maps: Sequence[Tensor]) -> list[list[Tensor]]:
    """Levels (h, w, D) of each sample in half precision, in main memory.

    Raises:
        ResourceError: A value exceeds the range of half precision.
    """
    levels = [level.detach().permute(0, 2, 3, 1).half().cpu().contiguous() for level in maps]
    if not all(bool(level.isfinite().all()) for level in levels):
        raise ResourceError(
            "the backbone's features have values beyond 65,504, the limit of half precision; "
            "set train.dense_cache=memory, or model.backbone.options.norm=true"
        )
    return [list(sample) for sample in zip(*levels, strict=True)]


def _metadata(levels: Sequence[Tensor]) -> dict[str, str]:
    total = 0
    for level in levels:
        total = zlib.crc32(level.numpy().data, total)
    return {"format": FORMAT, "crc32": f"{total:08x}"}


def _relative_difference(before: Tensor, now: Tensor) -> float:
    """Mean absolute difference relative to the mean absolute value."""
    difference = (before.float() - now.float()).abs().mean()
    return float(difference / now.float().abs().mean().clamp(min=1e-12))


_DESCRIPTION_FILE = "about.json"
_HOUR = 3600.0


def default_cache_folder() -> Path:
    """Default of `train.dense_cache_folder`: in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "guidino" / "features"


def open_disk_cache(
    backbone: Backbone | None, *, root: Path, gigabytes: float, device: torch.device
) -> DiskCache | None:
    """Open the cache of a backbone, in its own folder below `root`; None without one or for one that is trained.

    Raises:
        ConfigError: The folder cannot be created.
    """
    if backbone is None or not backbone.is_frozen:
        return None
    description = _description(backbone)
    text = json.dumps(description, indent=2, sort_keys=True)
    folder = root / hashlib.sha256(text.encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{_DESCRIPTION_FILE}.{os.getpid()}{TEMPORARY_SUFFIX}"
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, folder / _DESCRIPTION_FILE)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be written ({error.strerror}), so features cannot be cached there; "
            "set train.dense_cache_folder, or train.dense_cache=memory"
        ) from error
    _remove_unfinished(folder)
    return DiskCache(folder, gigabytes=gigabytes, held_bytes=cached_bytes(root), device=device)


def cached_bytes(folder: Path) -> int:
    """Size of the cached features of all backbones in a folder, without other files; 0 if it does not exist."""
    total = 0
    for path in (*folder.glob("*/??/*.safetensors"), *folder.glob("*/volumes/*.npy")):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # Another run has just replaced it.
            continue
    return total


def _description(backbone: Backbone) -> dict[str, object]:
    """All that determines the features of a backbone: the SHA-256 of its weights, not their path."""
    dtype = backbone.pending_dtype or next(backbone.parameters()).dtype
    weights = {"sha256": backbone.identity["sha256"], "dtype": str(dtype)}
    description: dict[str, object] = {"format": FORMAT, "kind": type(backbone).__name__, "weights": weights}
    if isinstance(backbone, ViT | ConvNeXt):
        spec = asdict(describe_backbone(backbone))
        del spec["identity"]
        return description | spec
    # Names and sizes of its layers; other differences are found by comparing the first batch of a run.
    structure = hashlib.sha256(repr(backbone).encode()).hexdigest()
    return description | {"structure": structure, "level_channels": backbone.level_channels, "stride": backbone.stride}


def _remove_unfinished(folder: Path) -> None:
    """Remove files that killed runs left unfinished, an hour old: another run may be writing right now."""
    for path in folder.glob(f"*/*{TEMPORARY_SUFFIX}"):
        try:
            if time.time() - path.stat().st_mtime > _HOUR:
                path.unlink()
        except FileNotFoundError:
            continue
