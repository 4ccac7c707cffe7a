"""From the numbers of a scanner to the numbers that a network takes.

* `ct`: clipped to the 0.5 and 99.5 percentiles of the training foreground, to [0, 1].
* `percentile`: clipped to the 0.5 and 99.5 percentiles of the volume itself, to [0, 1]; for MR.
* `zscore`: nnU-Net's scheme. CT is clipped as above, minus the mean, over the standard deviation of the training
  foreground; other channels are minus the mean, over the standard deviation of the volume. Not in [0, 1].
* `window`: level and width in the units of the file (HU for CT), to [0, 1].
* `windows`: three windows, which become three channels.
* `suv`: standardised uptake values of PET between two limits, to [0, 1].
* `auto`: `ct` for channels named CT, `suv` for PET or PT, else `percentile`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from guidino_cli.config import IntensityKind
from guidino_cli.errors import ConfigError
from guidino_cli.types import ChannelStatistics

Limits = tuple[float, float]

_CT_NAMES = {"CT", "CTA", "CBCT"}
_PET_NAMES = {"PET", "PT", "SUV"}
_SMALLEST_STD = 1e-8
_PART_SIZE = 2**20


@dataclass(frozen=True)
class Intensity:
    """Mapping of the values of one channel.

    Attributes:
        kind: See the module; never "auto".
        limits: Low and high ends, one pair for each channel that results; () where they are those of each volume.
        mean: Mean of the training foreground, for `zscore` of CT; None where each volume has its own.
        std: Likewise.
    """

    kind: IntensityKind
    limits: tuple[Limits, ...] = ()
    mean: float | None = None
    std: float | None = None

    @property
    def outputs(self) -> int:
        """Channels that result from one: three of `windows`, else one."""
        return max(1, len(self.limits))

    @property
    def is_unit(self) -> bool:
        """Whether results are in [0, 1]; those of `zscore` are not."""
        return self.kind != "zscore"

    @property
    def for_pictures(self) -> "Intensity":
        """A mapping to [0, 1] for figures: `percentile` instead of z-scores, which have no range."""
        return self if self.is_unit else Intensity("percentile")

    def normalize(self, values: np.ndarray, statistics: ChannelStatistics) -> np.ndarray:
        """Map the values of one channel of a volume, or of a part of it.

        Args:
            values: Values of any shape, in the numbers of the file.
            statistics: Statistics of all voxels of that channel of that volume.

        Returns:
            (outputs, ...) float32.
        """
        numbers = values.astype(np.float32)
        if self.kind == "zscore":
            return self._standardize(numbers, statistics)[None]
        limits = self.limits or ((statistics.percentile_00_5, statistics.percentile_99_5),)
        return np.stack([_to_unit(numbers, low, high) for low, high in limits])

    def _standardize(self, values: np.ndarray, statistics: ChannelStatistics) -> np.ndarray:
        for low, high in self.limits:
            values = values.clip(np.float32(low), np.float32(high))
        mean = statistics.mean if self.mean is None else self.mean
        std = statistics.std if self.std is None else self.std
        return (values - np.float32(mean)) / np.float32(max(std, _SMALLEST_STD))


def resolve_intensities(
    setting: IntensityKind | Sequence[IntensityKind],
    channels: Sequence[str],
    statistics: Sequence[ChannelStatistics],
    *,
    window: Sequence[float],
    windows: Sequence[Sequence[float]],
    suv: Sequence[float],
) -> tuple[Intensity, ...]:
    """The mapping of each channel of a data set.

    Args:
        setting: `data.intensity`, one for all channels or one for each.
        channels: Names of the channels.
        statistics: Statistics of the foreground of the training cases, one per channel.
        window: Level and width of `window`.
        windows: Level and width of each of `windows`.
        suv: Limits of `suv`.

    Raises:
        ConfigError: Another number of kinds than of channels.
    """
    kinds = [setting] * len(channels) if isinstance(setting, str) else list(setting)
    if len(kinds) != len(channels):
        found = f"{len(channels)} ({', '.join(channels)})"
        raise ConfigError(f"data.intensity names {len(kinds)} kinds, one for each channel, but the data has {found}")
    return tuple(
        _resolve(kind, name, own, window=window, windows=windows, suv=suv)
        for kind, name, own in zip(kinds, channels, statistics, strict=True)
    )


def is_ct(channel: str) -> bool:
    """Whether the name of a channel says that its values are Hounsfield units."""
    return channel.upper() in _CT_NAMES


def is_pet(channel: str) -> bool:
    """Whether the name of a channel says that it is positron emission tomography."""
    return channel.upper() in _PET_NAMES


def _resolve(
    kind: IntensityKind,
    channel: str,
    statistics: ChannelStatistics,
    *,
    window: Sequence[float],
    windows: Sequence[Sequence[float]],
    suv: Sequence[float],
) -> Intensity:
    foreground = (statistics.percentile_00_5, statistics.percentile_99_5)
    if kind == "auto":
        kind = "ct" if is_ct(channel) else "suv" if is_pet(channel) else "percentile"
    if kind == "ct":
        return Intensity("ct", (foreground,))
    if kind == "zscore" and is_ct(channel):
        return Intensity("zscore", (foreground,), statistics.mean, statistics.std)
    if kind == "window":
        return Intensity("window", (_window_limits(window),))
    if kind == "windows":
        return Intensity("windows", tuple(_window_limits(item) for item in windows))
    if kind == "suv":
        return Intensity("suv", ((float(suv[0]), float(suv[1])),))
    return Intensity(kind)


def _window_limits(window: Sequence[float]) -> Limits:
    level, width = window
    return level - width / 2, level + width / 2


def _to_unit(values: np.ndarray, low: float, high: float) -> np.ndarray:
    span = np.float32(max(high - low, 1e-6))
    return ((values - np.float32(low)) / span).clip(0, 1)


def measure_channel(values: np.ndarray) -> ChannelStatistics:
    """Statistics of values of any shape; zeros where there are none. Percentiles are linear, as NumPy's."""
    if values.size == 0:
        return ChannelStatistics(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    low, median, high = (float(item) for item in np.percentile(values, (0.5, 50, 99.5)))
    mean = float(values.mean(dtype=np.float64))
    # One part after the other: in double precision the deviations of a CT take a gigabyte.
    parts = np.array_split(values, -(-values.size // _PART_SIZE)) if values.ndim == 1 else values
    squares = sum(float(np.square(part - mean, dtype=np.float64).sum()) for part in parts)
    std = (squares / values.size) ** 0.5
    return ChannelStatistics(float(values.min()), float(values.max()), mean, std, median, low, high)
