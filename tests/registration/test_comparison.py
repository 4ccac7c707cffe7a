"""The comparison of volumes at many fields: against sampling by torch, with its gradient."""

import pytest
import torch
import torch.nn.functional as F

from guidino_cli.registration.comparison import make_comparison
from guidino_cli.registration.fields import sample


def test_value_and_gradient_are_those_of_sampling_by_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    fixed, moving = torch.randn(2, 1, 4, 5, 7, 6, generator=generator, dtype=torch.float64)
    # Some places lie beyond the image, one far beyond any number of 32 bits.
    field = 3 * torch.randn(1, 3, 5, 7, 6, generator=generator, dtype=torch.float64)
    field[0, 0, 0, 0, 0] = 1e12
    # At whole numbers the slope is another on either side.
    field[0, :, 2:4] = field[0, :, 2:4].round()
    found, expected = field.clone().requires_grad_(True), field.clone().requires_grad_(True)
    value = make_comparison(fixed, moving)(found)
    value.backward()
    true = F.mse_loss(sample(moving, expected), fixed)
    true.backward()
    assert float(value.detach()) == pytest.approx(float(true.detach()), rel=1e-12)
    assert found.grad is not None
    assert expected.grad is not None
    assert torch.allclose(found.grad, expected.grad, atol=1e-12)


@pytest.mark.parametrize("shape", [(4, 5), (3, 4, 5)])
def test_equal_images_differ_by_nothing_without_displacement_and_beyond_the_image_is_zero(
    shape: tuple[int, ...],
) -> None:
    image = torch.full((1, 2, *shape), 3.0)
    compare = make_comparison(image, image)
    still = torch.zeros(1, len(shape), *shape)
    assert float(compare(still)) == 0
    assert float(compare(still + 10)) == 9
