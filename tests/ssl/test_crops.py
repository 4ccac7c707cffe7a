"""Which crops are drawn."""

import math

import numpy as np
import pytest

from guidino_cli.ssl.crops import Crop, Kind, draw


def _many(kind: Kind, *, aspect: float = 1.0, count: int = 300) -> list[Crop]:
    return [draw(kind, np.random.default_rng([7, number]), aspect=aspect) for number in range(count)]


@pytest.mark.parametrize("area", [(0.32, 1.0), (0.05, 0.32)])
def test_a_crop_covers_a_share_of_the_area_within_the_limits(area: tuple[float, float]) -> None:
    shares = [crop.width * crop.height for crop in _many(Kind(area=area))]
    assert area[0] <= min(shares) < area[0] + 0.1 * (area[1] - area[0])
    assert area[1] - 0.2 * (area[1] - area[0]) < max(shares) <= area[1]


@pytest.mark.parametrize("aspect", [0.5, 1.0, 2.0])
def test_a_crop_is_between_3_to_4_and_4_to_3_in_the_pixels_of_the_source(aspect: float) -> None:
    shapes = [aspect * crop.width / crop.height for crop in _many(Kind(), aspect=aspect)]
    assert min(shapes) >= 3 / 4 - 1e-9
    assert max(shapes) <= 4 / 3 + 1e-9


def test_a_crop_lies_within_the_image() -> None:
    for crop in _many(Kind(area=(0.05, 0.32)), aspect=1.5):
        for centre, side in ((crop.x, crop.width), (crop.y, crop.height)):
            assert centre - side / 2 >= -1e-9
            assert centre + side / 2 <= 1 + 1e-9


def test_of_an_image_ten_times_as_wide_as_high_the_widest_allowed_part_is_cut() -> None:
    crop = _many(Kind(area=(0.9, 1.0)), aspect=10.0, count=1)[0]
    assert crop.height == 1.0
    assert crop.width == pytest.approx(4 / 3 / 10)


def test_the_same_generator_gives_the_same_crop() -> None:
    assert draw(Kind(), np.random.default_rng(3), aspect=1.3) == draw(Kind(), np.random.default_rng(3), aspect=1.3)


def test_another_light_moves_no_crop() -> None:
    photo, none = _many(Kind(), count=20), _many(Kind(light="none"), count=20)
    assert [(a.x, a.y, a.width, a.flip) for a in photo] == [(b.x, b.y, b.width, b.flip) for b in none]


def test_greys_and_windows_keep_their_colours() -> None:
    for light in ("grey", "window"):
        crops = _many(Kind(light=light, solarise=1.0), count=100)
        assert {(crop.saturation, crop.hue, crop.solarise) for crop in crops} == {(1.0, 0.0, False)}
        assert len({crop.contrast for crop in crops}) > 50


def test_a_fifth_of_photographs_is_shown_in_grey() -> None:
    grey = sum(crop.saturation == 0 for crop in _many(Kind(), count=1000))
    assert grey == pytest.approx(200, abs=4 * math.sqrt(160))
