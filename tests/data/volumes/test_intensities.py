"""Intensities: each mapping by hand."""

import numpy as np
import pytest

from guidino_cli.config import IntensityKind
from guidino_cli.data.volumes.intensities import Intensity, measure_channel, resolve_intensities
from guidino_cli.errors import ConfigError
from guidino_cli.types import ChannelStatistics

_FOREGROUND = ChannelStatistics(-900, 900, 100, 50, 90, -100, 300)
_OWN = ChannelStatistics(0, 1000, 500, 250, 480, 10, 210)


def _resolve(kind: IntensityKind | list[IntensityKind], *channels: str) -> tuple[Intensity, ...]:
    return resolve_intensities(
        kind,
        channels,
        [_FOREGROUND] * len(channels),
        window=[40, 400],
        windows=[[-600, 1500], [40, 400], [400, 1800]],
        suv=[0, 20],
    )


def _map(kind: IntensityKind, channel: str, *values: float) -> list[list[float]]:
    (intensity,) = _resolve(kind, channel)
    result = intensity.normalize(np.array(values), _OWN)
    assert result.dtype == np.float32
    assert len(result) == intensity.outputs
    return [[round(float(value), 4) for value in channel] for channel in result]


def test_ct_is_clipped_to_the_percentiles_of_the_training_foreground() -> None:
    assert _map("ct", "CT", -500, -100, 100, 300, 500) == [[0, 0, 0.5, 1, 1]]


def test_percentiles_are_those_of_the_volume() -> None:
    assert _map("percentile", "T2w", 0, 10, 110, 210, 999) == [[0, 0, 0.5, 1, 1]]


def test_zscore_of_ct_is_clipped_and_takes_the_training_set() -> None:
    # (300 - 100) / 50 = 4, (-100 - 100) / 50 = -4.
    assert _map("zscore", "CT", -500, 100, 200, 500) == [[-4, 0, 2, 4]]


def test_zscore_of_others_takes_the_volume() -> None:
    assert _map("zscore", "T1", 0, 500, 1000) == [[-2, 0, 2]]
    assert not _resolve("zscore", "T1")[0].is_unit


def test_a_window_is_level_and_width() -> None:
    assert _map("window", "CT", -200, -160, 40, 240, 999) == [[0, 0, 0.5, 1, 1]]


def test_windows_are_three_channels() -> None:
    assert _map("windows", "CT", -1350, 40, 1300) == [[0, 0.9267, 1], [0, 0.5, 1], [0, 0.3, 1]]


def test_suv_is_between_its_limits() -> None:
    assert _map("suv", "PET", -1, 0, 5, 40) == [[0, 0, 0.25, 1]]


def test_auto_goes_by_the_name_of_the_channel() -> None:
    kinds = [item.kind for item in _resolve("auto", "CT", "PT", "PET", "T2w", "ct", "flair")]
    assert kinds == ["ct", "suv", "suv", "percentile", "ct", "percentile"]


def test_a_list_gives_each_channel_its_own() -> None:
    assert [item.kind for item in _resolve(["window", "suv"], "a", "b")] == ["window", "suv"]
    with pytest.raises(ConfigError, match=r"data\.intensity names 1 kinds.* but the data has 2 \(a, b\)"):
        _resolve(["ct"], "a", "b")


def test_a_flat_volume_becomes_zeros_and_not_nan() -> None:
    flat = measure_channel(np.full((3, 4), 7))
    for kind in ("percentile", "zscore"):
        (intensity,) = _resolve(kind, "T1")
        assert not intensity.normalize(np.full((3, 4), 7), flat).any()


def test_statistics_are_those_of_numpy_and_zeros_of_nothing() -> None:
    found = measure_channel(np.arange(1001, dtype=np.int16))
    assert (found.minimum, found.maximum, found.mean, found.median) == (0, 1000, 500, 500)
    assert (found.percentile_00_5, found.percentile_99_5) == (5, 995)
    # Uniform over n whole numbers: sqrt((n^2 - 1) / 12).
    assert found.std == pytest.approx(((1001**2 - 1) / 12) ** 0.5)
    assert measure_channel(np.empty(0)) == ChannelStatistics(0, 0, 0, 0, 0, 0, 0)
