"""Rows are yielded once no later window overlaps them, and not before."""

import math

import pytest
import torch
from torch import Tensor, nn

from guidino_cli.engine.prediction.inference import segment_batch, segment_image
from guidino_cli.engine.prediction.sliding import Window, predict_with_flips, segment_bands, window_corners
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
    """Reference: all windows accumulated in arrays of the whole image; the weights have a test of their own below."""
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


class Largest(nn.Module):
    """A model whose guide is the largest value of the window, everywhere in it, and whose logits are 0 and that."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))

    def forward(self, image: Tensor, *, get_or_compute: None = None) -> Prediction:
        largest = image.amax(dim=(1, 2, 3), keepdim=True).expand(-1, 1, *image.shape[-2:])
        return Prediction([torch.cat([0 * largest, 4 * largest], dim=1)], largest)


@pytest.mark.parametrize("axis", [-1, -2])
def test_overlapping_windows_are_mixed_by_gaussians_of_an_eighth_of_their_side(axis: int) -> None:
    """Windows of 16 px start at 0 and 8, centred at 7.5 and 15.5, with a standard deviation of 2: the second one's
    weight is exp(((x - 7.5)^2 - (x - 15.5)^2) / 8) = exp(2 x - 23) times the first one's."""
    image = torch.zeros(3, 16, 24)
    image[:, :, 23] = 1
    image = image if axis == -1 else image.transpose(1, 2)
    probabilities, guide = segment_image(Largest(), image, Window(16, mirror=False))  # type: ignore[arg-type]
    assert guide is not None
    line = guide[0, 7] if axis == -1 else guide[0, :, 7]
    share = [0.0] * 8 + [1 / (1 + math.exp(23 - 2 * x)) for x in range(8, 16)] + [1.0] * 8
    assert line.tolist() == pytest.approx(share, abs=1e-6)
    # Logits are averaged, not probabilities.
    scores = probabilities[1, 7] if axis == -1 else probabilities[1, :, 7]
    assert scores.tolist() == pytest.approx([1 / (1 + math.exp(-4 * s)) for s in share], abs=1e-6)
    # In the corner of a window its weight would be 8e-7; it is at least 1e-4.
    corner = guide[0, 0, 15] if axis == -1 else guide[0, 15, 0]
    second = math.exp(-(0.5**2 + 7.5**2) / 8)
    assert corner.item() == pytest.approx(second / (second + 1e-4), abs=1e-5)


@pytest.mark.parametrize(
    ("size_hw", "overlap", "rows", "columns"),
    [
        ((16, 10), 0.5, [0], [0]),
        ((17, 20), 0.5, [0, 1], [0, 4]),
        ((24, 40), 0.5, [0, 8], [0, 8, 16, 24]),
        ((35, 16), 0.5, [0, 6, 13, 19], [0]),  # 19 / 3 apart
        ((36, 32), 0.0, [0, 10, 20], [0, 16]),
        ((20, 18), 0.75, [0, 4], [0, 2]),
        ((18, 16), 0.99, [0, 1, 2], [0]),
    ],
)
def test_windows_are_evenly_spread(
    size_hw: tuple[int, int], overlap: float, rows: list[int], columns: list[int]
) -> None:
    found = window_corners(size_hw, Window(16, overlap=overlap))
    assert found == [(row, column) for row in rows for column in columns]


class Sloping(nn.Module):
    """A model whose score is the position in a window of four pixels, and whose guide is the column."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))

    def forward(self, image: Tensor, *, get_or_compute: None = None) -> Prediction:
        self.passes += 1
        score = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).expand(len(image), 1, 2, 2)
        return Prediction([score], torch.tensor([[0.0, 1.0]]).expand(len(image), 1, 1, 2))


def test_mirroring_averages_four_flips_that_are_flipped_back() -> None:
    """Every position takes the place of every other once: the mean of 0, 1, 2 and 3."""
    model = Sloping()
    logits, guide = predict_with_flips(model, torch.zeros(1, 3, 2, 2), Window(2))  # type: ignore[arg-type]
    assert model.passes == 4
    assert logits.tolist() == [[[[1.5, 1.5], [1.5, 1.5]]]]
    assert guide is not None
    assert guide.tolist() == [[[[0.5, 0.5], [0.5, 0.5]]]]


def test_without_mirroring_there_is_one_pass() -> None:
    model = Sloping()
    logits, guide = predict_with_flips(model, torch.zeros(1, 3, 2, 2), Window(2, mirror=False))  # type: ignore[arg-type]
    assert model.passes == 1
    assert logits.tolist() == [[[[0.0, 1.0], [2.0, 3.0]]]]
    assert guide is not None
    assert guide.tolist() == [[[[0.0, 1.0], [0.0, 1.0]]]]
