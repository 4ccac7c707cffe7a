"""nnU-Net's rules, computed by hand and compared with published plans."""

import pytest

from guidino_cli.planning.rules import (
    ENCODERS,
    count_feature_map_values,
    pad_to_divisible,
    plan_for_patch,
    plan_network,
    pools_per_axis,
    stage_widths,
)

PLAIN, RESIDUAL = ENCODERS["plain"], ENCODERS["residual"]


@pytest.mark.parametrize(("side", "times"), [(7, 0), (8, 1), (64, 4), (448, 6), (512, 7)])
def test_a_side_is_halved_down_to_four(side: int, times: int) -> None:
    assert pools_per_axis((side, side)) == (times, times)


def test_a_patch_is_enlarged_to_a_divisible_size() -> None:
    # 300: 150, 75, 38, 19, 10, 5: six times, so multiples of 64.
    assert pad_to_divisible((300, 512)) == (320, 512)


def test_widths_double_up_to_512() -> None:
    assert stage_widths(6) == (32, 64, 128, 256, 512, 512)


def test_the_values_of_two_plain_stages_are_counted() -> None:
    # Encoder 2 x 32 x 64 + 2 x 64 x 16, decoder two convolutions and a transposed one of 32 x 64, head 3 x 64.
    assert count_feature_map_values((8, 8), encoder=PLAIN, classes=3) == 4096 + 2048 + 3 * 2048 + 192


def test_the_values_of_two_residual_stages_are_counted() -> None:
    # Stem, one block of two maps; three blocks of two maps and one projection; one convolution and one transposed.
    expected = 32 * 64 + 2 * 32 * 64 + (6 + 1) * 64 * 16 + 2 * 32 * 64 + 2 * 64
    assert count_feature_map_values((8, 8), encoder=RESIDUAL, classes=2) == expected


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


def test_a_large_image_gets_a_patch_of_which_twelve_fit() -> None:
    plan = plan_network((3000, 4000), cases=100, classes=2, encoder=PLAIN, budget_gb=8)
    assert plan.values <= 85e6
    assert plan.batch_size >= 12


def test_more_memory_means_a_larger_patch() -> None:
    small, large = (plan_network((3000, 4000), cases=100, classes=2, encoder=PLAIN, budget_gb=gb) for gb in (8, 24))
    assert large.patch_hw > small.patch_hw


def test_a_patch_is_no_larger_than_the_median_image_made_divisible() -> None:
    assert plan_network((64, 64), cases=100, classes=2, encoder=PLAIN, budget_gb=8).patch_hw == (64, 64)


@pytest.mark.parametrize("median", [(600, 500), (500, 600)])
def test_the_side_that_is_largest_relative_to_the_median_shrinks_first(median: tuple[int, int]) -> None:
    """Made divisible by 128 the patch is 640 x 512 (640 / 600 is more than 512 / 500), and 315.19 values a pixel are
    103e6, more than 85e6. One step of 128 leaves 512 x 512 with 82.6e6, of which 12.3 fit."""
    plan = plan_network(median, cases=1000, classes=2, encoder=PLAIN, budget_gb=8)
    assert (plan.patch_hw, len(plan.widths), plan.batch_size) == ((512, 512), 8, 12)
    assert plan.values == round(315.1875 * 512**2)


def test_an_image_of_3000_x_4000_gets_windows_of_448_x_512() -> None:
    """From 2048 x 2048 the sides shrink by 256 down to 1024, by 128 down to 512 and by 64 below: always the one that is
    larger relative to the median, such as 512 / 3000 before 640 / 4000."""
    plan = plan_network((3000, 4000), cases=100, classes=2, encoder=PLAIN, budget_gb=8)
    assert (plan.patch_hw, plan.batch_size, plan.capped_batch) == ((448, 512), 14, None)


def test_of_equal_sides_the_columns_shrink_first() -> None:
    """Of 315.19 values a pixel 1024 x 1024 has 330e6, 1024 x 896 has 289e6 and 896 x 896 has 253e6; 85e6 fill 8 GB."""
    by_gb = {
        gb: plan_network((1024, 1024), cases=100, classes=2, encoder=PLAIN, budget_gb=gb).patch_hw
        for gb in (24, 28, 32)
    }
    assert by_gb == {24: (896, 896), 28: (1024, 896), 32: (1024, 1024)}


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
    """640: 320, 160, 80, 40, 20, 10, 5; 20: 10, 5."""
    assert pools_per_axis((640, 20)) == (7, 2)
    assert pad_to_divisible((600, 18)) == (640, 20)


def test_a_side_that_is_not_pooled_any_more_keeps_its_size() -> None:
    """16 x 8 is pooled twice and once: areas of 128, 32 and 16."""
    encoder, decoder = 2 * (32 * 128 + 64 * 32 + 128 * 16), 3 * (32 * 128 + 64 * 32)
    assert count_feature_map_values((16, 8), encoder=PLAIN, classes=2) == encoder + decoder + 2 * 128
