"""Canonical axes: which corner of a body is the first voxel, and the way back."""

from itertools import permutations, product

import nibabel
import numpy as np
import pytest
from nibabel.orientations import aff2axcodes, axcodes2ornt, inv_ornt_aff, ornt_transform

from guidino_cli.data.volumes.canonical import find_orientation, orientation_codes, turn, turn_back
from guidino_cli.errors import DataError
from guidino_cli.types import Geometry

_PAIRS = ("LR", "PA", "IS")
_ALL_ORDERS = [
    "".join(axis[end] for axis, end in zip(axes, ends, strict=True))
    for axes in permutations(_PAIRS)
    for ends in product((0, 1), repeat=3)
]


def _geometry(affine: np.ndarray | None, shape: tuple[int, ...] = (2, 3, 4)) -> Geometry:
    return Geometry("a.nii", shape, (1.0, 1.0, 1.0), "mm", affine)


def test_there_are_48_orders_of_axes() -> None:
    assert len(set(_ALL_ORDERS)) == 48


@pytest.mark.parametrize("codes", _ALL_ORDERS)
def test_a_voxel_lies_at_the_same_place_whatever_the_order_of_axes(codes: str) -> None:
    # In RAS indices the voxel is at the left, back and top of 5 x 6 x 7.
    ras = np.zeros((5, 6, 7), dtype=np.int16)
    ras[0, 0, 6] = 1
    image = nibabel.Nifti1Image(ras, np.eye(4))
    stored = image.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(tuple(codes))))
    assert "".join(aff2axcodes(stored.affine)) == codes
    geometry = _geometry(stored.affine, stored.shape)
    values = np.asarray(stored.dataobj)
    canonical = turn(values, find_orientation(geometry))
    # From the feet up, from front to back, from right to left: the last of each.
    assert canonical.shape == (7, 6, 5)
    assert np.argwhere(canonical).tolist() == [[6, 5, 4]]
    assert np.array_equal(turn_back(canonical, find_orientation(geometry)), values)
    assert orientation_codes(geometry) == codes


def test_an_lps_volume_is_only_transposed() -> None:
    values = np.arange(24).reshape(2, 3, 4)
    affine = inv_ornt_aff(axcodes2ornt("LPS"), (2, 3, 4))
    turned = turn(values, find_orientation(_geometry(np.asarray(affine))))
    assert np.array_equal(turned, values.T)
    assert np.shares_memory(turned, values)


def test_channels_come_first() -> None:
    values = np.arange(48).reshape(2, 3, 4, 2)
    turned = turn(values, find_orientation(_geometry(np.eye(4))))
    assert turned.shape == (2, 4, 3, 2)
    assert np.array_equal(turned[1], turn(values[..., 1], find_orientation(_geometry(np.eye(4)))))


def test_a_volume_without_orientation_is_refused_unless_its_axes_are_named() -> None:
    with pytest.raises(DataError, match=r"a\.nii: its header does not say where its axes point.*--orientation RAS"):
        find_orientation(_geometry(None))
    known = find_orientation(_geometry(None), axes_where_unknown="RAS")
    assert np.array_equal(known, find_orientation(_geometry(np.eye(4))))


def test_an_affine_without_direction_is_refused() -> None:
    with pytest.raises(DataError, match=r"a\.nii: its affine does not say where its axes point; correct the header"):
        find_orientation(_geometry(np.diag([1.0, 0.0, 1.0, 1.0])))
