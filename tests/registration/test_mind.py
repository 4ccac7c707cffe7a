"""MIND-SSC: by hand, by contrast, and against the package of its authors."""

import numpy as np
import pytest
import torch

from guidino_cli.registration.mind import mind_ssc


@pytest.mark.parametrize(("shape", "channels"), [((9, 11), 4), ((8, 9, 10), 12)])
def test_two_axes_have_4_pairs_of_neighbours_and_three_have_12(shape: tuple[int, ...], channels: int) -> None:
    features = mind_ssc(torch.randn(shape))
    assert features.shape == (channels, *shape)
    assert float(features.min()) > 0
    assert float(features.max()) == 1


def test_contrast_and_brightness_change_nothing() -> None:
    image = torch.randn(12, 13, dtype=torch.float64)
    assert mind_ssc(3 - 2 * image).allclose(mind_ssc(image), atol=1e-9)


def test_a_step_between_columns_is_far_from_neighbours_across_it() -> None:
    """On a step of height 1 along x, with patches of one pixel: d is 1 between the pixel above or below and across."""
    image = torch.zeros(9, 10)
    image[:, 5:] = 1
    # At (4, 3): above, below and to the left are 0, to the right, two pixels away, is 1.
    found = sorted(mind_ssc(image, radius=0)[:, 4, 3].tolist())
    # Pairs: (up, left) 0, (up, right) 1, (down, left) 0, (down, right) 1; mean 1/2, so exp(-1 / 0.5) twice.
    assert found == pytest.approx([np.exp(-2), np.exp(-2), 1, 1])


def test_channels_are_those_of_the_authors_package() -> None:
    utilities = pytest.importorskip("convexAdam.convex_adam_utils", reason="the package convexAdam is not installed")
    image = torch.rand(14, 12, 16)
    theirs = utilities.MINDSSC(image[None, None], 1, 2, device="cpu")[0]
    own = mind_ssc(image)
    # In another order: each of ours is one of theirs.
    distances = torch.stack([(theirs - channel).abs().flatten(1).amax(dim=1) for channel in own])
    assert sorted(distances.argmin(dim=1).tolist()) == list(range(12))
    assert float(distances.amin(dim=1).max()) < 1e-5
