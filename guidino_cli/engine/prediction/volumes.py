"""`VolumePredictor`: one run or an ensemble, from volumes to labels, on the stored grid or on that of the source."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from guidino_cli.config import DataSettings, RunConfig
from guidino_cli.data.preprocess import network_size, resize_channels, restore_to_source
from guidino_cli.data.volumes.grid import Volume
from guidino_cli.data.volumes.network_views import from_network_order, read_patch, read_slab, to_network_order
from guidino_cli.data.volumes.preprocessing import StoredGridVolume, VolumePreprocessing, to_stored_grid
from guidino_cli.data.volumes.resampling import resampled_size
from guidino_cli.data.volumes.stored import StoredArray
from guidino_cli.device_transfer import to_device
from guidino_cli.engine.prediction.accumulation import Band, CasePart, OnPart
from guidino_cli.engine.prediction.inference import segment_batch, segment_image
from guidino_cli.engine.prediction.restoring import restore_bands, single_slices
from guidino_cli.engine.prediction.sliding import (
    PatchWindow,
    Window,
    count_windows,
    mirror_axes,
    sees_padding,
    segment_bands,
)
from guidino_cli.engine.runs.inputs import patch_size, slab_size
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.models.composed import Model
from guidino_cli.types import ChannelStatistics, Geometry

OnProgress = Callable[[int, int], None]
"""Called with the number of finished slices and that of all."""


class VolumeSegmentation(NamedTuple):
    """The result for one volume, with canonical axes.

    Attributes:
        labels: (Z, Y, X) class indices, uint8 or, above 256 classes, uint16.
        guide: (G, Z, Y, X) float32 in [0, 1] on the same grid; None without a guide, or if it was not kept.
        probabilities: (K, Z, Y, X) float16 on the stored grid if they were kept, else None.
    """

    labels: np.ndarray
    guide: np.ndarray | None
    probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class VolumeMember:
    """One run of an ensemble: its model in evaluation mode, and how it sees a volume.

    Attributes:
        model: The network.
        settings: Settings of the data.
        preprocessing: Grid, intensities and order of axes.
        window: A `PatchWindow` of dims 3, else the window of a slice.
    """

    model: Model
    settings: DataSettings
    preprocessing: VolumePreprocessing
    window: Window | PatchWindow

    @classmethod
    def from_config(
        cls,
        model: Model,
        config: RunConfig,
        preprocessing: VolumePreprocessing,
        *,
        mirror: bool | None = None,
        precision: str = "no",
    ) -> "VolumeMember":
        """The member of a run, in a resolved precision; `mirror` replaces `predict.mirror`.

        Raises:
            ConfigError: `predict.mirror` names an axis that the network does not see.
        """
        data, settings = config.data, config.predict
        names = "".join("zyx"[axis] for axis in preprocessing.axes)
        wanted = config.mirror_along(names) if mirror is None else mirror
        are_affinities = config.model.target == "affinities"
        window: Window | PatchWindow
        if data.dims == 3:
            axes = mirror_axes(wanted, names)
            window = PatchWindow(
                patch_size(data),
                settings.overlap,
                axes,
                settings.batch_size,
                settings.mirror_backbone,
                are_affinities=are_affinities,
                precision=precision,
            )
        else:
            axes = mirror_axes(wanted, names[1:])
            window = Window(
                data.image_size,
                settings.overlap,
                bool(axes),
                settings.batch_size,
                settings.mirror_backbone,
                axes or (-2, -1),
                are_affinities=are_affinities,
                precision=precision,
                pads=sees_padding(config),
            )
        return cls(model, data, preprocessing, window)

    @property
    def slab(self) -> int:
        """Slices that a network of dims 2 or 2.5 sees at once."""
        return slab_size(self.settings)

    def describe(self) -> str:
        """Description of its windows for the first line of `predict`: "patches of 64 x 128 x 128 voxels x 8 flips"."""
        flips = f" x {self.window.flips} flips" if self.window.flips > 1 else ""
        if isinstance(self.window, PatchWindow):
            return f"patches of {' x '.join(map(str, self.window.sides))} voxels{flips}"
        axis = "zyx"[self.preprocessing.slice_axis]
        slabs = f"slabs of {self.slab} slices" if self.slab > 1 else "slices"
        return f"{slabs} along {axis}, windows of {self.window.size} px{flips}"

    def network_size(self, size: Sequence[int]) -> tuple[int, ...]:
        """Sizes (D, H, W) of a stored volume in the grid of the network."""
        if isinstance(self.window, PatchWindow):
            return tuple(size)
        height, width = size[1:]
        plane = network_size((height, width), resize=self.settings.resize, image_size=self.settings.image_size)
        return (size[0], *plane)

    def count_windows(self, size: Sequence[int]) -> int:
        """Number of windows that cover a stored volume (D, H, W)."""
        inner = self.network_size(size)
        if isinstance(self.window, PatchWindow):
            return count_windows(inner, self.window)
        return inner[0] * count_windows(inner[1:], self.window)

    @torch.inference_mode()
    def segment_bands(self, values: StoredArray, statistics: Sequence[ChannelStatistics]) -> Iterator[Band]:
        """Segment a stored volume (C, Z, Y, X); bands are on its grid, with axes in the network's order."""
        size = to_network_order(values.shape[1:], self.preprocessing)
        if isinstance(self.window, PatchWindow):
            sides, preprocessing = self.window.sides, self.preprocessing

            def read_window(corner: tuple[int, ...]) -> Tensor:
                return torch.from_numpy(read_patch(values, statistics, corner, sides, preprocessing))

            yield from segment_bands(self.model, size, read_window, self.window)
            return
        yield from self._segment_slices(values, statistics, size, self.window)

    def _segment_slices(
        self, values: StoredArray, statistics: Sequence[ChannelStatistics], size: tuple[int, int, int], window: Window
    ) -> Iterator[Band]:
        _, height, width = self.network_size(size)
        # Slices of one window share a forward pass; those of several windows fill it by themselves.
        is_one_window = count_windows((height, width), window) == 1
        step = window.batch_size if is_one_window else 1
        plane = Geometry.of_pixels("", size[1:])
        for start in range(0, size[0], step):
            images = []
            for index in range(start, min(start + step, size[0])):
                slab = read_slab(values, statistics, index, self.preprocessing, slab=self.slab)
                images.append(
                    to_device(torch.from_numpy(resize_channels(slab, (height, width))), self.model.mean.device)
                )
            if is_one_window:
                results = segment_batch(self.model, images, window)
            else:
                results = [segment_image(self.model, image, window) for image in images]
            guides = [restore_to_source(guide, plane) for _, guide in results if guide is not None]
            probabilities = torch.stack([restore_to_source(maps, plane) for maps, _ in results], dim=1)
            yield Band(start, probabilities, torch.stack(guides, dim=1) if guides else None)


class VolumePredictor:
    """Averages the probabilities of one or more runs.

    Args:
        members: Runs with the same classes; the guide is that of the first one that has any.

    Raises:
        ConfigError: The runs cut volumes into slices along different axes.
    """

    def __init__(self, members: Sequence[VolumeMember]) -> None:
        self.members = list(members)
        axes = {member.preprocessing.slice_axis for member in self.members}
        if len(axes) > 1:
            names = " and ".join("zyx"[axis] for axis in sorted(axes))
            raise ConfigError(
                f"the runs cut volumes along different axes ({names}, see data.slice_axis), and their results can only "
                "be averaged slice by slice; predict with each run by itself"
            )

    @classmethod
    def from_config(
        cls,
        model: Model,
        config: RunConfig,
        preprocessing: VolumePreprocessing,
        *,
        mirror: bool | None = None,
        precision: str = "no",
    ) -> "VolumePredictor":
        """The predictor of a single run, in a resolved precision; `mirror` replaces `predict.mirror`."""
        return cls([VolumeMember.from_config(model, config, preprocessing, mirror=mirror, precision=precision)])

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of (Z, Y, X) in the order in which the networks see them."""
        return tuple(self._axes.axes)

    @property
    def _axes(self) -> VolumePreprocessing:
        """Any preprocessing: the order of axes is the same for all."""
        return self.members[0].preprocessing

    @property
    def _spacings(self) -> set[tuple[float | None, ...]]:
        return {member.preprocessing.spacing_mm for member in self.members}

    def require_one_grid(self) -> None:
        """`ConfigError` if the runs were trained on different spacings, so that they share no stored grid."""
        if len(self._spacings) > 1:
            raise ConfigError("runs with different spacings have no grid in common on which to save probabilities")

    def segment_stored(
        self,
        values: StoredArray,
        statistics: Sequence[ChannelStatistics],
        spacing_mm: tuple[float, float, float],
        *,
        keep_guide: bool = True,
    ) -> VolumeSegmentation:
        """Segment a volume on its stored grid.

        Args:
            values: (C, Z, Y, X) as `guidino prepare` stored them.
            statistics: Statistics of all voxels of each channel.
            spacing_mm: Voxel size of the stored grid.
            keep_guide: Whether the guide, 4 bytes per voxel, is returned.

        Raises:
            DataError: A run was trained on another spacing.
        """
        shape = (values.shape[1], values.shape[2], values.shape[3])
        for member in self.members:
            wanted = member.preprocessing.spacing_mm
            if resampled_size(shape, spacing_mm, wanted) != shape:
                found = " x ".join(f"{length:.4g}" for length in spacing_mm)
                expected = " x ".join("any" if length is None else f"{length:.4g}" for length in wanted)
                raise DataError(f"stored voxels of {found} mm (z, y, x), but the run was trained on {expected} mm")
        bands = [member.segment_bands(values, statistics) for member in self.members]
        return _collect(bands, to_network_order(shape, self._axes), self._axes, keep_guide=keep_guide)

    def segment(
        self,
        volume: Volume,
        *,
        keep_guide: bool = False,
        keep_probabilities: bool = False,
        on_progress: OnProgress = lambda done, total: None,
        on_part: OnPart | None = None,
    ) -> VolumeSegmentation:
        """Segment a volume in the grid of its source; see `VolumeSegmentation`.

        Probabilities are averaged on the source's grid, so runs may have been trained on different spacings. They are
        held for a few slices only.

        Args:
            volume: As it was read.
            keep_guide: Whether the guide, 4 bytes per voxel, is returned.
            keep_probabilities: Whether those on the stored grid, 2 bytes per voxel and class, are returned.
            on_progress: Called after each few slices.
            on_part: Called with each few slices (D, H, W), with axes in the network's order.

        Raises:
            ConfigError: Probabilities of runs with different spacings are to be kept.
        """
        if keep_probabilities:
            self.require_one_grid()
        stored = {spacing: to_stored_grid(volume, spacing) for spacing in self._spacings}
        size = to_network_order(volume.grid.shape, self._axes)
        kept = _ProbabilitySum(len(self.members)) if keep_probabilities else None
        bands = [
            self._restored(member, stored[member.preprocessing.spacing_mm], size, kept=kept) for member in self.members
        ]
        labels, guide, _ = _collect(
            bands, size, self._axes, keep_guide=keep_guide, on_progress=on_progress, on_part=on_part
        )
        mean = None if kept is None or kept.total is None else from_network_order(kept.total, self._axes)
        return VolumeSegmentation(labels, guide, mean)

    def _restored(
        self,
        member: VolumeMember,
        stored: StoredGridVolume,
        source_size: tuple[int, int, int],
        *,
        kept: "_ProbabilitySum | None",
    ) -> Iterator[Band]:
        """Bands of a member on the grid of the source, in the network's order of axes."""
        size = to_network_order(stored.values.shape[1:], self._axes)
        bands = member.segment_bands(stored.values, stored.statistics)
        if kept is not None:
            bands = kept.add(bands, size)
        long_axis = None if stored.long_axis is None else self._axes.axes.index(stored.long_axis)
        return restore_bands(bands, size, source_size, long_axis=long_axis)


class _ProbabilitySum:
    """Mean probabilities of the members on the stored grid: (K, D, H, W) float16."""

    def __init__(self, members: int) -> None:
        self.members = members
        self.total: np.ndarray | None = None

    def add(self, bands: Iterator[Band], size: tuple[int, int, int]) -> Iterator[Band]:
        """Pass bands on and add them up."""
        for band in bands:
            if self.total is None:
                self.total = np.zeros((len(band.probabilities), *size), dtype=np.float16)
            end = band.top + band.probabilities.shape[1]
            self.total[:, band.top : end] += (band.probabilities / self.members).cpu().numpy().astype(np.float16)
            yield band


def _collect(
    members: Sequence[Iterator[Band]],
    size: tuple[int, int, int],
    order: VolumePreprocessing,
    *,
    keep_guide: bool,
    on_progress: OnProgress = lambda done, total: None,
    on_part: OnPart | None = None,
) -> VolumeSegmentation:
    """Labels and guide (Z, Y, X) of the mean of bands that have one grid, (D, H, W)."""
    labels: np.ndarray | None = None
    guide: np.ndarray | None = None
    for band, own in _averaged(members, keep_members=on_part is not None):
        end = band.top + band.probabilities.shape[1]
        if labels is None:
            labels = np.zeros(size, dtype=np.uint8 if len(band.probabilities) <= 256 else np.uint16)
        # A byte a voxel is copied from a GPU, not eight.
        indices = band.probabilities.argmax(dim=0).to(torch.uint8 if labels.dtype == np.uint8 else torch.int32)
        labels[band.top : end] = indices.cpu().numpy()
        if keep_guide and band.guide is not None:
            if guide is None:
                guide = np.zeros((len(band.guide), *size), dtype=np.float32)
            guide[:, band.top : end] = band.guide.cpu().numpy()
        if on_part is not None:
            on_part(CasePart(band.top, labels[band.top : end], band.probabilities, band.guide, own))
        on_progress(end, size[0])
    if labels is None:
        raise ValueError(f"a volume of {size} voxels has no window")
    return VolumeSegmentation(
        from_network_order(labels, order), None if guide is None else from_network_order(guide, order)
    )


def _averaged(members: Sequence[Iterator[Band]], *, keep_members: bool) -> Iterator[tuple[Band, Sequence[np.ndarray]]]:
    """The mean of bands of several runs, and the labels of each; the guide is that of the first one that has any."""
    if len(members) == 1:
        for band in members[0]:
            yield band, ()
        return
    for parts in zip(*(single_slices(bands) for bands in members), strict=True):
        own = [part.probabilities.argmax(dim=0).cpu().numpy() for part in parts] if keep_members else []
        total = parts[0].probabilities
        for part in parts[1:]:
            total = total + part.probabilities
        guides = [part.guide for part in parts if part.guide is not None]
        yield Band(parts[0].top, total / len(parts), guides[0] if guides else None), own
