"""The balanced ridge regression against paper and pencil, stacked least squares, and refitting."""

import numpy as np
import pytest
import torch
from torch import Tensor

from guidino_cli.models.ridge import LinearScorer, RidgeGuide, TokenSums, fit_balanced_ridge


def make_images(count: int = 6, tokens: int = 40, width: int = 12, regions: int = 2) -> list[tuple[Tensor, Tensor]]:
    """Tokens of length 1 and soft shares of each region, a part of which are 0."""
    generator = torch.Generator().manual_seed(1)
    images = []
    for _ in range(count):
        features = torch.nn.functional.normalize(torch.randn(tokens, width, generator=generator), dim=1)
        shares = (torch.rand(regions, tokens, generator=generator) * 2 - 1).clamp(0, 1)
        images.append((features, shares))
    return images


def add_up(images: list[tuple[Tensor, Tensor]]) -> TokenSums:
    total = TokenSums.of(*images[0])
    for image in images[1:]:
        total = total + TokenSums.of(*image)
    return total


def test_two_tokens_are_scored_by_hand() -> None:
    # a = 1, b = -1, m = 0, C = 1/2 + 1/2 = 1, weights (1 + 1)^-1 (1 - -1) / 4 = 1/4.
    sums = TokenSums.of(torch.tensor([[1.0], [-1.0]]), torch.tensor([[1.0, 0.0]]))
    scorer = fit_balanced_ridge(sums, alpha=1.0)
    assert scorer(torch.tensor([[1.0], [-1.0], [0.0]])).tolist() == pytest.approx([0.75, 0.25, 0.5])


@pytest.mark.parametrize("region", [0, 1])
@pytest.mark.parametrize("alpha", [0.01, 0.3])
def test_the_ridge_from_sums_equals_weighted_least_squares_on_stacked_tokens(region: int, alpha: float) -> None:
    images = make_images()
    scorer = fit_balanced_ridge(add_up(images), region, alpha=alpha)
    tokens = np.concatenate([features.numpy() for features, _ in images]).astype(float)
    share = np.concatenate([shares[region].numpy() for _, shares in images]).astype(float)
    # Each token counts once for the region and once for the rest, with its shares; both sides weigh one half in all.
    rows, target = np.concatenate([tokens, tokens]), np.repeat([0.5, -0.5], len(tokens))
    weight = np.concatenate([share / share.sum(), (1 - share) / (1 - share).sum()]) / 2
    centre = (np.average(tokens, axis=0, weights=share) + np.average(tokens, axis=0, weights=1 - share)) / 2
    rows = rows - centre
    penalty = alpha * (weight[:, None] * rows**2).sum() / rows.shape[1]
    root = np.sqrt(weight)
    system = np.concatenate([root[:, None] * rows, np.sqrt(penalty) * np.eye(rows.shape[1])])
    weights, *_ = np.linalg.lstsq(system, np.concatenate([root * target, np.zeros(rows.shape[1])]), rcond=None)
    expected = 0.5 + (tokens - centre) @ weights
    found = scorer(torch.from_numpy(tokens).float()).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_leaving_an_image_out_by_subtraction_equals_refitting() -> None:
    images = make_images()
    left_out = fit_balanced_ridge(add_up(images) - TokenSums.of(*images[2]), 1, alpha=0.1)
    refitted = fit_balanced_ridge(add_up(images[:2] + images[3:]), 1, alpha=0.1)
    torch.testing.assert_close(left_out.weights, refitted.weights, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(left_out.centre, refitted.centre)


def test_doubling_the_images_changes_nothing() -> None:
    images = make_images()
    once, twice = (fit_balanced_ridge(add_up(part), alpha=0.1) for part in (images, images * 2))
    torch.testing.assert_close(once.weights, twice.weights)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_tokens_on_one_side_only_are_refused(share: float) -> None:
    features, shares = make_images(1)[0]
    image = features, torch.full_like(shares, share)
    with pytest.raises(ValueError, match="inside and outside"):
        fit_balanced_ridge(TokenSums.of(*image), alpha=0.1)
    with pytest.raises(ValueError, match="inside and outside"):
        fit_balanced_ridge(
            TokenSums.of(features, shares) + TokenSums.of(*image) - TokenSums.of(features, shares), alpha=1
        )


def test_a_guide_is_the_score_of_tokens_of_length_1_cut_to_0_and_1() -> None:
    scorers = [LinearScorer(torch.tensor([2.0, 0.0]), torch.tensor([0.5, 0.0])), LinearScorer(*torch.zeros(2, 2))]
    guide = RidgeGuide(channels=2, maps=2)
    guide.set_scorers(scorers)
    # Tokens (3, 4) / 5, (-1, 0) and (1, 0): 0.5 + 2 (0.6 - 0.5) = 0.7, 0.5 - 3 and 0.5 + 1.
    dense = torch.tensor([[3.0, -7.0, 0.1], [4.0, 0.0, 0.0]]).view(1, 2, 1, 3)
    torch.testing.assert_close(guide(dense)[0, :, 0], torch.tensor([[0.7, 0.0, 1.0], [0.5, 0.5, 0.5]]))


@pytest.mark.parametrize("options", [{"alpha": 0.0}, {"alpha": -1.0}, {"maps": 0}])
def test_a_guide_that_cannot_be_solved_for_is_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="alpha > 0"):
        RidgeGuide(channels=4, **options)
