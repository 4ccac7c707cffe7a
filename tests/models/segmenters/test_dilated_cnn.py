"""The network of dilated convolutions."""

import pytest
import torch

from guidino_cli.models.segmenters.dilated_cnn import DilatedCNN


def test_its_weights_are_those_of_its_convolutions_and_norms() -> None:
    # 3 to 24 with bias, four times 24 to 24 with bias and norm, and 24 to 2: 672 + 4 (5,208 + 48) + 50.
    assert sum(weight.numel() for weight in DilatedCNN(num_classes=2).parameters()) == 21_746


def test_a_pixel_sees_ten_pixels_to_each_side() -> None:
    """1 of the first convolution and 1 + 2 + 4 + 2 of the blocks; the norms see the whole map, so they are left out."""
    network = DilatedCNN(num_classes=2, width=4)
    for block in network.blocks:
        block[1] = torch.nn.Identity()  # type: ignore[index]
    image = torch.rand(1, 3, 41, 41, requires_grad=True)
    network.decode(network.encode(image, []), (41, 41))[0][0, :, 20, 20].sum().backward()
    assert image.grad is not None
    rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert (int(rows.min()), int(rows.max())) == (10, 30)


@pytest.mark.parametrize("options", [{"width": 6}, {"dilations": []}, {"dilations": [1, 0]}])
def test_a_width_that_groups_do_not_divide_and_no_dilations_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="needs dilations >= 1 and a width that is a multiple of 4"):
        DilatedCNN(num_classes=2, **options)  # type: ignore[arg-type]
