"""Backbone features on disk: files of one folder that later runs read, and whose folder it is."""

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
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from guidino_cli.engine.feature_cache.cache import FeatureCache
from guidino_cli.errors import ConfigError, ResourceError
from guidino_cli.models.backbones.convnext import ConvNeXt
from guidino_cli.models.backbones.spec import describe_backbone
from guidino_cli.models.backbones.vit import ViT
from guidino_cli.models.base import Backbone
from guidino_cli.progress import log_warning

FORMAT = "1"
TEMPORARY_SUFFIX = ".tmp"
# Of their mean size. Half precision and another order of sums stay far below, another network far above.
_FAR = 0.05


class DiskCache(FeatureCache):
    """Maps in half precision, one file for each image that a backbone was shown, for this run and others.

    A file is called by a digest of the very pixels, so that resized, cropped or mirrored ones are images of their own.
    It is written whole or not at all, and checked by a sum before its first use; the first batch that another run has
    kept is computed all the same, and compared. Maps that have just been computed are rounded like those that are read,
    so that a run does not depend on what was there before it.

    Args:
        folder: Of this backbone's maps; see `folder.disk_cache`.
        gigabytes: How much its parent may hold, in 10^9 bytes; beyond, nothing more is written.
        held_bytes: How much its parent holds already.
        device: Where maps are wanted.

    Attributes:
        kept: Images whose maps were written.
    """

    def __init__(self, folder: Path, *, gigabytes: float, held_bytes: int, device: torch.device) -> None:
        self.folder, self.kept = folder, 0
        self._device, self._gigabytes = device, gigabytes
        self._free_bytes = gigabytes * 1e9 - held_bytes
        self._digests: dict[Hashable, str] = {}
        # Files of this run's own making, and others whose sum was right.
        self._own: set[str] = set()
        self._sound: set[str] = set()
        self._complaints: set[str] = set()
        self._is_trusted = False

    def recall(self, keys: Sequence[Hashable], compute: Callable[[], list[Tensor]], *, pixels: Tensor) -> list[Tensor]:
        """See `DenseCache`; maps are float32 on the cache's device.

        Raises:
            ConfigError: What lies there is not what the backbone says.
        """
        names = [self._name(key, image) for key, image in zip(keys, pixels, strict=True)]
        kept = [self._read(name) for name in names]
        found = [item for item in kept if item is not None]
        is_news = not self._is_trusted and any(
            item is not None and name not in self._own for item, name in zip(kept, names, strict=True)
        )
        if len(found) == len(names) and not is_news:
            return self._joined(found)
        computed = _halves(compute())
        if is_news:
            self._compare(kept, computed)
        for name, old, new in zip(names, kept, computed, strict=True):
            if old is None:
                self._write(name, new)
        return self._joined([new if old is None else old for old, new in zip(kept, computed, strict=True)])

    def _name(self, key: Hashable, image: Tensor) -> str:
        """Of the file; a key's pixels are looked at once. In autocast a backbone says something else."""
        if key not in self._digests:
            self._digests[key] = pixel_digest(image)
        kind = self._device.type
        if not torch.is_autocast_enabled(kind):
            return self._digests[key]
        return f"{self._digests[key]}-{str(torch.get_autocast_dtype(kind)).removeprefix('torch.')}"

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.safetensors"

    def _read(self, name: str) -> list[Tensor] | None:
        """Mapped levels (h, w, D), or None where there are none that can be used."""
        path = self._path(name)
        try:
            with safe_open(path, framework="pt") as file:
                levels = [file.get_tensor(str(number)) for number in range(len(file.keys()))]
                is_sound = name in self._sound or file.metadata() == _metadata(levels)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, SafetensorError):
            is_sound = False
        if not is_sound:
            self._complain("damaged", f"{path}: damaged, so its maps are computed anew")
            return None
        self._sound.add(name)
        return levels

    def _write(self, name: str, levels: list[Tensor]) -> None:
        content = save({str(number): level for number, level in enumerate(levels)}, _metadata(levels))
        path = self._path(name)
        if len(content) > self._free_bytes:
            limit = f"{self._gigabytes:g} GB (train.dense_cache_disk_gb)"
            self._complain(
                "full", f"{self.folder.parent}: holds its {limit} of maps; those of other images are not kept"
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
            self._complain("full", f"{self.folder}: cannot be written ({error.strerror}); no more maps are kept")
            return
        self._free_bytes -= len(content)
        self.kept += 1
        self._own.add(name)

    def _compare(self, kept: Sequence[list[Tensor] | None], computed: Sequence[list[Tensor]]) -> None:
        """Refuse what others have kept if the backbone says something else now: an update may have changed it."""
        for old, new in zip(kept, computed, strict=True):
            for before, now in zip(old or (), new, strict=False):
                if before.shape != now.shape or _apart(before, now) > _FAR:
                    raise ConfigError(
                        f"{self.folder}: the maps kept there are not what the backbone says now; delete that folder, "
                        "or set train.dense_cache=memory"
                    )
        self._is_trusted = True

    def _joined(self, samples: Sequence[list[Tensor]]) -> list[Tensor]:
        """(B, D, h, w) float32 of each level, channels next to each other in memory as a ViT's tokens are."""
        levels = zip(*samples, strict=True)
        # Autocast to bfloat16 cannot join half precision.
        with torch.autocast("cpu", enabled=False):
            batch = [torch.stack(level) for level in levels]
        return [level.to(self._device).float().permute(0, 3, 1, 2) for level in batch]

    def _complain(self, about: str, message: str) -> None:
        """Say a thing once; of a thousand files, the first is enough."""
        if about not in self._complaints:
            log_warning(message)
        self._complaints.add(about)


def pixel_digest(image: Tensor) -> str:
    """Of an image's shape and pixels; 32 hexadecimal digits."""
    pixels = image.detach().cpu().contiguous()
    found = hashlib.sha256(f"{tuple(pixels.shape)} {pixels.dtype}".encode())
    found.update(pixels.numpy().data)
    return found.hexdigest()[:32]


def _halves(maps: Sequence[Tensor]) -> list[list[Tensor]]:
    """For each sample its levels (h, w, D) in half precision, in main memory.

    Raises:
        ResourceError: A value that half precision does not hold.
    """
    levels = [level.detach().permute(0, 2, 3, 1).half().cpu().contiguous() for level in maps]
    if not all(bool(level.isfinite().all()) for level in levels):
        raise ResourceError(
            "the backbone's maps have values beyond 65,504, which half precision does not hold; "
            "set train.dense_cache=memory, or model.backbone.options.norm=true"
        )
    return [list(sample) for sample in zip(*levels, strict=True)]


def _metadata(levels: Sequence[Tensor]) -> dict[str, str]:
    total = 0
    for level in levels:
        total = zlib.crc32(level.numpy().data, total)
    return {"format": FORMAT, "crc32": f"{total:08x}"}


def _apart(before: Tensor, now: Tensor) -> float:
    """Mean difference, as a share of the mean size."""
    difference = (before.float() - now.float()).abs().mean()
    return float(difference / now.float().abs().mean().clamp(min=1e-12))


_ABOUT = "about.json"
_HOUR = 3600.0


def default_cache_folder() -> Path:
    """Where maps lie, unless a run says otherwise: in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "guidino" / "features"


def open_disk_cache(
    backbone: Backbone | None, *, root: Path, gigabytes: float, device: torch.device
) -> DiskCache | None:
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
        temporary = folder / f"{_ABOUT}.{os.getpid()}{TEMPORARY_SUFFIX}"
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, folder / _ABOUT)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be written ({error.strerror}), so no maps can be kept there; "
            "set train.dense_cache_folder, or train.dense_cache=memory"
        ) from error
    _tidy(folder)
    return DiskCache(folder, gigabytes=gigabytes, held_bytes=cached_bytes(root), device=device)


def cached_bytes(folder: Path) -> int:
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
        blueprint = asdict(describe_backbone(backbone))
        del blueprint["identity"]
        return about | blueprint
    # The names and sizes of its layers; what they leave open, the comparison of a run's first batch finds out.
    structure = hashlib.sha256(repr(backbone).encode()).hexdigest()
    return about | {"structure": structure, "level_channels": backbone.level_channels, "stride": backbone.stride}


def _tidy(folder: Path) -> None:
    """Remove what killed runs left half written; another run may be writing right now, but not for an hour."""
    for path in folder.glob(f"*/*{TEMPORARY_SUFFIX}"):
        try:
            if time.time() - path.stat().st_mtime > _HOUR:
                path.unlink()
        except FileNotFoundError:
            continue
