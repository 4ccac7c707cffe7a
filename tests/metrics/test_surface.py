"""Surface distances: closed forms, and equality with medpy on random and awkward masks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from medpy.metric import binary as medpy
from scipy.ndimage import binary_erosion

from guidino_cli.metrics import build_kernel, compiled, surface
from guidino_cli.metrics.surface import (
    SurfaceDistances,
    average_surface_distance,
    average_symmetric_surface_distance,
    hausdorff95,
    hausdorff_distance,
    mask_edges,
    normalized_surface_dice,
    surface_distances,
)


def square(size: int = 20, start: int = 5, stop: int = 10) -> np.ndarray:
    mask = np.zeros((size, size), dtype=bool)
    mask[start:stop, start:stop] = True
    return mask


def point(*position: int, size: tuple[int, ...] = (60, 60)) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    mask[position] = True
    return mask


def agrees_with_medpy(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> None:
    """Both with the compiled kernel, where there is one, and without it."""
    expected = [metric(prediction, truth, spacing) for metric in (medpy.hd95, medpy.hd, medpy.asd, medpy.assd)]
    for distances in (
        surface_distances(prediction, truth, spacing),
        surface._by_numpy(prediction, truth, spacing, ignored=None, inside_is_zero=False),
    ):
        found = [
            metric(distances)
            for metric in (
                hausdorff95,
                hausdorff_distance,
                average_surface_distance,
                average_symmetric_surface_distance,
            )
        ]
        assert found == pytest.approx(expected, abs=1e-9, rel=1e-12)


def test_a_square_shifted_by_two_pixels_is_two_spacings_away() -> None:
    distances = surface_distances(np.roll(square(), 2, axis=0), square(), (0.5, 1.0))
    assert hausdorff95(distances) == pytest.approx(1.0)


def test_two_points_thirty_by_forty_apart_are_fifty_away() -> None:
    distances = surface_distances(point(0, 0), point(30, 40), (1.0, 1.0))
    assert (
        hausdorff95(distances) == hausdorff_distance(distances) == average_symmetric_surface_distance(distances) == 50.0
    )


def test_two_voxels_use_the_spacing_of_every_axis() -> None:
    size = (5, 5, 5)
    distances = surface_distances(point(0, 0, 0, size=size), point(1, 2, 2, size=size), (2.0, 0.5, 1.0))
    assert hausdorff_distance(distances) == pytest.approx(3.0)  # sqrt(2^2 + 1^2 + 2^2)


def test_the_edges_of_a_full_image_are_its_frame() -> None:
    assert mask_edges(np.ones((4, 5), dtype=bool)).sum() == 4 * 5 - 2 * 3


def test_a_missing_diagonal_neighbour_makes_no_edge() -> None:
    mask = np.ones((3, 3), dtype=bool)
    mask[0, 0] = False
    assert not mask_edges(mask)[1, 1]


def test_a_small_island_changes_max_hd95_but_not_pooled_hd95() -> None:
    """Pooled ignores an island below 5 % of all border pixels; the directed maximum is ruled by it."""
    truth = np.zeros((300, 300), dtype=bool)
    truth[10:60, 10:60] = True  # 196 border pixels
    prediction = truth.copy()
    prediction[200:212, 250] = True  # 12 border pixels: 5.8 % of the prediction's 208, 3 % of all 404
    distances = surface_distances(prediction, truth, (1.0, 1.0))
    assert hausdorff95(distances, "pooled") == 0.0
    assert hausdorff95(distances, "max") > 200


def test_max_hd95_is_the_larger_directed_percentile() -> None:
    distances = SurfaceDistances(np.array([1.0, 1.0]), np.array([4.0, 4.0]))
    assert hausdorff95(distances, "max") == 4.0


def test_the_average_distance_goes_from_the_prediction_to_the_truth() -> None:
    line = np.zeros((9, 9), dtype=bool)
    line[4, :5] = True
    distances = surface_distances(point(4, 0, size=(9, 9)), line, (1.0, 1.0))
    assert average_surface_distance(distances) == 0.0
    assert average_symmetric_surface_distance(distances) == pytest.approx((0 + 0 + 1 + 2 + 3 + 4) / 6)


def test_surface_dice_counts_border_pixels_within_the_tolerance_inclusively() -> None:
    distances = SurfaceDistances(np.array([0.0, 3 * 0.1]), np.array([0.3, 0.4]))
    assert normalized_surface_dice(distances, 0.3) == pytest.approx(3 / 4)


def test_a_hole_has_edges_unless_distances_are_to_the_mask() -> None:
    full = square(40, 5, 35)
    holed = full.copy()
    holed[18:22, 18:22] = False
    assert hausdorff_distance(surface_distances(holed, full, (1.0, 1.0))) > 10
    assert hausdorff_distance(surface_distances(holed, full, (1.0, 1.0), inside_is_zero=True)) <= 2


def test_edge_pixels_beside_ignored_ones_are_left_out() -> None:
    truth, ignored = square(20, 5, 15), np.zeros((20, 20), dtype=bool)
    prediction = truth.copy()
    ignored[:, 10:] = True
    prediction[:, 9:] = False
    distances = surface_distances(prediction & ~ignored, truth & ~ignored, (1.0, 1.0), ignored=ignored)
    # The truth really ends somewhere in what is ignored: its column 9 touches it and asks nothing of the prediction,
    # but the prediction's column 8 may still be measured to it.
    assert distances.backward.max() == 0.0
    assert distances.forward.max() == 1.0


def test_an_ignored_pixel_outside_the_bounding_box_counts_too() -> None:
    truth, ignored = square(20, 5, 10), np.zeros((20, 20), dtype=bool)
    ignored[4, 5:10] = True
    distances = surface_distances(truth, truth, (1.0, 1.0), ignored=ignored)
    assert distances.forward.size == 16 - 5


def test_an_empty_mask_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        surface_distances(np.zeros((3, 3), dtype=bool), square(3, 0, 2), (1.0, 1.0))


@pytest.mark.parametrize(
    "name", ["ring", "comb", "checkers", "edge", "full", "islands", "far", "pixel", "corner", "pinhole", "ties"]
)
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.5, 0.3)])
def test_awkward_masks_agree_with_medpy(name: str, spacing: tuple[float, float]) -> None:
    agrees_with_medpy(_awkward(name), square(40, 12, 25), spacing)
    agrees_with_medpy(square(40, 12, 25), _awkward(name), spacing)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.8, 0.8)])
@pytest.mark.parametrize("name", ["shell", "face", "voxel", "full", "columns"])
def test_awkward_volumes_agree_with_medpy(name: str, spacing: tuple[float, float, float]) -> None:
    planes, rows, columns = np.indices((12, 14, 16))
    radius = np.sqrt((planes - 6) ** 2 + (rows - 7) ** 2 + (columns - 8) ** 2)
    volumes = {
        "shell": (radius < 6) & (radius > 3),
        "face": (planes == 0) | (columns == 15),
        "voxel": radius == 0,
        "full": radius >= 0,
        "columns": (rows % 3 == 0) & (columns % 4 == 0),
    }
    ball = radius < 4.5
    agrees_with_medpy(volumes[name], ball, spacing)
    agrees_with_medpy(ball, volumes[name], spacing)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_random_masks_agree_with_medpy(data: st.DataObject) -> None:
    shape = data.draw(array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=9))
    masks = [data.draw(arrays(np.bool_, shape)) for _ in range(2)]
    assume(all(mask.any() for mask in masks))
    spacing = tuple(data.draw(st.sampled_from([1.0, 0.3, 0.8, 2.5])) for _ in shape)
    agrees_with_medpy(*masks, spacing)


@pytest.mark.parametrize("seed", range(2))
def test_hundreds_of_random_blobs_agree_with_medpy(seed: int) -> None:
    generator = np.random.default_rng(seed)
    for _ in range(250):
        dimensions = int(generator.integers(1, 4))
        shape = tuple(generator.integers(1, 20 if dimensions < 3 else 12, dimensions))
        masks = [generator.random(shape) < generator.choice([0.02, 0.3, 0.9]) for _ in range(2)]
        if all(mask.any() for mask in masks):
            agrees_with_medpy(*masks, tuple(generator.choice([1.0, 0.5, 2.5, 0.8], dimensions)))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel, compiled from its source: an installed one may be missing or of another version."""
    path = tmp_path_factory.mktemp("kernel") / "bitwalk.so"
    if not build_kernel.compile_kernel(Path(compiled.__file__).with_name("bitwalk.c"), path):
        pytest.skip("no C compiler")
    return path


@pytest.fixture
def kernel(library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Measure with the kernel."""
    monkeypatch.delenv("GUIDINO_KERNEL", raising=False)
    monkeypatch.setattr(compiled, "_LIBRARY", library)
    compiled.load_kernel.cache_clear()
    assert compiled.load_kernel() is not None
    yield
    compiled.load_kernel.cache_clear()


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("shape", [(70, 150), (12, 40, 90)])
@pytest.mark.parametrize("inside_is_zero", [False, True])
def test_the_kernel_and_the_tree_find_the_same_distances(shape: tuple[int, ...], inside_is_zero: bool) -> None:
    generator, spacing = np.random.default_rng(1), (2.5, 0.8, 0.8)[-len(shape) :]
    for share in (0.001, 0.02, 0.5, 0.98):
        masks = [generator.random(shape) < share for _ in range(2)]
        by_kernel = surface_distances(*masks, spacing, inside_is_zero=inside_is_zero)
        by_numpy = surface._by_numpy(*masks, spacing, ignored=None, inside_is_zero=inside_is_zero)
        for name in ("forward", "backward"):
            ours, theirs = np.sort(getattr(by_kernel, name)), np.sort(getattr(by_numpy, name))
            np.testing.assert_allclose(ours, theirs, rtol=1e-13)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("shape", [(50, 140), (9, 30, 70)])
def test_the_kernel_leaves_out_the_same_ignored_edge_pixels(shape: tuple[int, ...]) -> None:
    generator, spacing = np.random.default_rng(2), (2.5, 0.8, 0.8)[-len(shape) :]
    for share in (0.02, 0.3, 0.9):
        ignored = generator.random(shape) < 0.05
        masks = [(generator.random(shape) < share) & ~ignored for _ in range(2)]
        masks = [mask & (np.indices(shape)[-1] < 40) for mask in masks]  # Ignored pixels outside the box count too.
        by_kernel = surface_distances(*masks, spacing, ignored=ignored)
        by_numpy = surface._by_numpy(*masks, spacing, ignored=ignored, inside_is_zero=False)
        for name in ("forward", "backward"):
            ours, theirs = np.sort(getattr(by_kernel, name)), np.sort(getattr(by_numpy, name))
            np.testing.assert_allclose(ours, theirs, rtol=1e-13)


@pytest.mark.usefixtures("kernel")
def test_more_edge_pixels_than_the_first_buffer_holds_are_all_measured() -> None:
    lines = np.zeros((400, 400), dtype=bool)
    lines[::2] = True
    distances = surface_distances(lines, np.roll(lines, 1, axis=0), (1.0, 1.0))
    assert distances.forward.size == 200 * 400 > compiled._CAPACITY
    assert (distances.forward == 1.0).all()


@pytest.mark.usefixtures("kernel")
def test_far_islands_are_measured_by_the_tree() -> None:
    truth, prediction = np.zeros((2, 40, 90, 90), dtype=bool)
    truth[0, 0, 0], prediction[39, 89, 89] = True, True
    found = compiled.surface_distances(prediction, truth, (1.0, 1.0, 1.0), inside_is_zero=False)
    assert found is not None
    assert [len(array) for array in found] == [0, 0, 1, 1]
    assert hausdorff_distance(surface_distances(prediction, truth, (1.0, 1.0, 1.0))) == pytest.approx(
        (39**2 + 2 * 89**2) ** 0.5
    )


@pytest.mark.parametrize("reason", ["no library", "switched off"])
def test_hd95_without_the_kernel_is_the_same(
    kernel: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reason: str
) -> None:
    """Two rows of 0.5 mm, which both the kernel and the tree must find."""
    masks = (np.roll(square(), 2, axis=0), square())
    found = compiled.surface_distances(*masks, (0.5, 1.0))
    assert found is not None
    assert hausdorff95(surface_distances(*masks, (0.5, 1.0))) == 1.0
    if reason == "no library":
        monkeypatch.setattr(compiled, "_LIBRARY", tmp_path / "none.so")
    else:
        monkeypatch.setenv("GUIDINO_KERNEL", "off")
    compiled.load_kernel.cache_clear()
    try:
        assert compiled.load_kernel() is None
        assert compiled.surface_distances(*masks, (0.5, 1.0)) is None
        assert hausdorff95(surface_distances(*masks, (0.5, 1.0))) == 1.0
    finally:
        compiled.load_kernel.cache_clear()


def test_the_percentile_equals_numpys_bitwise() -> None:
    generator = np.random.default_rng(0)
    for size in range(1, 80):
        values = generator.random(size)
        assert surface._percentile(values, 95.0) == np.percentile(values, 95.0)


def test_the_edges_are_the_mask_minus_its_erosion() -> None:
    mask = np.random.default_rng(0).random((13, 7, 9)) < 0.8
    np.testing.assert_array_equal(mask_edges(mask), mask & ~binary_erosion(mask))


def _awkward(name: str) -> np.ndarray:
    mask = np.zeros((40, 40), dtype=bool)
    rows, columns = np.indices(mask.shape)
    radius = np.hypot(rows - 20, columns - 20)
    shapes = {
        "ring": (radius < 15) & (radius > 10),
        "comb": rows % 2 == 0,
        "checkers": (rows + columns) % 2 == 0,
        "edge": (rows == 0) | (columns == 39),
        "full": np.ones_like(mask),
        "islands": ((rows % 9) < 2) & ((columns % 7) < 3),
        "far": (rows > 37) & (columns > 37),
        "pixel": (rows == 18) & (columns == 18),
        "corner": (rows == 0) & (columns == 0),
        "pinhole": (np.maximum(abs(rows - 18), abs(columns - 18)) < 8) & (radius > 2.3),
        "ties": (rows + columns) % 9 == 0,
    }
    return shapes[name]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("scale", [1 / 64, 64.0])
@pytest.mark.parametrize("shape", [(60, 90), (9, 30, 40)])
def test_distances_grow_with_the_spacing(scale: float, shape: tuple[int, ...]) -> None:
    """Powers of two change no digit."""
    generator = np.random.default_rng(3)
    spacing = (2.0, 0.75, 0.5)[-len(shape) :]
    for share in (0.001, 0.01, 0.3):
        masks = [generator.random(shape) < share for _ in range(2)]
        plain = surface_distances(*masks, spacing)
        scaled = surface_distances(*masks, tuple(scale * step for step in spacing))
        for name in ("forward", "backward"):
            np.testing.assert_array_equal(np.sort(getattr(scaled, name)), scale * np.sort(getattr(plain, name)))


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("scale", [1.0, 1 / 64])
def test_every_close_distance_is_found_in_its_order(scale: float) -> None:
    """Nine points in a row, each with one target nearby; the last one's is 4 to the right, though a diagonal one, at
    sqrt(18), is nearer along each axis."""
    prediction, truth = np.zeros((2, 4, 70), dtype=bool)
    steps = [(0, 1), (1, 1), (2, 0), (1, 2), (2, 2), (3, 0), (3, 1), (3, 2), (0, 4)]
    for index, (down, across) in enumerate(steps):
        prediction[0, 3 + 7 * index] = truth[down, 3 + 7 * index + across] = True
    truth[3, 3 + 7 * 8 + 3] = True
    forward = surface_distances(prediction, truth, (scale, scale)).forward
    expected = [scale * np.hypot(down, across) for down, across in steps]
    np.testing.assert_allclose(np.sort(forward), np.sort(expected), rtol=1e-15)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((90, 110), (3.0, 0.5)), ((90, 110), (0.5, 3.0)), ((14, 40, 50), (5.0, 0.7, 1.0))]
)
def test_sparse_masks_agree_with_medpy_without_the_kernel(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    """Pixels are as long as several others are wide, and the nearest one is often farther than the rings reach."""
    monkeypatch.setenv("GUIDINO_KERNEL", "off")
    compiled.load_kernel.cache_clear()
    try:
        generator = np.random.default_rng(4)
        for share in (0.0005, 0.002, 0.01, 0.05):
            masks = [generator.random(shape) < share for _ in range(2)]
            agrees_with_medpy(*masks, spacing)
    finally:
        compiled.load_kernel.cache_clear()
