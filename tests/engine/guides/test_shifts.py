"""Masks that belong to the next or the previous image are found; right and random ones are left alone."""

import numpy as np
import pytest
import torch
from torch import Tensor

from guidino_cli.engine.guides.agreement import assign_folds
from guidino_cli.engine.guides.shifts import Shift, find_shift

COUNT = 24


def make_scene() -> tuple[list[Tensor], np.ndarray]:
    """Noisy tokens of an 8 x 8 grid whose first direction is the object, and its mask."""
    generator, tokens, shares = np.random.default_rng(0), [], []
    for _ in range(COUNT):
        mask = np.zeros((8, 8), dtype=np.float32)
        row, column = generator.integers(0, 6, 2)
        mask[row : row + 3, column : column + 3] = 1
        features = 0.3 * generator.standard_normal((64, 6)).astype(np.float32)
        features[:, 0] += mask.ravel()
        tokens.append(torch.from_numpy(features))
        shares.append(mask.ravel())
    return tokens, np.stack(shares)


def find(order: np.ndarray) -> Shift | None:
    """The shift found where case i has the mask of case order[i]."""
    tokens, shares = make_scene()
    return find_shift(tokens, shares[order], assign_folds([str(i) for i in range(len(order))]))


def test_right_masks_are_not_shifted() -> None:
    assert find(np.arange(COUNT)) is None


def test_random_masks_are_not_shifted() -> None:
    assert find(np.random.default_rng(1).permutation(COUNT)) is None


@pytest.mark.parametrize("by", [1, -1])
def test_a_table_shifted_by_a_row_is_found_with_its_direction(by: int) -> None:
    # Case i has the mask of case i + by, so its image fits the mask that case i - by has.
    shift = find(np.roll(np.arange(COUNT), -by))
    assert shift is not None
    assert shift.step == -by
    assert shift.stop - shift.start >= COUNT - 2
    assert shift.own < 0.8 < 0.95 < shift.other


def test_a_shift_from_the_middle_on_is_found_where_it_begins() -> None:
    order = np.arange(COUNT)
    order[12:] = np.minimum(order[12:] + 1, COUNT - 1)
    shift = find(order)
    assert shift is not None
    assert shift.step == -1
    assert abs(shift.start - 13) <= 1
    assert shift.stop >= COUNT - 1


def test_a_shift_of_masks_that_all_cover_the_middle_is_found() -> None:
    generator, tokens, shares = np.random.default_rng(0), [], []
    for _ in range(COUNT):
        mask = np.zeros((16, 16), dtype=np.float32)
        top, left = generator.integers(0, 5, 2)
        mask[top : top + 12, left : left + 12] = 1
        features = 0.2 * generator.standard_normal((256, 6)).astype(np.float32)
        features[:, 0] += mask.ravel()
        tokens.append(torch.from_numpy(features))
        shares.append(mask.ravel())
    folds = assign_folds([str(i) for i in range(COUNT)])
    assert find_shift(tokens, np.stack(shares), folds) is None
    shift = find_shift(tokens, np.roll(np.stack(shares), 1, axis=0), folds)
    assert shift is not None
    assert shift.step == 1
    assert shift.own > 0.7


def test_seven_cases_are_too_few() -> None:
    tokens, shares = make_scene()
    folds = assign_folds([str(i) for i in range(7)])
    assert find_shift(tokens[:7], np.roll(shares[:7], 1, axis=0), folds) is None
