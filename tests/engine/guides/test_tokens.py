"""Principal components, cosines and the salient patch of tokens."""

import numpy as np
import pytest
import torch

from guidino_cli.engine.guides.tokens import (
    LONG_SIDE,
    analyse_tokens,
    cosine_similarity_map,
    find_salient_patch,
    patch_at,
    pca_to_rgb,
)
from guidino_cli.errors import DataError
from guidino_cli.models.backbones.dino import random_dino


def test_cosines_of_equal_orthogonal_and_opposite_tokens_are_one_zero_and_minus_one() -> None:
    tokens = torch.tensor([[[2.0, 0.0, -5.0]], [[0.0, 3.0, 0.0]]])
    assert cosine_similarity_map(tokens, (0, 0)) == pytest.approx(np.array([[1.0, 0.0, -1.0]]))


def test_red_follows_the_direction_of_largest_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = 0.01 * torch.randn(5, 8, 8, generator=generator)
    tokens[3] += torch.linspace(0, 10, 64).view(8, 8)
    colours, explained = pca_to_rgb(tokens)
    red = colours[..., 0].ravel()
    # The largest loading is made positive, so red grows with the ramp.
    assert (np.diff(red) >= -0.01).all()
    assert (red[0], red[-1]) == (0.0, 1.0)
    assert explained > 0.999


def test_a_shift_of_all_tokens_changes_no_colour() -> None:
    tokens = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(1))
    moved = tokens + torch.arange(6.0).view(6, 1, 1)
    assert pca_to_rgb(moved)[0] == pytest.approx(pca_to_rgb(tokens)[0], abs=1e-5)


def test_tokens_that_are_all_alike_give_finite_colours() -> None:
    colours, explained = pca_to_rgb(torch.ones(4, 3, 3))
    assert np.isfinite(colours).all()
    assert explained == 0.0


def test_the_salient_patch_is_the_odd_one_but_not_at_the_margin() -> None:
    tokens = torch.zeros(2, 20, 30)
    tokens[0] = 1
    tokens[:, 1, 5] = torch.tensor([-1.0, 0.0])  # Within the outermost tenth.
    tokens[:, 7, 21] = torch.tensor([0.0, 1.0])
    assert find_salient_patch(tokens) == (7, 21)


@pytest.mark.parametrize(
    ("at", "patch"), [((0, 0), (0, 0)), ((79, 59), (2, 3)), ((19, 20), (1, 0)), ((20, 19), (0, 1))]
)
def test_a_pixel_belongs_to_the_patch_that_covers_it(at: tuple[int, int], patch: tuple[int, int]) -> None:
    assert patch_at(at, size_hw=(60, 80), grid_hw=(3, 4)) == patch


@pytest.mark.parametrize("at", [(80, 0), (0, 60), (-1, 0)])
def test_a_pixel_outside_the_image_is_refused(at: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=r"outside the image of 80 x 60 pixels"):
        patch_at(at, size_hw=(60, 80), grid_hw=(3, 4))


def test_the_grid_keeps_the_shape_of_the_image_and_the_patch_has_cosine_one_with_itself() -> None:
    backbone = random_dino(hidden_size=16, depth=1, heads=2, registers=1)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 80, 3)).astype(np.uint8)
    seen = analyse_tokens(backbone, pixels, at=(79, 0), scale=0.25)
    # A quarter of 672 is 168 = 10.5 patches of 16, and one patch more covers the rest.
    assert (LONG_SIDE, seen.components.shape, seen.similarity.shape) == (672, (6, 11, 3), (6, 11))
    assert seen.patch == (0, 10)
    assert seen.similarity[seen.patch] == pytest.approx(1.0)
