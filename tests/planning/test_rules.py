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
