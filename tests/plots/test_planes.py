"""The three planes: which slices, which way up, and how large."""

import numpy as np
import pytest

from guidino_cli.plots.plane_pictures import mark_crossing, resize_labels
from guidino_cli.plots.planes import (
    PLANES,
    Position,
    close_up,
    cut_planes,
    largest_slices,
    picture_sizes,
    project_planes,
)

SHAPE = (4, 6, 10)


def _corner_block() -> np.ndarray:
    """A block at the patient's left, front and head: last in X and Z, first in Y of (Z, Y, X)."""
    volume = np.zeros(SHAPE, dtype=np.uint8)
    volume[2:, :3, 5:] = 1
    return volume


def _quarter(picture: np.ndarray) -> tuple[str, str]:
    """The quarter of a picture that a block fills."""
    rows, columns = np.nonzero(picture)
    assert len(rows) * 4 == picture.size
    return ("top" if rows.max() < picture.shape[0] / 2 else "bottom"), (
        "left" if columns.max() < picture.shape[1] / 2 else "right"
    )


@pytest.mark.parametrize("projected", [False, True])
def test_left_anterior_superior_is_drawn_where_the_letters_say(projected: bool) -> None:
    volume = _corner_block()
    pictures = project_planes(volume) if projected else cut_planes(volume, Position(3, 0, 9))
    for plane, picture in zip(PLANES, pictures, strict=True):
        vertical, horizontal = _quarter(picture)
        assert getattr(plane.edges, vertical) in "AS"
        assert getattr(plane.edges, horizontal) in ("A" if plane.name == "sagittal" else "L")


def test_the_patients_right_is_on_the_left_and_the_head_on_top() -> None:
    assert PLANES.axial.edges == ("R", "L", "A", "P")
    assert PLANES.coronal.edges == ("R", "L", "S", "I")
    assert PLANES.sagittal.edges == ("A", "P", "S", "I")
    volume = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    axial, coronal, sagittal = cut_planes(volume, Position(1, 2, 3))
    assert np.array_equal(axial, volume[1])
    assert coronal[0, 0] == volume[3, 2, 0]
    assert sagittal[0, 0] == volume[3, 0, 3]
    assert coronal[-1, -1] == volume[0, 2, 9]
    assert sagittal[-1, -1] == volume[0, 5, 3]


def test_channels_before_the_axes_are_cut_along() -> None:
    volume = np.arange(2 * np.prod(SHAPE)).reshape(2, *SHAPE)
    both = cut_planes(volume, Position(1, 2, 3))
    alone = cut_planes(volume[1], Position(1, 2, 3))
    assert all(np.array_equal(pair[1], single) for pair, single in zip(both, alone, strict=True))
    assert all(
        np.array_equal(pair[1], single)
        for pair, single in zip(project_planes(volume), project_planes(volume[1]), strict=True)
    )


def test_a_memory_map_is_read_only_where_it_is_cut(tmp_path) -> None:
    np.save(tmp_path / "volume.npy", np.arange(np.prod(SHAPE)).reshape(SHAPE))
    mapped = np.load(tmp_path / "volume.npy", mmap_mode="r")
    assert np.array_equal(cut_planes(mapped, Position(1, 2, 3)).coronal, np.load(tmp_path / "volume.npy")[::-1, 2])


def test_slices_go_through_the_largest_foreground_of_each_plane() -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1, 2:4, 4] = 1
    labels[3, 2, 4:7] = 2
    # Voxels of any class by z: 0, 2, 0, 3; by y: 0, 0, 4, 1, 0, 0; by x: 3 at 4, 1 at 5 and 6.
    assert largest_slices([labels], SHAPE) == (3, 2, 4)


def test_voxels_that_do_not_count_are_no_foreground() -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[0] = 255
    labels[2, 1, 3] = 1
    assert largest_slices([labels], SHAPE, ignore_label=255) == (2, 1, 3)
    assert largest_slices([labels * 0, None, labels], SHAPE) == (0, 1, 3)


def test_of_equal_slices_the_middle_one_is_shown() -> None:
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[1:4, 1:4, 3:8] = 1
    assert largest_slices([labels], SHAPE) == (2, 2, 5)


def test_without_foreground_the_middle_is_shown() -> None:
    assert largest_slices([None], SHAPE) == (2, 3, 5)
    assert largest_slices([np.zeros(SHAPE, dtype=np.uint8)], SHAPE) == (2, 3, 5)


def test_pictures_have_the_shape_of_the_patient() -> None:
    # 9 slices of 7.5 mm, 54 x 49 pixels of 0.5 mm: 67.5 mm high, 27 mm deep and 24.5 mm wide.
    sizes = picture_sizes((9, 54, 49), (7.5, 0.5, 0.5), box_hw=(180, 150))
    assert sizes.axial == (165, 150)  # 27 x 24.5 mm at 150 / 24.5 pixels per mm
    assert sizes.coronal == (180, 65)  # 67.5 x 24.5 mm at 180 / 67.5
    assert sizes.sagittal == (180, 72)  # 67.5 x 27 mm


def test_two_slices_are_a_strip_and_a_single_thin_one_is_still_seen() -> None:
    assert picture_sizes((2, 45, 45), (37.5, 5.0, 5.0), box_hw=(180, 150)).coronal == (50, 150)
    assert picture_sizes((1, 512, 512), (0.5, 1.0, 1.0), box_hw=(180, 150)).coronal == (1, 150)


@pytest.mark.parametrize("spacing", [(7.5, 0.5, 0.5), (1.0, 2.0, 0.7), (0.3, 1.0, 3.0)])
def test_a_ball_is_drawn_as_a_disc_in_every_plane(spacing: tuple[float, float, float]) -> None:
    shape = tuple(round(60 / size) for size in spacing)
    at = [(np.arange(count) + 0.5) * size - 30 for count, size in zip(shape, spacing, strict=True)]
    ball = at[0][:, None, None] ** 2 + at[1][:, None] ** 2 + at[2] ** 2 < 20**2
    middle = Position(*(count // 2 for count in shape))
    sizes = picture_sizes(shape, spacing, box_hw=(300, 300))
    for picture, size_hw in zip(cut_planes(ball, middle), sizes, strict=True):
        disc = resize_labels(picture, size_hw)
        height, width = (np.ptp(places) + 1 for places in np.nonzero(disc))
        # 40 of 60 mm, to a voxel at both ends.
        tolerance = 300 * 2 * max(spacing) / 60 + 2
        assert height == pytest.approx(200, abs=tolerance)
        assert width == pytest.approx(200, abs=tolerance)


def test_ticks_mark_where_the_other_planes_cut() -> None:
    position = Position(3, 0, 9)
    assert PLANES.axial.crossing(position, SHAPE) == pytest.approx((0.5 / 6, 9.5 / 10))
    assert PLANES.coronal.crossing(position, SHAPE) == pytest.approx((0.5 / 4, 9.5 / 10))
    assert PLANES.sagittal.crossing(position, SHAPE) == pytest.approx((0.5 / 4, 0.5 / 6))
    picture = mark_crossing(np.full((80, 80, 3), 100, dtype=np.uint8), (0.25, 0.75))
    white = (picture == 255).all(axis=2)
    assert white[20, 0]
    assert white[20, 79]
    assert white[0, 60]
    assert white[79, 60]
    assert (picture[15:65, 15:65] == 100).all()


def test_labels_of_any_number_keep_their_values_when_resized() -> None:
    labels = np.array([[0, 300], [70000, 1]])
    assert resize_labels(labels, (4, 6)).tolist() == [[0] * 3 + [300] * 3] * 2 + [[70000] * 3 + [1] * 3] * 2
    assert resize_labels(np.arange(6)[None], (1, 3)).tolist() == [[1, 3, 5]]


def test_a_close_up_is_a_square_in_the_patient_around_small_foreground() -> None:
    foreground = np.zeros((20, 200), dtype=bool)
    foreground[8:10, 100:110] = True
    # 2 rows of 5 mm and 10 columns of 0.5 mm: 10 x 5 mm; 30 mm are 6 rows and 60 columns, from 9 - 3 and 105 - 30.
    assert close_up(foreground, (5.0, 0.5)) == (slice(6, 12), slice(75, 135))


def test_a_close_up_ends_at_the_edge_of_the_picture() -> None:
    foreground = np.zeros((100, 100), dtype=bool)
    foreground[0:4, 98:100] = True
    assert close_up(foreground, (1.0, 1.0)) == (slice(0, 8), slice(93, 100))


def test_there_is_no_close_up_of_large_or_no_foreground() -> None:
    foreground = np.zeros((100, 100), dtype=bool)
    assert close_up(foreground, (1.0, 1.0)) is None
    foreground[40:60, 40:60] = True
    assert close_up(foreground, (1.0, 1.0)) is None  # 60 x 60 of 100 x 100


def test_a_close_up_of_a_single_voxel_has_its_neighbours() -> None:
    foreground = np.zeros((50, 50), dtype=bool)
    foreground[10, 20] = True
    rows, columns = close_up(foreground, (1.0, 1.0))
    assert rows.start < 10 < rows.stop - 1
    assert columns.start < 20 < columns.stop - 1
