"""nnU-Net's rules, computed by hand and compared with published plans."""

import math
import random

import pytest

from guidino_cli.planning.rules import (
    ENCODERS,
    EncoderSpec,
    count_feature_map_values,
    pad_to_divisible,
    plan_for_patch,
    plan_network,
    pools_per_axis,
    stage_widths,
)

PLAIN, RESIDUAL = ENCODERS["plain"], ENCODERS["residual"]


@pytest.mark.parametrize(("side", "times"), [(7, 0), (8, 1), (64, 4), (448, 6), (512, 7)])
def test_two_sides_are_halved_down_to_four(side: int, times: int) -> None:
    assert pools_per_axis((side, side)) == (times, times)


# 7 px are not halved, so 11 beside them are a lone side, and 12 the first that is halved. 64 takes four halvings to 4,
# and 256 is 16 then: one more to 8, which stays. 300 is 19 then: one more to 10, which stays.
@pytest.mark.parametrize(
    ("patch", "times"), [((7, 11), (0, 0)), ((7, 12), (0, 1)), ((64, 256), (4, 5)), ((300, 64), (5, 4))]
)
def test_a_lone_side_is_halved_only_from_twelve(patch: tuple[int, int], times: tuple[int, int]) -> None:
    assert pools_per_axis(patch) == times


def test_the_poolings_of_any_patch_follow_from_its_logarithms() -> None:
    def halvings(side: int, *, kept: int) -> int:
        """Halvings, rounded up, until a side is at most `kept`."""
        return max(0, math.ceil(math.log2(side / kept)))

    for height in range(1, 400):
        for width in range(height, 400, 7):
            short, long = halvings(height, kept=7), halvings(width, kept=7)
            expected = (short, min(long, max(short, halvings(width, kept=11))))
            assert pools_per_axis((height, width)) == expected, (height, width)
            assert pools_per_axis((width, height)) == expected[::-1], (width, height)


def test_a_patch_is_enlarged_to_a_divisible_size() -> None:
    # 300: 150, 75, 38, 19, 10, 5: six times, so multiples of 64.
    assert pad_to_divisible((300, 512)) == (320, 512)


def test_half_a_pixel_more_than_divisible_is_enlarged() -> None:
    # The median of sides of 512 and 513 px. Both sides are halved seven times.
    assert pad_to_divisible((512.5, 512)) == (640, 512)


def test_widths_double_up_to_512() -> None:
    assert stage_widths(6) == (32, 64, 128, 256, 512, 512)


def test_the_values_of_two_plain_stages_are_counted() -> None:
    # Encoder 2 x 32 x 64 + 2 x 64 x 16, decoder two convolutions and a transposed one of 32 x 64, head 3 x 64.
    assert count_feature_map_values((8, 8), encoder=PLAIN, classes=3) == 4096 + 2048 + 3 * 2048 + 192


def test_the_values_of_two_residual_stages_are_counted() -> None:
    # Stem, one block of two maps; three blocks of two maps and one projection; one convolution and one transposed.
    expected = 32 * 64 + 2 * 32 * 64 + (6 + 1) * 64 * 16 + 2 * 32 * 64 + 2 * 64
    assert count_feature_map_values((8, 8), encoder=RESIDUAL, classes=2) == expected


def test_the_shortcut_is_counted_where_it_only_averages() -> None:
    # A comment in nnU-Net's planner gives 129,793,792 for this network with heads at the five coarser levels, too.
    heads = 3 * (256**2 + 128**2 + 64**2 + 32**2 + 16**2)
    assert count_feature_map_values((512, 512), encoder=RESIDUAL, classes=3, stages=7) == 129_793_792 - heads


def test_an_image_of_512_gets_nnunets_known_plan() -> None:
    plan = plan_network((512, 512), cases=1000, classes=2, encoder=PLAIN, budget_gb=8)
    assert (plan.patch_hw, len(plan.widths), plan.batch_size) == ((512, 512), 8, 12)


@pytest.mark.parametrize(("side", "batch"), [(448, 18), (512, 13), (768, 6)])
def test_the_batches_of_table_ii_of_dino_u_net_follow_for_its_four_stages(side: int, batch: int) -> None:
    plan = plan_for_patch((side, side), (side, side), cases=1000, classes=2, encoder=PLAIN, budget_gb=8, stages=4)
    assert plan.batch_size == batch


def test_a_batch_covers_five_per_cent_of_a_small_data_set() -> None:
    # Drishti-GS in Table II: 101 images of 256 x 256 px.
    plan = plan_for_patch((256, 256), (256, 256), cases=101, classes=3, encoder=PLAIN, budget_gb=8, stages=4)
    assert plan.batch_size == 5
    assert plan.capped_batch == 53


def test_a_batch_has_two_patches_at_least() -> None:
    plan = plan_network((512, 512), cases=3, classes=2, encoder=PLAIN, budget_gb=8)
    assert plan.batch_size == 2


def _median(generator: random.Random) -> tuple[float, float]:
    height, width = (math.exp(generator.uniform(math.log(16), math.log(4000))) for _ in range(2))
    return round(2 * height) / 2, round(2 * width) / 2


@pytest.mark.parametrize(
    ("name", "encoder", "values", "patches"), [("plain", PLAIN, 85e6, 2), ("residual", RESIDUAL, 135e6, 12)]
)
def test_the_patch_is_the_median_image_or_smaller_so_that_enough_patches_fit(
    name: str, encoder: EncoderSpec, values: float, patches: int
) -> None:
    generator, shrunk = random.Random(name), 0
    for _ in range(200):
        median, cases, classes = _median(generator), generator.randint(1, 3000), generator.randint(2, 9)
        plan = plan_network(median, cases=cases, classes=classes, encoder=encoder, budget_gb=8)
        # The planner counts a patch whose batch of 12 fills 8 GB.
        whole = pad_to_divisible((min(2048, median[0]), min(2048, median[1])))
        fits = count_feature_map_values(whole, encoder=encoder, classes=classes) * patches / 12 <= values
        assert (plan.patch_hw == whole) == fits
        shrunk += not fits
        assert plan.values * patches / 12 <= values
        assert all(side % 2**n == 0 for side, n in zip(plan.patch_hw, pools_per_axis(plan.patch_hw), strict=True))
        assert len(plan.widths) == 1 + max(pools_per_axis(plan.patch_hw))
        share = 1.0 if name == "residual" else 0.05
        shown = round(median[0] * median[1] * cases * share / (plan.patch_hw[0] * plan.patch_hw[1]))
        assert plan.batch_size == max(2, min(round(values / plan.values * 12), shown))
    assert shrunk >= 10


def test_more_memory_means_a_larger_patch() -> None:
    small, large = (plan_network((3000, 4000), cases=100, classes=2, encoder=PLAIN, budget_gb=gb) for gb in (8, 24))
    assert large.patch_hw > small.patch_hw


def test_a_patch_is_no_larger_than_the_median_image_made_divisible() -> None:
    assert plan_network((64, 64), cases=100, classes=2, encoder=PLAIN, budget_gb=8).patch_hw == (64, 64)


@pytest.mark.parametrize("median", [(600, 500), (500, 600)])
def test_the_side_that_is_largest_relative_to_the_median_shrinks_first(median: tuple[int, int]) -> None:
    """Made divisible by 128 the patch is 640 x 512 (640 / 600 is more than 512 / 500), and 315.19 values a pixel are
    103e6. Of 8 / 6 GB a patch may fill half, 85e6. One step of 128 leaves 512 x 512 with 82.6e6, of which 2.06 fit."""
    plan = plan_network(median, cases=1000, classes=2, encoder=PLAIN, budget_gb=8 / 6)
    assert (plan.patch_hw, len(plan.widths), plan.batch_size) == ((512, 512), 8, 2)
    assert plan.values == round(315.1875 * 512**2)


def test_of_equal_sides_the_columns_shrink_first() -> None:
    """Of 315.19 values a pixel 1024 x 1024 has 330e6, 1024 x 896 has 289e6 and 896 x 896 has 253e6; a patch may have
    63.75e6 a GB."""
    by_gb = {
        gb: plan_network((1024, 1024), cases=100, classes=2, encoder=PLAIN, budget_gb=gb).patch_hw
        for gb in (4.0, 4.7, 5.3)
    }
    assert by_gb == {4.0: (896, 896), 4.7: (1024, 896), 5.3: (1024, 1024)}


def test_a_patch_never_becomes_smaller_than_eight_pixels() -> None:
    """Steps of 8 down to 32, of 4 down to 16 and of 2 below: 10 x 10, then 10 x 8, which is the end."""
    assert plan_network((64, 64), cases=9, classes=2, encoder=PLAIN, budget_gb=1e-9).patch_hw == (10, 8)


def test_a_patch_is_no_larger_than_2048() -> None:
    assert plan_network((5000, 5000), cases=9, classes=2, encoder=PLAIN, budget_gb=1e9).patch_hw == (2048, 2048)


def test_the_batch_of_a_residual_encoder_covers_the_whole_data_set_at_most() -> None:
    """Three images of the size of a patch make a batch of three, though more fit; of five per cent it were two."""
    plan = plan_for_patch((64, 64), (64, 64), cases=3, classes=2, encoder=RESIDUAL, budget_gb=8)
    assert plan.batch_size == 3
    assert plan.capped_batch is not None


def test_a_batch_that_fits_exactly_is_not_called_capped() -> None:
    plan = plan_for_patch((512, 512), (512, 512), cases=1000, classes=2, encoder=PLAIN, budget_gb=0.1)
    assert (plan.batch_size, plan.capped_batch) == (2, None)


def test_pools_differ_by_axis() -> None:
    """640: 320, 160, 80, 40, 20, and 10 alone, which stays; 20: 10, 5."""
    assert pools_per_axis((640, 20)) == (6, 2)
    assert pad_to_divisible((600, 18)) == (640, 20)


def test_a_side_that_is_not_pooled_any_more_keeps_its_size() -> None:
    """24 x 8 is pooled twice and once: areas of 192, 48 and 24."""
    encoder, decoder = 2 * (32 * 192 + 64 * 48 + 128 * 24), 3 * (32 * 192 + 64 * 48)
    assert count_feature_map_values((24, 8), encoder=PLAIN, classes=2) == encoder + decoder + 2 * 192


@pytest.mark.parametrize(
    ("budget_gb", "values"), [(4, 67.5e6), (8, 135e6), (16, 257.5e6), (24, 380e6), (40, 560e6), (80, 1120e6)]
)
def test_residual_references_are_those_of_nnunets_three_planners_and_linear_between(
    budget_gb: float, values: float
) -> None:
    assert RESIDUAL.reference_values(budget_gb) == values


def test_plain_references_are_proportional_to_the_memory() -> None:
    assert [PLAIN.reference_values(gb) for gb in (4, 8, 24)] == [42.5e6, 85e6, 255e6]
