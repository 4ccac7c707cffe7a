"""Rows are yielded once no later window overlaps them, and not before."""

import pytest
import torch
from torch import Tensor, nn

from guidino_cli.engine.prediction.inference import segment_batch, segment_image
from guidino_cli.engine.prediction.sliding import Window, segment_bands, window_corners
from guidino_cli.types import Prediction


class PositionDependent(nn.Module):
    """A model whose logits depend on the position in the window and whose guide is the first channel."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))

    def forward(self, image: Tensor, *, get_or_compute: None = None) -> Prediction:
        slope = torch.linspace(0, 1, image.shape[-2])[:, None] + torch.linspace(0, 2, image.shape[-1])
        return Prediction([image * slope], image[:, :1])


def _accumulate_whole_image(image: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    """Reference: all windows accumulated in arrays of the whole image."""
    side, (height, width) = window.size, image.shape[-2:]
    x = torch.arange(side, dtype=torch.float32) - (side - 1) / 2
    line = torch.exp(-(x**2) / (2 * (side / 8) ** 2))
    weight = torch.outer(line, line).clamp(min=1e-4)
    logits, guide, total = torch.zeros(3, height, width), torch.zeros(1, height, width), torch.zeros(height, width)
    for top, left in window_corners((height, width), window):
        part = (..., slice(top, top + side), slice(left, left + side))
        prediction = PositionDependent()(image[part][None])
        logits[part] += prediction.logits[0][0] * weight
        assert prediction.guide is not None
        guide[part] += prediction.guide[0] * weight
        total[part] += weight
    return (logits / total).softmax(dim=0), guide / total


@pytest.mark.parametrize("batch_size", [1, 3, 100])
@pytest.mark.parametrize("size", [(100, 70), (16, 40), (33, 16)])
def test_bands_equal_the_weighted_mean_over_the_whole_image(size: tuple[int, int], batch_size: int) -> None:
    torch.manual_seed(0)
    image, window = torch.rand(3, *size), Window(16, mirror=False, batch_size=batch_size)
    probabilities, guide = segment_image(PositionDependent(), image, window)  # type: ignore[arg-type]
    expected, expected_guide = _accumulate_whole_image(image, window)
    torch.testing.assert_close(probabilities, expected)
    torch.testing.assert_close(guide, expected_guide)


def test_bands_have_no_gaps_and_are_at_most_one_window_high() -> None:
    image, window = torch.rand(3, 200, 40), Window(16, mirror=False, batch_size=4)

    def read_window(corner: tuple[int, int]) -> Tensor:
        return image[:, corner[0] : corner[0] + 16, corner[1] : corner[1] + 16]

    bands = list(segment_bands(PositionDependent(), (200, 40), read_window, window))  # type: ignore[arg-type]
    heights = [band.probabilities.shape[1] for band in bands]
    assert [band.top for band in bands] == [sum(heights[:i]) for i in range(len(bands))]
    assert sum(heights) == 200
    # A row of windows has four of them, so that no batch spans two rows.
    assert max(heights) <= 16


@pytest.mark.parametrize("mirror", [False, True])
def test_segment_batch_equals_segment_image_for_images_of_one_window(mirror: bool) -> None:
    window = Window(16, mirror=mirror)
    images = [torch.rand(3, 16, 16), torch.rand(3, 9, 12), torch.rand(3, 16, 5)]
    for image, (probabilities, guide) in zip(
        images,
        segment_batch(PositionDependent(), images, window),  # type: ignore[arg-type]
        strict=True,
    ):
        expected, expected_guide = segment_image(PositionDependent(), image, window)  # type: ignore[arg-type]
        torch.testing.assert_close(probabilities, expected)
        torch.testing.assert_close(guide, expected_guide)
