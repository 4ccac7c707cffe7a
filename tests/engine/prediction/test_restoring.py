"""From the stored grid back to that of the source, slice by slice."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from guidino_cli.data.volumes.resampling import resample_map
from guidino_cli.engine.prediction.accumulation import Band
from guidino_cli.engine.prediction.restoring import restore_bands, single_slices


def _bands(maps: Tensor, sizes: list[int], *, guide: Tensor | None = None) -> Iterator[Band]:
    top = 0
    for count in sizes:
        part = slice(top, top + count)
        yield Band(top, maps[:, part], None if guide is None else guide[:, part])
        top += count


def _joined(bands: Iterator[Band]) -> Tensor:
    parts = list(bands)
    assert [band.top for band in parts] == np.cumsum([0, *(band.probabilities.shape[1] for band in parts)])[
        :-1
    ].tolist()
    return torch.cat([band.probabilities for band in parts], dim=1)


def test_two_slices_that_become_four_lie_at_quarters() -> None:
    maps = torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1)
    found = _joined(restore_bands(_bands(maps, [2]), (2, 1, 1), (4, 1, 1), long_axis=None))
    # Centres of the four slices at -1/4, 1/4, 3/4 and 5/4; the outer ones repeat the edge.
    assert found.flatten().tolist() == [0.0, 0.25, 0.75, 1.0]


def test_the_long_axis_takes_the_nearest_slice() -> None:
    maps = torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1)
    found = _joined(restore_bands(_bands(maps, [1, 1]), (2, 1, 1), (4, 1, 1), long_axis=0))
    assert found.flatten().tolist() == [0.0, 0.0, 1.0, 1.0]


def test_the_long_axis_may_lie_within_the_slices() -> None:
    maps = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).reshape(1, 1, 2, 2)
    found = _joined(restore_bands(_bands(maps, [1]), (1, 2, 2), (1, 4, 3), long_axis=1))
    np.testing.assert_allclose(found[0, 0], [[0, 0.5, 1], [0, 0.5, 1], [2, 2.5, 3], [2, 2.5, 3]])


@pytest.mark.parametrize("long_axis", [None, 0, 1, 2])
@pytest.mark.parametrize("source", [(7, 9, 11), (12, 9, 4), (3, 20, 30), (1, 5, 6), (5, 6, 7)])
def test_bands_of_any_size_agree_with_the_resampling_of_whole_volumes(
    source: tuple[int, int, int], long_axis: int | None
) -> None:
    maps = torch.from_numpy(np.random.default_rng(0).random((2, 5, 6, 7), dtype=np.float32))
    expected = np.stack([resample_map(item.numpy(), source, long_axis=long_axis) for item in maps])
    for sizes in ([5], [1, 3, 1]):
        found = _joined(restore_bands(_bands(maps, sizes), (5, 6, 7), source, long_axis=long_axis))
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_the_guide_is_restored_with_the_probabilities() -> None:
    maps, guide = torch.zeros(3, 2, 1, 1), torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1)
    bands = list(restore_bands(_bands(maps, [2], guide=guide), (2, 1, 1), (4, 1, 1), long_axis=None))
    assert [float(band.guide[0, 0, 0, 0]) for band in bands if band.guide is not None] == [0.0, 0.25, 0.75, 1.0]
    assert all(len(band.probabilities) == 3 for band in bands)


def test_no_more_than_two_slices_are_taken_ahead() -> None:
    taken: list[int] = []

    def stored() -> Iterator[Band]:
        for index in range(100):
            taken.append(index)
            yield Band(index, torch.zeros(1, 1, 2, 2), None)

    results = restore_bands(stored(), (100, 2, 2), (100, 4, 4), long_axis=None)
    for number, band in zip(range(50), results, strict=False):
        assert band.top == number
        assert len(taken) <= number + 2


def test_single_slices_keep_order_and_guide() -> None:
    maps = torch.arange(3.0).reshape(1, 3, 1, 1)
    found = list(single_slices(_bands(maps, [2, 1], guide=maps)))
    assert [(band.top, band.probabilities.shape, float(band.probabilities)) for band in found] == [
        (index, (1, 1, 1, 1), index) for index in range(3)
    ]
    assert [float(band.guide) for band in found if band.guide is not None] == [0, 1, 2]
