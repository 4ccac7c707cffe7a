"""Random crops: distribution of their parameters, and the views cut with them."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from guidino_cli.ssl.crops import CropDistribution, CropParams, apply_crops, draw_crop


def _many(kind: CropDistribution, *, aspect: float = 1.0, count: int = 300) -> list[CropParams]:
    return [draw_crop(kind, np.random.default_rng([7, number]), aspect=aspect) for number in range(count)]


@pytest.mark.parametrize("area", [(0.32, 1.0), (0.05, 0.32)])
def test_crop_areas_are_within_the_limits(area: tuple[float, float]) -> None:
    shares = [crop.width * crop.height for crop in _many(CropDistribution(area=area))]
    assert area[0] <= min(shares) < area[0] + 0.1 * (area[1] - area[0])
    assert area[1] - 0.2 * (area[1] - area[0]) < max(shares) <= area[1]


@pytest.mark.parametrize("aspect", [0.5, 1.0, 2.0])
def test_crops_are_between_3_to_4_and_4_to_3_in_source_pixels(aspect: float) -> None:
    shapes = [aspect * crop.width / crop.height for crop in _many(CropDistribution(), aspect=aspect)]
    assert min(shapes) >= 3 / 4 - 1e-9
    assert max(shapes) <= 4 / 3 + 1e-9


def test_crops_lie_within_the_image() -> None:
    for crop in _many(CropDistribution(area=(0.05, 0.32)), aspect=1.5):
        for centre, side in ((crop.x, crop.width), (crop.y, crop.height)):
            assert centre - side / 2 >= -1e-9
            assert centre + side / 2 <= 1 + 1e-9


def test_an_extremely_wide_image_gets_its_widest_allowed_crop() -> None:
    crop = _many(CropDistribution(area=(0.9, 1.0)), aspect=10.0, count=1)[0]
    assert crop.height == 1.0
    assert crop.width == pytest.approx(4 / 3 / 10)


def test_the_same_generator_gives_the_same_crop() -> None:
    assert draw_crop(CropDistribution(), np.random.default_rng(3), aspect=1.3) == draw_crop(
        CropDistribution(), np.random.default_rng(3), aspect=1.3
    )


def test_crop_positions_do_not_depend_on_light() -> None:
    photo, none = _many(CropDistribution(), count=20), _many(CropDistribution(light="none"), count=20)
    assert [(a.x, a.y, a.width, a.flip) for a in photo] == [(b.x, b.y, b.width, b.flip) for b in none]


def test_grey_and_window_do_not_change_colours() -> None:
    for light in ("grey", "window"):
        crops = _many(CropDistribution(light=light, solarise=1.0), count=100)
        assert {(crop.saturation, crop.hue, crop.solarise) for crop in crops} == {(1.0, 0.0, False)}
        assert len({crop.contrast for crop in crops}) > 50


def test_a_fifth_of_photographs_becomes_grey() -> None:
    grey = sum(crop.saturation == 0 for crop in _many(CropDistribution(), count=1000))
    assert grey == pytest.approx(200, abs=4 * math.sqrt(160))


def _ramp(side: int = 64) -> Tensor:
    """Grey rises from left to right by 2 a pixel."""
    return (2 * torch.arange(side, dtype=torch.uint8)).expand(1, 3, side, side).contiguous()


def _noise(count: int = 1, side: int = 32) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_the_identity_crop_returns_the_image() -> None:
    image = _noise()
    torch.testing.assert_close(apply_crops(image, [CropParams()], size=32), image / 255, atol=1e-5, rtol=0)


def test_a_crop_of_the_right_half_starts_at_the_middle_pixel() -> None:
    view = apply_crops(_ramp(), [CropParams(x=0.75, y=0.25, width=0.5, height=0.5)], size=32)
    # 32 columns of 64 pixels in 32 columns of the view: the first is pixel 32.
    torch.testing.assert_close(view[0, 0, 16], _ramp()[0, 0, 16, 32:] / 255, atol=1e-5, rtol=0)


def test_a_flip_mirrors_left_to_right() -> None:
    image = _noise()
    torch.testing.assert_close(
        apply_crops(image, [CropParams(flip=True)], size=32), image.flip(3) / 255, atol=1e-5, rtol=0
    )


def test_shrinking_averages_patterns_finer_than_the_view() -> None:
    stripes = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 200
    view = apply_crops(stripes, [CropParams()], size=16)
    torch.testing.assert_close(view, torch.full((1, 3, 16, 16), 100 / 255), atol=1e-5, rtol=0)


def test_a_view_does_not_depend_on_the_rest_of_the_batch() -> None:
    images = _noise(3)
    crops = [
        CropParams(width=0.4, height=0.3, blur=1.0, hue=0.4),
        CropParams(brightness=1.3, saturation=0.0),
        CropParams(width=0.9, solarise=True, contrast=0.7, shift=0.1),
    ]
    together = apply_crops(images, crops, size=16)
    alone = torch.cat([apply_crops(images[i : i + 1], crops[i : i + 1], size=16) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


def test_brightness_multiplies_and_clips_at_white() -> None:
    image = torch.full((1, 3, 4, 4), 102, dtype=torch.uint8)  # 0.4
    assert apply_crops(image, [CropParams(brightness=1.4)], size=4).unique().tolist() == pytest.approx([0.56])
    assert apply_crops(image, [CropParams(brightness=3.0)], size=4).unique().tolist() == [1.0]


def test_contrast_scales_about_the_mean_and_a_shift_adds() -> None:
    image = torch.full((1, 3, 2, 2), 51, dtype=torch.uint8)  # 0.2
    image[..., 1] = 153  # 0.6; the mean is 0.4
    view = apply_crops(image, [CropParams(contrast=0.5, shift=0.1)], size=2)
    assert view[0, 0, 0].tolist() == pytest.approx([0.4, 0.6], abs=1e-5)


def test_zero_saturation_gives_the_grey_value_in_all_channels() -> None:
    image = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 4, 4)
    torch.testing.assert_close(
        apply_crops(image, [CropParams(saturation=0.0)], size=4), torch.full((1, 3, 4, 4), 0.299)
    )


def test_a_hue_of_120_degrees_turns_red_into_green_and_keeps_greys() -> None:
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    turned = apply_crops(red, [CropParams(hue=2 * math.pi / 3)], size=2)[0, :, 0, 0]
    assert turned.tolist() == pytest.approx([0, 1, 0], abs=1e-5)
    grey = torch.full((1, 3, 2, 2), 90, dtype=torch.uint8)
    torch.testing.assert_close(apply_crops(grey, [CropParams(hue=1.0)], size=2), grey / 255)


def test_a_blurred_dot_is_a_gaussian_with_the_same_sum() -> None:
    dot = torch.zeros(1, 3, 17, 17, dtype=torch.uint8)
    dot[..., 8, 8] = 255
    view = apply_crops(dot, [CropParams(blur=1.0)], size=17)[0, 0]
    assert float(view.sum()) == pytest.approx(1, abs=1e-4)
    assert float(view[8, 9] / view[8, 8]) == pytest.approx(math.exp(-0.5), abs=1e-3)


def test_solarising_inverts_bright_values() -> None:
    image = torch.tensor([51, 204], dtype=torch.uint8).expand(1, 3, 2, 2)
    assert apply_crops(image, [CropParams(solarise=True)], size=2)[0, 0, 0].tolist() == pytest.approx(
        [0.2, 0.2], abs=1e-5
    )


def test_without_light_only_the_geometry_is_applied() -> None:
    image = _noise()
    crop = CropParams(width=0.5, brightness=0.6, blur=2.0, solarise=True, saturation=0.0)
    plain = apply_crops(image, [CropParams(width=0.5)], size=16)
    torch.testing.assert_close(apply_crops(image, [crop], size=16, light=False), plain)
