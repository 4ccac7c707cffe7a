"""nnU-Net's plans for volumes, computed by hand."""

import math

import pytest

from guidino_cli.data.volumes.spacing import Shape, Spacing
from guidino_cli.planning.encoders import ENCODERS, count_values, stage_widths
from guidino_cli.planning.fitting import fit_network
from guidino_cli.planning.topology import plan_topology
from guidino_cli.planning.volumes.rules import VolumePlans, plan_volumes

PLAIN = ENCODERS["plain"]


def _plan(spacing: Spacing, shape: Shape, *, cases: int = 100, encoder: str = "plain", gb: float = 8) -> VolumePlans:
    return plan_volumes([spacing] * cases, [shape] * cases, classes=2, encoder=ENCODERS[encoder], budget_gb=gb)


def test_widths_end_at_320_in_three_dimensions() -> None:
    assert stage_widths(6, axes=3) == (32, 64, 128, 256, 320, 320)


@pytest.mark.parametrize(
    ("encoder", "by_gb"),
    [("plain", {8: 560e6, 16: 1120e6}), ("residual", {4: 340e6, 8: 680e6, 24: 2100e6, 32: 2850e6, 40: 3600e6})],
)
def test_three_dimensions_have_their_own_memory(encoder: str, by_gb: dict[float, float]) -> None:
    """Of ResEncM, L and XL, linear between them."""
    for gb, values in by_gb.items():
        assert ENCODERS[encoder].reference_values(gb, axes=3) == values


def test_the_values_of_a_small_volume_are_counted() -> None:
    """8 x 8 x 8 and 4 x 4 x 4 voxels: encoder 2 x 32 x 512 + 2 x 64 x 64, decoder 3 x 32 x 512, head 3 x 512."""
    sizes = plan_topology((8, 8, 8), (1, 1, 1)).map_sizes()
    assert count_values(sizes, encoder=PLAIN, classes=3) == 32768 + 8192 + 49152 + 1536


def test_the_memory_that_nnunet_states_for_its_residual_network_is_counted() -> None:
    """558,319,104 by a comment in its planner: a cube of 128, six stages, with heads at 64, 32, 16 and 8, too."""
    sizes = plan_topology((128, 128, 128), (1, 1, 1)).map_sizes()
    heads = 3 * (64**3 + 32**3 + 16**3 + 8**3)
    assert count_values(sizes, encoder=ENCODERS["residual"], classes=3) == 558_319_104 - heads


def test_the_first_patch_is_a_cube_of_256_in_mm() -> None:
    """Spacing 4, 1, 1 mm: 256 x 4^(1/3) = 406.4 in plane, a quarter of it across. Memory never ends here."""
    network = fit_network((999, 999, 999), (4, 1, 1), voxels=1e12, classes=2, encoder=PLAIN, budget_gb=1e6)
    # 102: 51, 26, 13, 7 and 406: 203, 102, 51, 26, 13, 7 make multiples of 16 and 64.
    assert network.topology.patch == (112, 448, 448)


def test_the_patch_is_no_larger_than_the_median_volume() -> None:
    """Hippocampus: 35 x 50 x 35 voxels of 1 mm. 35: 18, 9, 5 and 50: 25, 13, 7."""
    plans = _plan((1, 1, 1), (35, 50, 35), cases=260)
    assert plans.full is not None
    assert plans.full.topology.patch == (40, 56, 40)
    assert plans.low is None
    assert not plans.has_batch_dice


def test_a_batch_covers_five_per_cent_of_the_voxels() -> None:
    """40 x 56 x 40 voxels against 20 x 35 x 50 x 35 x 5 % = 61250: less than one patch, so the smallest batch. Of 100
    cases 306250 voxels are 3.4 patches."""
    few, many = (_plan((1, 1, 1), (35, 50, 35), cases=cases).full for cases in (20, 100))
    assert few is not None
    assert many is not None
    assert (few.batch_size, many.batch_size) == (2, 3)
    assert many.capped_batch is not None


@pytest.mark.parametrize(
    ("spacing", "axes"),
    [((3, 1, 1), (0, 1, 2)), ((1, 3, 1), (1, 0, 2)), ((1, 1, 3), (2, 0, 1)), ((1, 1, 1), (0, 1, 2))],
)
def test_the_axis_of_the_largest_spacing_comes_first(spacing: Spacing, axes: tuple[int, int, int]) -> None:
    plans = _plan(spacing, (100, 100, 100))
    assert plans.axes == axes
    assert plans.spacing_mm == tuple(spacing[axis] for axis in axes)


def test_slices_are_cut_across_the_first_axis() -> None:
    plans = _plan((0.5, 0.5, 6), (512, 384, 20))
    assert (plans.median, plans.spacing_mm) == ((20, 512, 384), (6, 0.5, 0.5))
    assert plans.slices.topology.patch == (512, 384)


def test_single_slices_have_no_plan_in_three_dimensions() -> None:
    plans = _plan((5, 1, 1), (1, 256, 256))
    assert (plans.full, plans.low) == (None, None)
    assert plans.slices.topology.patch == (256, 256)


def test_the_median_is_that_of_resampled_volumes() -> None:
    """Spacings of 1 and 2 mm: 1.5 is the target. 30 and 40 voxels become 20 and 53 (53.3)."""
    plans = plan_volumes([(1, 1, 1), (2, 2, 2)], [(30, 30, 30), (40, 40, 40)], classes=2, encoder=PLAIN, budget_gb=8)
    assert plans.spacing_mm == (1.5, 1.5, 1.5)
    assert plans.median == (36.5, 36.5, 36.5)


def test_a_patch_of_less_than_a_quarter_of_the_volume_calls_for_a_cascade() -> None:
    """A cube of 128 has 2,097,152 voxels: 24.7 % of 204 each side, 25.1 % of 203."""
    small, large = (_plan((1, 1, 1), (side,) * 3) for side in (203, 204))
    for plans in (small, large):
        assert plans.full is not None
        assert plans.full.topology.patch == (128, 128, 128)
    assert small.low is None
    # One step of 3 % would do, which is not worthwhile: at least half of the voxels must go.
    assert large.low is None


def test_low_resolution_is_the_first_spacing_at_which_a_patch_holds_a_quarter() -> None:
    """Of 512 x 512 x 512 voxels 128^3 are 1/64: 16 times fewer are wanted, 2.52 times the spacing. 1.03^31 = 2.50 and
    1.03^32 = 2.575, which leaves 198.8 voxels a side, and 128^3 are 26.7 % of those; 204.8 before, 24.4 %."""
    plans = _plan((1, 1, 1), (512, 512, 512))
    assert plans.low is not None
    assert plans.low.spacing_mm == pytest.approx((1.03**32,) * 3)
    assert plans.low.median == (199, 199, 199)
    assert plans.low.network.topology.patch == (128, 128, 128)
    assert plans.has_batch_dice


def test_fine_axes_become_coarse_first() -> None:
    """Slices 3 mm apart wait until pixels of 0.5 mm measure more than 1.5: 38 steps make 1.54."""
    plans = _plan((3, 0.5, 0.5), (100, 1024, 1024))
    assert plans.low is not None
    slices, rows, columns = plans.low.spacing_mm
    steps = math.log(slices / 3, 1.03)
    assert steps == pytest.approx(round(steps))
    assert steps > 0
    assert rows == columns == pytest.approx(0.5 * 1.03 ** (38 + steps))
