"""The loss of affinities: values by hand, the plane without neighbours, flips, and numbers that do not matter."""

import numpy as np
import pytest
import torch

from guidino_cli.data.augment import AugmentationParams, augment_batch
from guidino_cli.data.instances.affinities import affinities_of_labels
from guidino_cli.losses import affinity_loss

MASK = torch.tensor([[[1, 1, 0], [1, 2, 2]]])
SURE = 20.0


def perfect(mask: torch.Tensor) -> torch.Tensor:
    """Logits of the true affinities of (1, ...) labels."""
    affinities = torch.from_numpy(affinities_of_labels(mask[0].numpy()))
    return (2 * SURE * affinities - SURE)[None]


def test_without_an_opinion_each_value_weighs_half_of_a_quarter() -> None:
    """(1/2)^2 everywhere; both values occur along both axes, so the weights have mean 1."""
    assert affinity_loss(torch.zeros(1, 2, 2, 3), MASK).item() == pytest.approx(0.25)


def test_a_value_that_does_not_occur_weighs_nothing() -> None:
    """Of a whole instance all affinities are 1, with share 1 and weight 1/2."""
    assert affinity_loss(torch.zeros(1, 2, 2, 3), torch.ones_like(MASK)).item() == pytest.approx(0.125)


def test_one_wrong_affinity_costs_by_the_share_of_its_value() -> None:
    """Along columns two of four affinities are 1: (1/4) x 1/(2 x 1/2) = 1/4; half of it, as there are two axes.

    Along rows one of three is 1: (1/3) x 1/(2 x 1/3) = 1/2, half of it.
    """
    columns, rows = perfect(MASK), perfect(MASK)
    columns[0, 1, 0, 1] = -SURE
    rows[0, 0, 1, 0] = -SURE
    assert affinity_loss(columns, MASK).item() == pytest.approx(1 / 8)
    assert affinity_loss(rows, MASK).item() == pytest.approx(1 / 4)


def test_the_first_plane_of_each_axis_does_not_count() -> None:
    logits = torch.zeros(1, 2, 2, 3, requires_grad=True)
    affinity_loss(logits, MASK).backward()
    counted = logits.grad != 0
    assert counted[0, 0].tolist() == [[False] * 3, [True] * 3]
    assert counted[0, 1].tolist() == [[False, True, True]] * 2


def test_axes_of_one_plane_do_not_count() -> None:
    loss = affinity_loss(torch.zeros(1, 3, 1, 1, 1), torch.ones(1, 1, 1, 1, dtype=torch.long))
    assert loss.item() == 0


def test_other_numbers_change_nothing() -> None:
    logits = torch.randn(1, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    renumbered = torch.tensor([0, 700, 3])[MASK]
    assert affinity_loss(logits, renumbered).item() == affinity_loss(logits, MASK).item()


def test_volumes_have_three_affinities() -> None:
    mask = torch.arange(8).view(1, 2, 2, 2) // 4 + 1
    assert affinity_loss(perfect(mask), mask).item() == pytest.approx(0, abs=1e-12)
    assert affinity_loss(-perfect(mask), mask).item() == pytest.approx((0.5 + 0.5 + 0.5) / 3)


@pytest.mark.parametrize(("flip", "axis"), [("flip_x", 2), ("flip_y", 1)])
def test_targets_are_those_of_the_flipped_labels_not_flipped_targets(flip: str, axis: int) -> None:
    """A flip makes the pixel after another one the pixel before it, so flipped affinities are shifted by one."""
    labels = torch.zeros(1, 6, 6, dtype=torch.long)
    labels[0, 1:3, 1:4], labels[0, 3:5, 2:5] = 5, 9
    _, mask = augment_batch(torch.zeros(1, 3, 6, 6), labels, [AugmentationParams(**{flip: True})])
    torch.testing.assert_close(mask, labels.flip(axis))
    assert affinity_loss(perfect(mask), mask).item() == pytest.approx(0, abs=1e-12)
    assert affinity_loss(perfect(labels).flip(axis + 1), mask).item() > 0.1


def test_numbers_above_255_survive_the_augmentation() -> None:
    labels = torch.full((1, 8, 8), 40_001)
    labels[0, :4] = 300
    turned = AugmentationParams(rotation=np.pi / 2)
    _, mask = augment_batch(torch.zeros(1, 3, 8, 8), labels, [turned])
    assert set(mask.unique().tolist()) == {300, 40_001}
