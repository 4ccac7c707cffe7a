"""Target spacing, computed by hand."""

import pytest

from guidino_cli.data.volumes.spacing import (
    KEEP,
    Spacing,
    format_spacing,
    parse_spacing,
    spacing_for_patch,
    target_spacing,
)
from guidino_cli.errors import ConfigError, DataError


def test_the_target_is_the_median_of_each_axis() -> None:
    spacings: list[Spacing] = [(3.0, 0.7, 0.9), (1.0, 0.8, 0.8), (2.0, 0.9, 0.7), (2.5, 0.6, 0.6)]
    # Means of the two in the middle: 2 and 2.5, 0.7 and 0.8 twice.
    assert target_spacing(spacings, [(100, 512, 512)] * 4) == pytest.approx((2.25, 0.75, 0.75))


@pytest.fixture
def cardiac() -> list[Spacing]:
    """Eleven volumes whose slices are 5, 6, ..., 15 mm apart: the median is 10, the 10th percentile 6."""
    return [(float(distance), 1.5, 1.5) for distance in range(5, 16)]


def test_thick_and_few_slices_get_the_tenth_percentile(cardiac: list[Spacing]) -> None:
    assert target_spacing(cardiac, [(10, 200, 200)] * 11) == pytest.approx((6, 1.5, 1.5))


def test_the_thick_axis_may_be_any(cardiac: list[Spacing]) -> None:
    turned = [(y, z, x) for z, y, x in cardiac]
    assert target_spacing(turned, [(200, 10, 200)] * 11) == pytest.approx((1.5, 6, 1.5))


@pytest.mark.parametrize(("slices", "z"), [(66, 6), (67, 10)])
def test_slices_are_few_below_a_third_of_the_smaller_side(cardiac: list[Spacing], slices: int, z: float) -> None:
    """198 voxels are fewer than 200, 201 are not."""
    assert target_spacing(cardiac, [(slices, 200, 300)] * 11)[0] == pytest.approx(z)


@pytest.mark.parametrize(("in_plane", "z"), [(3.3, 6), (3.4, 10)])
def test_slices_are_thick_above_three_times_the_larger_spacing(
    cardiac: list[Spacing], in_plane: float, z: float
) -> None:
    """9.9 mm are less than 10, 10.2 mm are not."""
    spacings: list[Spacing] = [(distance, 1.5, in_plane) for distance, _, _ in cardiac]
    assert target_spacing(spacings, [(10, 200, 200)] * 11)[0] == pytest.approx(z)


def test_thick_slices_do_not_become_finer_than_the_other_axes() -> None:
    """The 10th percentile is 0.5 mm, the slices' own pixels measure 1 mm."""
    spacings: list[Spacing] = [(0.5, 1.0, 0.8)] * 2 + [(5.0, 1.0, 0.8)] * 9
    assert target_spacing(spacings, [(10, 200, 200)] * 11) == pytest.approx((1.00001, 1, 0.8), abs=1e-9)


def test_a_data_set_that_has_its_target_keeps_it(cardiac: list[Spacing]) -> None:
    target = target_spacing(cardiac, [(10, 200, 200)] * 11)
    assert target_spacing([target] * 11, [(16, 200, 200)] * 11) == target


def test_no_volume_is_refused() -> None:
    with pytest.raises(DataError, match="there must be a training case"):
        target_spacing([], [])


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("auto", None),
        ("keep", KEEP),
        ("2.5,0.8,0.8", (2.5, 0.8, 0.8)),
        ("keep, 0.45, .45", (None, 0.45, 0.45)),
        ("keep,keep,keep", KEEP),
    ],
)
def test_the_option_is_read(text: str, target: Spacing | None) -> None:
    assert parse_spacing(text) == target


@pytest.mark.parametrize("text", ["0.8", "1,2", "1,2,3,4", "", "Auto", "2.5x0.8x0.8"])
def test_another_word_or_number_of_axes_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected keep, auto, or Z,Y,X in mm such as"):
        parse_spacing(text)


@pytest.mark.parametrize("part", ["0", "-1", "nan", "inf", "mm", ""])
def test_a_spacing_that_is_none_is_named(part: str) -> None:
    with pytest.raises(ConfigError, match=f"'{part}' is neither keep nor a number of mm above 0"):
        parse_spacing(f"2.5,{part},0.8")


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (KEEP, "keep"),
        ((None, 0.78125 * 512 / 896, 400 / 896), "keep,0.4464,0.4464"),
        ((5.0, 1.00001, 0.75), "5,1,0.75"),
    ],
)
def test_a_target_is_formatted_for_the_option(target: Spacing, text: str) -> None:
    assert format_spacing(target) == text


def test_meddinov3s_pixels_follow_from_the_plan() -> None:
    """Its authors' example: 0.4464285714285714 mm, 400 mm of a CT in 896 px."""
    assert spacing_for_patch((0.78125, 0.78125), (512, 512), side=896) == pytest.approx((0.4464285714285714,) * 2)
    assert spacing_for_patch((1.0, 0.5), (448, 896), side=896) == pytest.approx((0.5, 0.5))
