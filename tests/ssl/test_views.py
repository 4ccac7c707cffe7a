"""Block masks of patches."""

import numpy as np
import pytest

from guidino_cli.ssl.views import count_masked, draw_mask, draw_masks, spread_mask_ratios


@pytest.mark.parametrize("grid_hw", [(4, 4), (7, 7), (14, 14), (16, 9)])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_exactly_the_requested_number_of_patches_is_masked(grid_hw: tuple[int, int], share: float) -> None:
    wanted = count_masked(share, patches=grid_hw[0] * grid_hw[1])
    for seed in range(20):
        assert draw_mask(np.random.default_rng(seed), grid_hw=grid_hw, count=wanted).sum() == wanted


def test_mask_ratios_are_spread_over_the_masked_half_of_the_views() -> None:
    shares = spread_mask_ratios(8, masked=0.5, ratio=(0.1, 0.5))
    assert shares == pytest.approx([0.2, 0.3, 0.4, 0.5, 0, 0, 0, 0])


def test_at_least_one_view_is_masked_unless_the_share_is_zero() -> None:
    assert sum(share > 0 for share in spread_mask_ratios(2, masked=0.1, ratio=(0.1, 0.5))) == 1
    assert spread_mask_ratios(4, masked=0.0, ratio=(0.1, 0.5)) == [0.0] * 4


def test_at_least_one_patch_is_masked_and_one_visible() -> None:
    assert count_masked(0.1, patches=4) == 1
    assert count_masked(1.0, patches=4) == 3
    assert count_masked(0.0, patches=4) == 0


def test_masked_patches_form_blocks() -> None:
    """Of a hidden patch's four neighbours more are hidden than of patches hidden one by one, whose share is 0.3."""
    shares = []
    for seed in range(30):
        mask = draw_mask(np.random.default_rng(seed), grid_hw=(14, 14), count=59)
        neighbours = [np.roll(mask, shift, axis)[1:-1, 1:-1] for axis in (0, 1) for shift in (-1, 1)]
        shares.append(np.mean([near[mask[1:-1, 1:-1]].mean() for near in neighbours]))
    assert np.mean(shares) > 0.55


def test_the_generator_determines_the_mask() -> None:
    masks = draw_masks([np.random.default_rng(seed) for seed in (1, 1, 2)], [0.4, 0.4, 0.4], grid_hw=(8, 8))
    assert (masks[0] == masks[1]).all()
    assert (masks[0] != masks[2]).any()
