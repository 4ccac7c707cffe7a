"""Maps of the slices of training volumes on disk: one file per volume and level, of which a patch reads its slices."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from guidino_cli.data.volumes.network_views import read_patch, to_network_order
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing
from guidino_cli.data.volumes.stored import open_array
from guidino_cli.device_transfer import to_device
from guidino_cli.engine.feature_cache.disk import TEMPORARY_SUFFIX, cached_bytes
from guidino_cli.errors import ConfigError, ResourceError
from guidino_cli.files import file_sha256
from guidino_cli.models.composed import Model
from guidino_cli.progress import log_info, log_warning
from guidino_cli.types import Case, StoredVolume

_SLICES_AT_ONCE = 32
_MAX_DIFFERENCE = 0.05


def covers_planes(cases: Sequence[Case], plane_hw: tuple[int, int], preprocessing: VolumePreprocessing) -> bool:
    """Whether patches of this height and width show the whole slices of all volumes."""
    shapes = [to_network_order(case.volume.shape, preprocessing) for case in cases if case.volume is not None]
    return all(height <= plane_hw[0] and width <= plane_hw[1] for _, height, width in shapes)


class VolumeFeatures:
    """Half-precision maps (D, Z, h, w) of a frozen backbone for every slice of the training volumes.

    A patch that shows whole slices has the maps of these slices, wherever it begins. Files are named by a digest of
    all that determines them, written under another name first, and used by other runs; the first one of another run is
    compared with what the backbone computes now.

    Args:
        folder: Folder of this backbone's cache.
        model: Computes the maps.
        cases: Training volumes.
        preprocessing: Maps intensities and orders axes.
        plane_hw: Height and width of the patches.
        gigabytes: Limit for all caches in the same folder; beyond it nothing is written.

    Attributes:
        folder: Where the files are.
        written: Number of volumes whose maps this run wrote.
    """

    def __init__(
        self,
        folder: Path,
        model: Model,
        cases: Sequence[Case],
        *,
        preprocessing: VolumePreprocessing,
        plane_hw: tuple[int, int],
        gigabytes: float,
    ) -> None:
        self.folder, self.written = folder / "volumes", 0
        self._model, self._cases, self._preprocessing, self._plane_hw = model, cases, preprocessing, plane_hw
        self._gigabytes = gigabytes
        self._free_bytes = gigabytes * 1e9 - cached_bytes(folder.parent)
        self._names: dict[tuple[int, str], str] = {}
        self._complete: dict[str, list[Path]] = {}
        self._is_trusted = self._is_full = False

    def patches(self, cases: Sequence[int], firsts: Sequence[int], depth: int) -> list[Tensor] | None:
        """Maps (B, D, depth, h, w) float32 of patches, on the model's device; None if some cannot be cached.

        Args:
            cases: Position of the case of each patch.
            firsts: Its first slice.
            depth: Slices of a patch; those beyond the volume repeat its last one.

        Raises:
            ConfigError: Files of another run differ from what the backbone computes.
            ResourceError: A value exceeds the range of half precision.
        """
        volumes = [self._levels(case) for case in cases]
        found = [levels for levels in volumes if levels is not None]
        if len(found) < len(volumes):
            return None
        parts = []
        for levels, first in zip(found, firsts, strict=True):
            places = np.arange(first, first + depth).clip(0, levels[0].shape[1] - 1)
            parts.append([np.ascontiguousarray(level[:, places]) for level in levels])
        device = self._model.mean.device
        stacked = [np.stack(level) for level in zip(*parts, strict=True)]
        return [to_device(torch.from_numpy(level), device).float() for level in stacked]

    def _levels(self, case: int) -> list[np.ndarray] | None:
        """Memory-mapped levels of a volume, computed if there are none."""
        name = self._name(case)
        levels = self._read(name)
        if levels is None:
            levels = self._compute(case, name)
        elif not self._is_trusted:
            self._compare(case, levels)
        return levels

    def _read(self, name: str) -> list[np.ndarray] | None:
        # Every patch asks again: a folder of thousands of files is searched once for each volume.
        paths = self._complete.get(name) or self._find(name)
        try:
            levels = [np.load(path, mmap_mode="r", allow_pickle=False) for path in paths]
        except (OSError, ValueError):
            return None
        if levels:
            self._complete[name] = paths
        return levels or None

    def _find(self, name: str) -> list[Path]:
        """Files of all levels; [] unless none is missing: their number is in the names."""
        paths = sorted(self.folder.glob(f"{name}-*.npy"), key=lambda path: int(path.stem[33:].partition("of")[0]))
        return paths if paths and len(paths) == int(paths[0].stem.rpartition("of")[2]) else []

    def _compute(self, case: int, name: str) -> list[np.ndarray] | None:
        if self._is_full:
            return None
        volume = self._volume(case)
        depth = to_network_order(volume.shape, self._preprocessing)[0]
        parts = [
            self._slice_maps(volume, start, min(_SLICES_AT_ONCE, depth - start))
            for start in range(0, depth, _SLICES_AT_ONCE)
        ]
        levels = [np.concatenate(level, axis=1) for level in zip(*parts, strict=True)]
        size = sum(level.nbytes for level in levels)
        if size > self._free_bytes:
            self._stop_writing(f"reached its limit of {self._gigabytes:g} GB (train.dense_cache_disk_gb)")
            return None
        self._is_trusted = True
        try:
            self._write(name, levels)
        except OSError as error:
            self._stop_writing(f"cannot be written ({error.strerror})")
            return None
        self._free_bytes -= size
        self.written += 1
        return levels

    def _write(self, name: str, levels: Sequence[np.ndarray]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for number, level in enumerate(levels):
            path = self.folder / f"{name}-{number}of{len(levels)}.npy"
            temporary = path.with_name(f"{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
            try:
                with temporary.open("wb") as file:
                    np.save(file, level, allow_pickle=False)
                os.replace(temporary, path)
            finally:
                with suppress(OSError):
                    temporary.unlink()

    def _stop_writing(self, reason: str) -> None:
        self._is_full = True
        log_warning(f"{self.folder}: {reason}; maps of other volumes are computed in every step")

    @torch.no_grad()
    def _slice_maps(self, volume: StoredVolume, start: int, count: int) -> list[np.ndarray]:
        """Levels (D, count, h, w) float16 of the slices from `start` on."""
        size = (count, *self._plane_hw)
        patch = read_patch(open_array(volume.image), volume.statistics, (start, 0, 0), size, self._preprocessing)
        maps = self._model.dense_maps(to_device(torch.from_numpy(patch)[None], self._model.mean.device))
        levels = [level[0].half() for level in maps]
        if not all(bool(level.isfinite().all()) for level in levels):
            raise ResourceError(
                "the backbone's features have values beyond 65,504, the limit of half precision; "
                "set train.dense_cache=memory, or model.backbone.options.norm=true"
            )
        return [level.cpu().numpy() for level in levels]

    def _compare(self, case: int, levels: Sequence[np.ndarray]) -> None:
        """Refuse files of other runs that differ from what is computed now: an update may have changed the code."""
        computed = self._slice_maps(self._volume(case), 0, 1)
        for old, new in zip(levels, computed, strict=True):
            before, now = old[:, :1].astype(np.float32), new.astype(np.float32)
            difference = float("inf") if before.shape != now.shape else np.abs(before - now).mean()
            if difference > _MAX_DIFFERENCE * max(float(np.abs(now).mean()), 1e-12):
                raise ConfigError(
                    f"{self.folder}: the cached features differ from those of the backbone; delete that folder, "
                    "or set train.dense_cache=memory"
                )
        self._is_trusted = True

    def _volume(self, case: int) -> StoredVolume:
        volume = self._cases[case].volume
        if volume is None:
            raise ValueError(f"case {self._cases[case].id} is no volume")
        return volume

    def _name(self, case: int) -> str:
        """Digest of all that determines the maps beside the backbone: voxels, intensities, axes, plane, precision."""
        kind = self._model.mean.device.type
        precision = str(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else ""
        if (case, precision) not in self._names:
            volume = self._volume(case)
            content = {
                "image": file_sha256(volume.image),
                "statistics": [asdict(item) for item in volume.statistics],
                "intensities": [asdict(item) for item in self._preprocessing.intensities],
                "slice_axis": self._preprocessing.slice_axis,
                "plane": self._plane_hw,
                "channels": self._model.backbone_channels,
                "precision": precision,
            }
            text = json.dumps(content, sort_keys=True)
            self._names[case, precision] = hashlib.sha256(text.encode()).hexdigest()[:32]
        return self._names[case, precision]


def log_volume_cache(features: VolumeFeatures | None) -> None:
    """Say where the maps of training volumes are kept, or what would have to be set for that."""
    if features is None:
        log_info(
            "guidino: maps of training volumes are not cached: that needs data.augment=none, and a data.patch_size "
            "whose rows and columns cover all volumes"
        )
    else:
        log_info(f"guidino: maps of training volumes are kept in {features.folder}")
