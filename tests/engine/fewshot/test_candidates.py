"""Which image to label next: by hand, and on images of which one is unlike the labelled ones."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from few_labels import draw, label, make_model, see

from guidino_cli.engine.fewshot.candidates import Candidate, Committee, describe, rank_candidates
from guidino_cli.engine.fewshot.fitting import fit_few_labels
from guidino_cli.engine.fewshot.images import SeenImage


def image(*direction: float) -> SeenImage:
    """Two tokens of one direction, of different lengths."""
    token = torch.tensor(direction)
    return SeenImage(np.zeros((2, 1, 3), dtype=np.uint8), torch.stack([token, 3 * token], dim=1)[:, :, None])


def candidate(agreement: float, *direction: float) -> Candidate:
    return Candidate(agreement, 0.1, describe(image(*direction)))


def test_a_descriptor_is_the_direction_of_the_mean_token() -> None:
    torch.testing.assert_close(describe(image(3.0, 4.0)), torch.tensor([0.6, 0.8]))


def test_doubt_times_distance_decides_and_copies_come_last() -> None:
    # Distances to the labelled (1, 0): 1, 1, 1 - 0.6 = 0.4. Products 0.5, 0.4, 0.28.
    found = [candidate(0.5, 0.0, 1.0), candidate(0.6, 0.0, 1.0), candidate(0.3, 0.6, 0.8)]
    # Once the first is labelled, the second is a copy of it: 0; the third has 0.7 * (1 - 0.8) = 0.14.
    assert rank_candidates(found, [image(1.0, 0.0)]) == [0, 2, 1]
    assert rank_candidates([], [image(1.0, 0.0)]) == []


def test_agreement_is_the_mean_dice_of_the_sub_models_masks_with_the_models() -> None:
    model, labelled = make_model(), [label(seed) for seed in range(4)]
    fit = fit_few_labels(model, labelled, [see(draw(seed)[0]) for seed in range(10, 13)])
    committee = Committee(model, labelled, alpha=fit.alpha)
    assert len(committee.members) == 4
    item = see(draw(20)[0])
    usual = committee.judge(item)
    # An easy square: all agree, and it covers 16 x 16 of 48 x 48 pixels.
    assert usual.agreement > 0.95
    assert usual.area == pytest.approx(1 / 9, abs=0.02)
    # A guide of zeros everywhere finds nothing, where the threshold does not follow its level.
    blank = deepcopy(committee.guide)
    with torch.no_grad():
        blank.bias.fill_(-10)
        model.segmenter.otsu = 0.0
        committee.members = [committee.guide, committee.guide, committee.guide, blank]
        assert committee.judge(item).agreement == pytest.approx(3 / 4)
        full = deepcopy(committee.guide)
        full.bias.fill_(10)
        committee.members = [full]
        # Dice of an object of share a with the whole image: 2 a / (a + 1).
        judged = committee.judge(item)
    assert judged.agreement == pytest.approx(2 * judged.area / (judged.area + 1))


def test_an_empty_mask_that_all_share_is_agreed_upon() -> None:
    model, labelled = make_model(), [label(seed) for seed in range(3)]
    fit = fit_few_labels(model, labelled, [see(draw(seed)[0]) for seed in range(10, 13)])
    with torch.no_grad():
        model.segmenter.threshold.fill_(2.0)
    judged = Committee(model, labelled, alpha=fit.alpha).judge(see(draw(20)[0]))
    assert (judged.agreement, judged.area) == (1.0, 0.0)


def test_one_label_has_no_parts() -> None:
    model = make_model()
    fit_few_labels(model, [label(0)], [])
    with pytest.raises(ValueError, match="no sub-model"):
        Committee(model, [label(0)], alpha=1.0)
