"""Agreement of masks with tokens: values by hand, and that no image is judged by its own mask."""

import io

import numpy as np
import pytest
import torch
from torch import Tensor

from guidino_cli.engine.guides.agreement import (
    GRID,
    TokenSpool,
    agreement,
    assign_folds,
    cell_shares,
    grid_tokens,
    held_out_scores,
)
from guidino_cli.models.base import Backbone

NAN = float("nan")


def make_scene(count: int = 10, seed: int = 0) -> tuple[list[Tensor], np.ndarray]:
    """Noisy tokens of a 6 x 6 grid, whose first direction is the object: a square at a random place."""
    generator, tokens, shares = np.random.default_rng(seed), [], []
    for _ in range(count):
        mask = np.zeros((6, 6), dtype=np.float32)
        row, column = generator.integers(0, 4, 2)
        mask[row : row + 2, column : column + 3] = 1
        features = 0.3 * generator.standard_normal((36, 5)).astype(np.float32)
        features[:, 0] += mask.ravel()
        tokens.append(torch.from_numpy(features))
        shares.append(mask.reshape(1, 36))
    return tokens, np.stack(shares)


@pytest.mark.parametrize(
    ("scores", "shares", "expected"),
    [
        ([0.9, 0.1, 0.2, 0.8], [1.0, 0.0, 0.4, 0.6], 1.0),
        ([0.1, 0.9, 0.8, 0.2], [1.0, 0.0, 0.4, 0.6], 0.0),
        # Of the pairs (.5, .1), (.5, .9) one is in order.
        ([0.5, 0.1, 0.9], [1.0, 0.0, 0.0], 0.5),
        # No cell is covered by half: those above half of the largest share count, and 0.1 does not.
        ([0.9, 0.8, 0.1, 0.2], [0.3, 0.2, 0.0, 0.1], 1.0),
        ([0.9, 0.1], [0.0, 0.0], NAN),
        ([0.9, 0.1], [1.0, 1.0], NAN),
        ([NAN, NAN], [1.0, 0.0], NAN),
    ],
)
def test_agreement_by_hand(scores: list[float], shares: list[float], expected: float) -> None:
    assert agreement(np.array(scores), np.array(shares)) == pytest.approx(expected, nan_ok=True)


def test_cells_hold_the_share_of_their_area() -> None:
    region = np.zeros((4, 6), dtype=bool)
    region[0, :3] = region[1, 0] = True
    assert cell_shares(region, (2, 3)).tolist() == pytest.approx([3 / 4, 1 / 4, 0, 0, 0, 0])


def test_right_masks_agree_and_an_inverted_one_does_not() -> None:
    tokens, shares = make_scene()
    shares[3] = 1 - shares[3]
    scores = held_out_scores(tokens, shares, assign_folds([str(i) for i in range(10)]))
    values = [agreement(scores[i, 0], shares[i, 0]) for i in range(10)]
    assert values[3] < 0.1
    assert min(values[:3] + values[4:]) > 0.9


def test_an_image_is_not_judged_by_its_own_mask() -> None:
    tokens, shares = make_scene()
    folds = assign_folds([str(i) for i in range(10)])
    changed = shares.copy()
    changed[3] = 1 - changed[3]
    before, after = (held_out_scores(tokens, part, folds) for part in (shares, changed))
    same_fold = folds == folds[3]
    np.testing.assert_allclose(before[same_fold], after[same_fold], atol=1e-5)
    assert np.abs(before - after)[~same_fold].max() > 0.01


def test_the_images_of_a_group_share_a_fold_and_folds_are_of_equal_size() -> None:
    groups = [f"patient{i // 3}" for i in range(60)]
    folds = assign_folds(groups)
    assert all(len(set(folds[i : i + 3])) == 1 for i in range(0, 60, 3))
    assert np.bincount(folds).tolist() == [12] * 5
    assert len(set(assign_folds(["a", "b", "a"]).tolist())) == 2


def test_a_region_without_foreground_in_the_other_folds_has_no_scores() -> None:
    tokens, shares = make_scene(3)
    shares[1:] = 0
    scores = held_out_scores(tokens, shares, np.arange(3))
    assert np.isnan(scores[0]).all()
    assert np.isfinite(scores[1:]).all()


def test_a_spool_returns_its_tokens_as_often_as_they_are_read() -> None:
    spool = TokenSpool(io.BytesIO())
    tokens = [torch.full((2, 3), float(value)) for value in range(4)]
    for token in tokens:
        spool.append(token)
    for _ in range(2):
        assert [part.tolist() for part in spool] == [part.tolist() for part in tokens]
    assert len(spool) == 4


class _MeanColour(Backbone):
    channels, level_channels, stride = 3, [3], 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.identity = {"weights": "none"}

    def forward(self, image: Tensor) -> list[Tensor]:
        return [torch.nn.functional.avg_pool2d(image, 2)]


def test_tokens_of_a_stretched_image_lie_row_by_row_and_have_length_one() -> None:
    pixels = np.zeros((12, 96, 3), dtype=np.uint8)
    pixels[:6, :, 0] = pixels[6:, :, 1] = 200
    tokens = grid_tokens(_MeanColour(), pixels)
    assert tokens.shape == (GRID * GRID, 3)
    torch.testing.assert_close(tokens.norm(dim=1), torch.ones(GRID * GRID))
    assert tokens[:GRID, 0].min() == tokens[-GRID:, 1].min() == 1
