"""The guide that a training run solves: values by hand, and a guide of its own for each fold."""

import pytest
import torch

from guidino_cli.models.calibrated_ridge import CalibratedRidgeGuide, Calibration
from guidino_cli.models.ridge import LinearScorer

TOKENS = torch.tensor([[3.0, 0.0], [4.0, 5.0]]).view(2, 2, 1, 1).permute(1, 0, 2, 3)
"""Two images of one token each: (3, 4), of length 1 (0.6, 0.8), and (0, 5), of length 1 (0, 1)."""


def _scorer(x: float, y: float) -> LinearScorer:
    return LinearScorer(torch.tensor([x, y]), torch.tensor([0.1, 0.1]))


@pytest.fixture
def guide() -> CalibratedRidgeGuide:
    guide = CalibratedRidgeGuide(channels=2, folds=3)
    guide.set_solution(
        [_scorer(1.0, 0.0)], [[_scorer(0.0, 1.0)], [_scorer(0.0, 0.0)]], [Calibration(threshold=0.7, slope=2.0)]
    )
    return guide


def test_the_guide_is_a_logistic_function_of_the_score_minus_the_threshold(guide: CalibratedRidgeGuide) -> None:
    # Scores 1/2 + 0.6 - 0.1 = 1 and 1/2 + 0 - 0.1 = 0.4; logits 2 (1 - 0.7) and 2 (0.4 - 0.7).
    torch.testing.assert_close(torch.logit(guide(TOKENS)).flatten(), torch.tensor([0.6, -0.6]))


def test_a_training_image_has_the_guide_that_was_solved_without_its_fold(guide: CalibratedRidgeGuide) -> None:
    # Without fold 0 the second entry counts: 1/2 + 0.8 - 0.1 = 1.2; without fold 1 nothing does: 1/2.
    found = torch.logit(guide.held_out(TOKENS, torch.tensor([0, 1]))).flatten()
    torch.testing.assert_close(found, torch.tensor([2 * (1.2 - 0.7), 2 * (0.5 - 0.7)]))


def test_the_guide_has_no_weight_that_is_trained_and_is_saved_with_its_folds(guide: CalibratedRidgeGuide) -> None:
    assert not list(guide.parameters())
    fresh = CalibratedRidgeGuide(channels=2, folds=3)
    fresh.load_state_dict(guide.state_dict())
    assert torch.equal(fresh.held_out(TOKENS, torch.tensor([0, 1])), guide.held_out(TOKENS, torch.tensor([0, 1])))


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"folds": 1}, {"maps": 0}])
def test_a_guide_that_cannot_be_solved_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="needs maps >= 1, alpha > 0 and folds >= 2"):
        CalibratedRidgeGuide(channels=2, **options)  # type: ignore[arg-type]
