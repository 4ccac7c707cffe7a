"""The structure loss by hand: its weights, its two terms, and several classes."""

import math

import pytest
import torch
from torch import Tensor

from guidino_cli.losses.structure import structure_loss


def _binary(z: Tensor) -> Tensor:
    """Logits of two classes whose foreground probability is the sigmoid of z (B, H, W)."""
    return torch.stack([torch.zeros_like(z), z], dim=1)


def test_an_image_of_one_class_has_weights_of_one() -> None:
    """z = 0 everywhere, all foreground, 4 x 5 pixels: cross-entropy ln 2, overlap 10, union 30 - 10."""
    mask = torch.ones(1, 4, 5, dtype=torch.long)
    expected = math.log(2) + 1 - (10 + 1) / (20 + 1)
    assert structure_loss(_binary(torch.zeros(1, 4, 5)), mask).item() == pytest.approx(expected)


def test_an_empty_mask_that_is_found_costs_next_to_nothing() -> None:
    mask = torch.zeros(1, 4, 5, dtype=torch.long)
    assert structure_loss(_binary(torch.full((1, 4, 5), -20.0)), mask).item() == pytest.approx(0, abs=1e-6)


def test_a_pixel_weighs_more_the_less_its_surroundings_are_like_it() -> None:
    """Four pixels, one of them foreground: the square covers all, so its share is 1/4; weights 4.75, 2.25 thrice.

    z is ln 3 on the foreground pixel (p 3/4) and 0 elsewhere (p 1/2).
    """
    mask = torch.tensor([[[1, 0, 0, 0]]])
    z = torch.tensor([[[math.log(3), 0, 0, 0]]])
    entropy = (4.75 * math.log(4 / 3) + 3 * 2.25 * math.log(2)) / (4.75 + 3 * 2.25)
    overlap = 4.75 * 0.75
    total = 4.75 * 1.75 + 3 * 2.25 * 0.5
    expected = entropy + 1 - (overlap + 1) / (total - overlap + 1)
    assert structure_loss(_binary(z), mask).item() == pytest.approx(expected)


def test_the_square_around_a_pixel_reaches_fifteen_pixels_far() -> None:
    """Of 40 x 1 pixels the first is foreground; pixels 1 to 15 see it, among 16 + t of them, the others do not."""
    mask = torch.zeros(1, 40, 1, dtype=torch.long)
    mask[0, 0, 0] = 1
    weights = [1 + 5 * (1 - 1 / 16), *(1 + 5 / (16 + t) for t in range(1, 16)), *[1.0] * 24]
    # z = 0: the cross-entropy is ln 2 whatever the weights are, so the second term tells them.
    overlap, total = weights[0] / 2, weights[0] + sum(weights) / 2
    expected = math.log(2) + 1 - (overlap + 1) / (total - overlap + 1)
    assert structure_loss(_binary(torch.zeros(1, 40, 1)), mask).item() == pytest.approx(expected)


def test_images_count_alike() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(3, 2, 6, 6), torch.randint(0, 2, (3, 6, 6))
    each = [structure_loss(logits[i : i + 1], mask[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(structure_loss(logits, mask), torch.stack(each).mean())


def test_of_several_classes_each_is_set_against_all_others() -> None:
    torch.manual_seed(0)
    logits, mask = torch.randn(2, 3, 6, 6), torch.randint(0, 3, (2, 6, 6))
    p = logits.softmax(dim=1)
    each = [structure_loss(_binary(torch.logit(p[:, k])), (mask == k).long()) for k in (1, 2)]
    torch.testing.assert_close(structure_loss(logits, mask), torch.stack(each).mean())


def test_confident_logits_have_finite_gradients() -> None:
    logits = torch.tensor([300.0, -300.0, 300.0]).view(1, 3, 1, 1).expand(1, 3, 4, 4).clone().requires_grad_()
    loss = structure_loss(logits, torch.ones(1, 4, 4, dtype=torch.long))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
