"""Augmentation of patches (B, C, D, H, W), of other numbers of channels, and of z-scores."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from guidino_cli.data.augment import AugmentationParams, augment_batch, draw_augmentation
from guidino_cli.data.dataset import random_generator

CUBE, FLAT = (16, 16, 16), (8, 32, 32)


def _random_patch(shape: tuple[int, ...] = (10, 12, 14), *, channels: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, channels, *shape, generator=generator), torch.randint(0, 3, (1, *shape), generator=generator)


def _augment(image: Tensor, mask: Tensor, **parameters: object) -> tuple[Tensor, Tensor]:
    return augment_batch(image, mask, [AugmentationParams(**parameters)])  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "axis"), [("flip_z", -3), ("flip_y", -2), ("flip_x", -1)])
def test_flips_mirror_image_and_mask_along_their_axis(name: str, axis: int) -> None:
    image, mask = _random_patch()
    flipped, labels = _augment(image, mask, **{name: True})
    torch.testing.assert_close(flipped, image.flip(axis), atol=1e-5, rtol=0)
    assert torch.equal(labels, mask.flip(axis))


@pytest.mark.parametrize(("name", "axes"), [("rotation", (-2, -1)), ("tilt_y", (-3, -1)), ("tilt_x", (-3, -2))])
def test_quarter_turn_in_a_square_plane_is_that_of_torch(name: str, axes: tuple[int, int]) -> None:
    image, mask = _random_patch((12, 12, 12))
    turned, labels = _augment(image, mask, **{name: math.pi / 2})
    candidates = [torch.rot90(mask, turns, axes) for turns in (1, -1)]
    found = [torch.equal(labels, candidate) for candidate in candidates]
    assert found.count(True) == 1
    torch.testing.assert_close(turned, torch.rot90(image, (1, -1)[found.index(True)], axes), atol=1e-5, rtol=0)


def test_in_plane_rotation_of_a_patch_is_that_of_its_slices() -> None:
    image, mask = _random_patch((5, 24, 24))
    turned, labels = _augment(image, mask, rotation=0.3)
    slices, masks = augment_batch(image[0].transpose(0, 1), mask[0], [AugmentationParams(rotation=0.3)] * 5)
    torch.testing.assert_close(turned[0].transpose(0, 1), slices, atol=1e-5, rtol=0)
    assert (labels[0] != masks).float().mean() < 0.01


def test_rotation_of_a_patch_of_unequal_sides_keeps_distances_in_voxels() -> None:
    # A ball of radius 6 about the centre of a flat, wide patch stays where it is.
    grid = torch.stack(torch.meshgrid(*(torch.arange(side) - (side - 1) / 2 for side in (17, 25, 41)), indexing="ij"))
    distance = grid.square().sum(dim=0).sqrt()
    mask = (distance <= 6).long()[None]
    for name in ("rotation", "tilt_y", "tilt_x"):
        _, turned = _augment(mask[:, None].float(), mask, **{name: 0.7})
        assert turned[0, distance < 5].all()
        assert not turned[0, distance > 7].any()


def test_scale_of_two_doubles_all_sides_of_a_box_and_planar_scale_those_of_its_slices() -> None:
    mask = torch.zeros(1, 32, 32, 32).long()
    mask[:, 14:18, 12:20, 12:20] = 1
    _, larger = _augment(mask[:, None].float(), mask, scale=2.0)
    assert larger.sum() == 8 * mask.sum()
    _, wider = _augment(mask[:, None].float(), mask, scale=2.0, is_planar=True)
    assert wider.sum() == 4 * mask.sum()
    assert wider[0].any(dim=(1, 2)).nonzero().flatten().tolist() == [14, 15, 16, 17]


def test_planar_low_resolution_leaves_slices_apart() -> None:
    image = torch.zeros(1, 1, 8, 16, 16)
    image[:, :, 3] = 1
    together, _ = _augment(image, torch.zeros(1, 8, 16, 16).long(), low_resolution=0.5)
    assert not torch.equal(together, image)
    apart, _ = _augment(image, torch.zeros(1, 8, 16, 16).long(), low_resolution=0.5, is_planar=True)
    torch.testing.assert_close(apart, image)


def test_blur_of_a_point_is_a_gaussian_along_all_axes() -> None:
    image = torch.zeros(1, 1, 9, 9, 9)
    image[0, 0, 4, 4, 4] = 1
    blurred, _ = _augment(image, torch.zeros(1, 9, 9, 9).long(), blur=0.8)
    for axis in range(3):
        place: list[int | slice] = [4, 4, 4]
        place[axis] = 5
        ratio = blurred[0, 0][tuple(place)] / blurred[0, 0, 4, 4, 4]
        assert ratio.item() == pytest.approx(math.exp(-1 / (2 * 0.8**2)), rel=1e-4)
    assert blurred.sum().item() == pytest.approx(1, rel=1e-5)


def test_patch_of_one_slice_gets_the_contrast_and_gamma_of_an_image() -> None:
    image, mask = _random_patch((1, 16, 16), channels=2)
    for change in (
        {"contrast": 1.2, "keeps_range": True},
        {"gamma": 1.4},
        {"gamma_inverted": 0.8},
        {"brightness": 0.9},
    ):
        patch, _ = _augment(image, mask, **change)
        single, _ = _augment(image[:, :, 0], mask[:, 0], **change)
        torch.testing.assert_close(patch[:, :, 0], single)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("level", ["light", "nnunet"])
def test_z_scores_keep_their_range(level: str, dims: int) -> None:
    shape = CUBE[3 - dims :]
    image = torch.linspace(-4, 4, 16).expand(8, 2, *shape)
    mask = torch.zeros(8, *shape).long()
    patch = shape if dims == 3 else None
    draws = [draw_augmentation(level, random_generator(i), channels=2, patch_size=patch) for i in range(8)]  # type: ignore[arg-type]
    changed, _ = augment_batch(image, mask, draws, is_unit=False)
    for after in changed:
        assert after.min() < -1.5
        assert after.max() > 1.5


def test_noise_of_z_scores_is_stronger_by_the_deviation_that_unit_images_have() -> None:
    image, mask = torch.zeros(1, 1, 32, 32, 32), torch.zeros(1, 32, 32, 32).long()
    noisy, _ = augment_batch(image, mask, [AugmentationParams(noise=0.0225)], is_unit=False)
    assert noisy.std().item() == pytest.approx(0.1, rel=0.02)


def test_each_of_five_channels_has_its_own_numbers() -> None:
    draws = [draw_augmentation("nnunet", random_generator(i), channels=5) for i in range(60)]
    gammas = [draw.gamma for draw in draws if isinstance(draw.gamma, tuple)]
    assert gammas
    assert all(len(set(item)) == 5 for item in gammas)
    image, mask = torch.rand(60, 5, 12, 12), torch.zeros(60, 12, 12).long()
    assert augment_batch(image, mask, draws)[0].shape == image.shape


def test_patches_of_about_equal_sides_turn_up_to_30_degrees_about_every_axis_a_fifth_of_the_time() -> None:
    draws = [draw_augmentation("nnunet", random_generator(i), patch_size=CUBE) for i in range(2000)]
    for name in ("rotation", "tilt_y", "tilt_x"):
        angles = np.array([getattr(draw, name) for draw in draws])
        # Binomial of 2000 and 0.2: deviation 0.009.
        assert (angles != 0).mean() == pytest.approx(0.2, abs=0.04)
        assert math.radians(27) < np.abs(angles).max() <= math.radians(30)
    assert not any(draw.is_planar for draw in draws)
    for name in ("flip_z", "flip_y", "flip_x"):
        assert np.mean([getattr(draw, name) for draw in draws]) == pytest.approx(0.5, abs=0.05)
    scales = np.array([draw.scale for draw in draws])
    assert scales.min() == pytest.approx(1 / 1.4, rel=0.02)
    assert scales.max() == pytest.approx(1 / 0.7, rel=0.02)


def test_patches_of_few_slices_turn_by_any_angle_slice_by_slice() -> None:
    draws = [draw_augmentation("nnunet", random_generator(i), patch_size=FLAT) for i in range(1000)]
    assert all(draw.is_planar and draw.tilt_y == draw.tilt_x == 0 for draw in draws)
    angles = np.array([draw.rotation for draw in draws])
    assert (angles != 0).mean() == pytest.approx(0.2, abs=0.05)
    assert np.abs(angles).max() > math.radians(150)


def test_sample_of_a_batch_does_not_depend_on_the_others() -> None:
    generator = torch.Generator().manual_seed(0)
    image, mask = torch.rand(6, 2, *CUBE, generator=generator), torch.randint(0, 3, (6, *CUBE), generator=generator)
    draws = [draw_augmentation("nnunet", random_generator(9, i), channels=2, patch_size=CUBE) for i in range(6)]
    together = augment_batch(image, mask, draws)
    for i in range(6):
        alone = augment_batch(image[i : i + 1], mask[i : i + 1], draws[i : i + 1])
        torch.testing.assert_close(together[0][i : i + 1], alone[0], atol=1e-5, rtol=1e-4)
        assert torch.equal(together[1][i : i + 1], alone[1])


def test_none_draws_nothing() -> None:
    assert draw_augmentation("none", random_generator(0), patch_size=CUBE) == AugmentationParams()
    image, mask = _random_patch()
    unchanged = augment_batch(image, mask, [replace(AugmentationParams(), seed=3)])
    assert torch.equal(unchanged[0], image)
    assert torch.equal(unchanged[1], mask)
