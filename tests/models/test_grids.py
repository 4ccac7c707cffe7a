"""Padding, cropping and resampling of images and maps with two or three axes; numbers by hand."""

import pytest
import torch

from guidino_cli.models.grids import crop_to_image, extend_to_padding, pad_to_multiple, resize_guide, strides_by_axis


def test_each_axis_of_a_volume_is_padded_to_its_own_stride() -> None:
    volume = torch.arange(27.0).view(1, 1, 3, 3, 3)
    padded = pad_to_multiple(volume, (1, 2, 4))
    assert padded.shape == (1, 1, 3, 4, 4)
    assert torch.equal(padded[..., :3, :3], volume)
    # The last row and column are repeated.
    assert torch.equal(padded[0, 0, 1, 3], torch.tensor([15.0, 16, 17, 17]))


def test_a_volume_of_whole_strides_is_not_copied() -> None:
    volume = torch.rand(1, 1, 4, 8, 8)
    assert pad_to_multiple(volume, (2, 8, 8)) is volume


def test_strides_of_another_number_of_axes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"strides \[1, 2\], expected one for each of 3 axes"):
        strides_by_axis((1, 2), 3)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_guide_is_enlarged_linearly_along_every_axis(axis: int) -> None:
    """Two cells 0 and 1 in four: centres at 1/4, 3/4, 5/4 and 7/4 of the given cells, whose own are at 1/2 and 3/2."""
    shape, size = [1, 1, 1], [1, 1, 1]
    shape[axis], size[axis] = 2, 4
    found = resize_guide(torch.tensor([0.0, 1]).view(1, 1, *shape), size).flatten()
    torch.testing.assert_close(found, torch.tensor([0, 0.25, 0.75, 1]))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_guide_is_averaged_by_triangles_when_it_shrinks(axis: int) -> None:
    """Of four cells, two: weights 3/4, 3/4 and 1/4 around the centre, those inside add up to 7/4."""
    shape, size = [1, 1, 1], [1, 1, 1]
    shape[axis], size[axis] = 4, 2
    found = resize_guide(torch.tensor([7.0, 0, 0, 14]).view(1, 1, *shape), size).flatten()
    torch.testing.assert_close(found, torch.tensor([3.0, 6]))


@pytest.mark.parametrize("size", [(3, 4), (8, 2), (32, 24), (5, 7)])
def test_a_guide_that_is_the_same_in_every_slice_is_resized_as_that_slice(size: tuple[int, int]) -> None:
    slice_ = torch.rand(2, 3, 5, 7)
    found = resize_guide(slice_[:, :, None].expand(-1, -1, 6, -1, -1), (4, *size))
    expected = resize_guide(slice_, size)[:, :, None].expand(-1, -1, 4, -1, -1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_coarser_scores_of_a_padded_volume_cover_the_volume_alone(axis: int) -> None:
    """Of 12 voxels, 10 are the image's: three cells of 4 become three of 10/3, whose centres are at 10/6, 5 and 50/6;
    the given ones are at 2, 6 and 10."""
    sides, image, padded = [1, 1, 1], [1, 1, 1], [1, 1, 1]
    sides[axis], image[axis], padded[axis] = 3, 10, 12
    level = torch.tensor([0.0, 4, 8]).view(1, 1, *sides)
    found = crop_to_image(level, torch.empty(1, 1, *image), torch.empty(1, 1, *padded)).flatten()
    torch.testing.assert_close(found, torch.tensor([0.0, 5 - 2, 50 / 6 - 2]))


def test_the_maps_of_slices_are_continued_over_the_padding_of_each_axis() -> None:
    """Two slices and two columns, padded to three and three: the last of each is repeated."""
    level = torch.tensor([[1.0, 2], [3, 4]]).view(1, 1, 2, 1, 2)
    found = extend_to_padding(level, torch.empty(1, 1, 2, 4, 8), torch.empty(1, 1, 3, 4, 12))
    torch.testing.assert_close(found[0, 0, :, 0], torch.tensor([[1.0, 2, 2], [3, 4, 4], [3, 4, 4]]))


def test_a_guide_is_resized_in_full_precision_whatever_surrounds_it() -> None:
    guide = torch.rand(1, 1, 8, 5, 5)
    expected = resize_guide(guide, (4, 40, 7))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(resize_guide(guide, (4, 40, 7)), expected)
