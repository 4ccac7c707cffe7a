"""Resizing to the network's grid and back."""

import numpy as np
import pytest
import torch

from guidino_cli.data.preprocess import (
    network_size,
    resize_channels,
    resize_image,
    resize_labels,
    restore_to_source,
    to_tensor,
)
from guidino_cli.types import Geometry


@pytest.mark.parametrize(
    ("resize", "size", "expected"),
    [
        ("stretch", (529, 622), (256, 256)),
        ("none", (529, 622), (529, 622)),
        ("longer", (512, 1024), (128, 256)),
        ("longer", (100, 50), (256, 128)),
        ("longer", (1, 1000), (1, 256)),
        ("shorter", (512, 1024), (256, 512)),
        ("shorter", (100, 50), (512, 256)),
        ("shorter", (333, 333), (256, 256)),
        ("shorter", (1, 3), (256, 768)),
    ],
)
def test_network_size_follows_the_resize_mode(resize: str, size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert network_size(size, resize=resize, image_size=256) == expected  # type: ignore[arg-type]


def test_a_tensor_has_channels_first_and_values_up_to_one() -> None:
    pixels = np.zeros((2, 3, 3), dtype=np.uint8)
    pixels[1, 2] = [255, 51, 0]
    tensor = to_tensor(pixels)
    assert tensor.shape == (3, 2, 3)
    assert tensor[:, 1, 2].tolist() == pytest.approx([1.0, 0.2, 0.0])
    assert tensor.dtype == torch.float32


def test_an_image_of_the_right_size_is_returned_unchanged() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3)).astype(np.uint8)
    assert resize_image(pixels, (5, 7)) is pixels


def test_shrinking_averages() -> None:
    """Stripes of 0 and 200 become grey; taking every n-th pixel would keep black or white."""
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[:, ::2] = 200
    assert np.abs(resize_image(pixels, (8, 8)).astype(int) - 100).max() <= 8


def test_labels_stay_labels_when_resized() -> None:
    labels = np.random.default_rng(0).choice([0, 3, 7], (40, 30)).astype(np.uint8)
    for size in ((16, 16), (80, 90)):
        resized = resize_labels(labels, size)
        assert resized.shape == size
        assert resized.dtype == np.uint8
        assert set(np.unique(resized)) <= {0, 3, 7}


def test_a_pixel_becomes_the_class_that_covers_most_of_it() -> None:
    """Classes 1 and 3 between them cover 2's place in a mean: interpolating values would invent class 2."""
    labels = np.ones((8, 8), dtype=np.uint8)
    labels[:, 4:] = 3
    assert set(np.unique(resize_labels(labels, (3, 3)))) <= {1, 3}
    labels = np.zeros((12, 12), dtype=np.uint8)
    labels[:, :7] = 5
    assert resize_labels(labels, (1, 1)).item() == 5


@pytest.mark.parametrize("size", [(64, 64), (128, 96)])
def test_resizing_labels_does_not_shift_them(size: tuple[int, int]) -> None:
    y, x = np.mgrid[:200, :200]
    labels = ((y - 80) ** 2 + (x - 120) ** 2 < 40**2).astype(np.uint8)
    resized = resize_labels(labels, size)
    centre = [(axis.mean() + 0.5) / side for axis, side in zip(np.nonzero(resized), size, strict=True)]
    assert centre == pytest.approx([80.5 / 200, 120.5 / 200], abs=0.005)
    assert resized.mean() == pytest.approx(labels.mean(), rel=0.03)


@pytest.mark.parametrize("size", [(100, 140), (31, 47), (64, 64)])
@pytest.mark.parametrize("resize", ["stretch", "longer", "shorter", "none"])
def test_labels_survive_resizing_to_the_network_and_back(resize: str, size: tuple[int, int]) -> None:
    y, x = np.mgrid[: size[0], : size[1]]
    labels = ((y / size[0] > 0.3) & (x / size[1] < 0.6)).astype(np.uint8)
    seen = resize_labels(labels, network_size(size, resize=resize, image_size=64))  # type: ignore[arg-type]
    maps = torch.nn.functional.one_hot(torch.from_numpy(seen.astype(np.int64)), 2).movedim(-1, 0).float()
    back = restore_to_source(maps, Geometry.of_pixels("a.png", size)).argmax(dim=0).numpy()
    assert back.shape == size
    # At most the pixels along the two edges may differ.
    assert (back != labels).sum() <= 2 * sum(size)


def test_maps_of_the_right_size_are_returned_unchanged() -> None:
    maps = torch.rand(2, 5, 7)
    assert restore_to_source(maps, Geometry.of_pixels("a.png", (5, 7))) is maps


def test_shrinking_an_image_averages_alternating_columns() -> None:
    columns = np.zeros((8, 64, 3), dtype=np.uint8)
    columns[:, ::2] = 255
    assert np.abs(resize_image(columns, (8, 8)).astype(float) - 127.5).max() < 20


@pytest.mark.parametrize("axis", [1, 2])
def test_a_map_is_averaged_when_it_shrinks(axis: int) -> None:
    """One line of eight is 1. Triangles of twice that width give it 1 - 0.5 / 8 and its neighbour 1 - 7.5 / 8 of 8;
    without antialiasing every value were the mean of a 1 and a 0."""
    maps = torch.zeros(1, 64, 64)
    maps.index_fill_(axis, torch.arange(3, 64, 8), 1.0)
    small = restore_to_source(maps, Geometry.of_pixels("a.png", (8, 8)))
    torch.testing.assert_close(small[:, 2:6, 2:6], torch.full((1, 4, 4), 1 / 8))


def test_a_map_is_interpolated_between_pixel_centres_when_it_grows() -> None:
    maps = torch.tensor([[[0.0, 1.0]]])
    grown = restore_to_source(maps, Geometry.of_pixels("a.png", (1, 4)))
    torch.testing.assert_close(grown, torch.tensor([[[0.0, 0.25, 0.75, 1.0]]]))


def test_channels_are_resized_as_images_are() -> None:
    image = np.random.default_rng(0).integers(0, 256, (3, 30, 40)).astype(np.float32)
    small = resize_channels(image, (10, 20))
    expected = resize_image(image.transpose(1, 2, 0).astype(np.uint8), (10, 20)).transpose(2, 0, 1)
    assert small.dtype == np.float32
    # Pictures are rounded to whole numbers.
    assert np.abs(small - expected).max() <= 1


def test_channels_of_the_right_size_stay_as_they_are() -> None:
    values = np.full((2, 4, 5), -3.5, dtype=np.float32)
    assert resize_channels(values, (4, 5)) is values
