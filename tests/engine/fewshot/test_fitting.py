"""Fitting to a few labels: thresholds by hand, folds by refitting, and an object that colour alone tells."""

import numpy as np
import pytest
import torch
from few_labels import draw, label, make_model, see, segment

from guidino_cli.data.cases import IGNORED
from guidino_cli.engine.fewshot.fitting import (
    best_threshold,
    default_alpha,
    fit_few_labels,
    fit_threshold,
    held_out_maps,
    maps,
    sums_by_fold,
)
from guidino_cli.engine.fewshot.images import LabelledImage
from guidino_cli.models.ridge import RidgeGuide, fit_balanced_ridge


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_red_square_is_found_in_new_images(count: int) -> None:
    model = make_model()
    fit_few_labels(model, [label(seed) for seed in range(count)], [see(draw(seed)[0]) for seed in range(10, 14)])
    for seed in range(20, 23):
        pixels, truth = draw(seed)
        assert (segment(model, pixels) == truth).mean() > 0.98


def test_each_class_has_a_map_of_its_own() -> None:
    model = make_model(num_classes=3)
    fit = fit_few_labels(model, [label(seed, classes=(1, 2)) for seed in range(3)], [])
    pixels, truth = draw(9, classes=(1, 2))
    assert (segment(model, pixels) == truth).mean() > 0.98
    assert [item.area for item in fit.thresholds] == pytest.approx([1 / 9, 1 / 9])
    assert [item.by_area for item in fit.thresholds] == [None, None]


def test_pixels_that_do_not_count_change_nothing() -> None:
    pixels, labels = draw(0)
    wrong, ignored = labels.copy(), labels.copy()
    wrong[40:, 40:], ignored[40:, 40:] = 1, IGNORED
    weights = []
    for own in (labels[:], ignored, wrong):
        model = make_model(alpha=0.3)
        fit_few_labels(model, [LabelledImage(see(pixels), own)], [])
        assert isinstance(model.guide, RidgeGuide)
        weights.append(model.guide.weight[0].detach())
    assert (weights[1] - weights[0]).norm() < 0.1 * (weights[2] - weights[0]).norm()


def test_a_held_out_map_is_that_of_a_fit_without_the_images_of_its_fold() -> None:
    labelled = [label(seed) for seed in range(7)]
    model, sums = make_model(), sums_by_fold(labelled, [1])
    # Images 1 and 6 are in fold 1 of five.
    kept = [item for place, item in enumerate(labelled) if place not in (1, 6)]
    rest = sums_by_fold(kept, [1])
    total = rest[0]
    for item in rest[1:]:
        total = total + item
    guide = RidgeGuide(channels=4)
    guide.set_scorers([fit_balanced_ridge(total, alpha=0.3)])
    found = held_out_maps(model, labelled, sums, alpha=0.3)
    for place in (1, 6):
        torch.testing.assert_close(found[place][0], maps(model, labelled[place].seen, guide)[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("count", "alpha"), [(1, 1.0), (5, 0.299), (20, 0.106)])
def test_the_penalty_falls_with_the_number_of_labels(count: int, alpha: float) -> None:
    assert default_alpha(count) == pytest.approx(alpha, abs=5e-4)


def test_thresholds_near_the_best_are_averaged() -> None:
    # Dice is 1 for 0.28 <= t < 0.52: grid values 0.28, 0.32, ..., 0.48, whose mean is 0.38.
    values, truth = np.array([0.1, 0.27, 0.52, 0.9]), np.array([False, False, True, True])
    assert best_threshold([(values, truth)]) == pytest.approx(0.38)


def test_images_without_the_region_have_no_say() -> None:
    values, truth = np.array([0.1, 0.27, 0.52, 0.9]), np.array([False, False, True, True])
    empty = (np.array([0.8, 0.7]), np.array([False, False]))
    assert best_threshold([(values, truth), empty]) == pytest.approx(0.38)
    assert best_threshold([empty]) is None


def test_the_threshold_is_midway_between_what_areas_and_masks_say() -> None:
    values = torch.arange(101.0).view(1, 101) / 100
    found = fit_threshold([values], area=0.1, by_masks=0.6, has_unlabelled=True)
    assert (found.by_area, found.threshold) == pytest.approx((0.9, 0.75))
    assert found.mean_otsu == pytest.approx(0.5, abs=0.01)
    assert found.deviation == pytest.approx(np.arange(101).std() / 100)


def test_one_label_counts_a_half_in_the_place_of_what_its_mask_would_say() -> None:
    values = torch.arange(101.0).view(1, 101) / 100
    assert fit_threshold([values], area=0.1, by_masks=None, has_unlabelled=True).threshold == pytest.approx(0.7)
    assert fit_threshold([values], area=0.1, by_masks=None, has_unlabelled=False).threshold == 0.5
    assert fit_threshold([values], area=0.1, by_masks=0.3, has_unlabelled=False).threshold == 0.3


def test_a_class_that_nobody_labelled_cannot_be_fitted() -> None:
    with pytest.raises(ValueError, match="inside and outside"):
        fit_few_labels(make_model(num_classes=3), [label(0)], [])


def test_another_model_is_refused() -> None:
    model = make_model()
    model.guide = None
    with pytest.raises(ValueError, match="ridge"):
        fit_few_labels(model, [label(0)], [])
