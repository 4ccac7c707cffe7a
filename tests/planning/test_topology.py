"""Halvings, strides and kernels along axes of different spacing, computed by hand."""

import pytest

from guidino_cli.planning.topology import plan_topology


def test_a_cube_of_equal_spacing_is_halved_along_all_axes_at_once() -> None:
    """128: 64, 32, 16, 8, 4."""
    topology = plan_topology((128, 128, 128), (1, 1, 1))
    assert topology.strides == ((1, 1, 1), *[(2, 2, 2)] * 5)
    assert topology.kernels == ((3, 3, 3),) * 6
    assert topology.map_sizes()[-1] == (4, 4, 4)


def test_thick_slices_wait_until_the_other_spacings_are_more_than_half_of_theirs() -> None:
    """5 mm are more than twice 0.8 and 1.6 mm, but not 3.2 mm: kernels look across slices from the third stage on.

    16 x 320 x 320 is halved in plane to 160 and 80, along all axes to 8 x 40 x 40 and 4 x 20 x 20, and in plane to 10
    and 5.
    """
    topology = plan_topology((16, 320, 320), (5, 0.8, 0.8))
    assert topology.strides == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
    assert topology.kernels == ((1, 3, 3), (1, 3, 3), *[(3, 3, 3)] * 5)
    assert topology.pools == (2, 6, 6)
    assert topology.patch == (16, 320, 320)


@pytest.mark.parametrize(("distance", "first"), [(1.59, (2, 2, 2)), (1.6, (1, 2, 2))])
def test_axes_are_alike_below_twice_the_finest_spacing(distance: float, first: tuple[int, ...]) -> None:
    assert plan_topology((32, 64, 64), (distance, 0.8, 0.8)).strides[1] == first


def test_the_deepest_kernel_looks_along_all_axes() -> None:
    """100 mm stay more than twice 0.5, 1, 2, 4 and 8 mm; 64 is halved to 4 in plane, and no slice is ever halved."""
    topology = plan_topology((11, 64, 64), (100, 0.5, 0.5))
    assert topology.strides == ((1, 1, 1), *[(1, 2, 2)] * 4)
    assert topology.kernels == (*[(1, 3, 3)] * 4, (3, 3, 3))


def test_twelve_slices_are_halved_once_nothing_else_can_be() -> None:
    """As a lone axis, however thick they are: 12 make 6. The kernels still do not look across them."""
    topology = plan_topology((12, 64, 64), (100, 0.5, 0.5))
    assert topology.strides[5:] == ((2, 1, 1),)
    assert topology.kernels == (*[(1, 3, 3)] * 5, (3, 3, 3))


def test_a_patch_is_enlarged_along_each_axis_by_its_own_factor() -> None:
    """In plane 250: 125, 63, 32, 16, 8, 4 are six halvings, 256. 14 slices: from the third stage on 7, which stays:
    one halving, 14."""
    topology = plan_topology((14, 250, 250), (5, 0.8, 0.8))
    assert topology.pools == (1, 6, 6)
    assert topology.patch == (14, 256, 256)
