"""DICOM SEG files in and out: binary, fractional and label maps, gaps, overlaps, and the round trip of labels."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import make_segmentation, plane

from guidino_cli.data.volumes.dicom.segment_writing import write_segmentation
from guidino_cli.data.volumes.dicom.segments import _require_segmentation, read_segment_names, read_segmentation
from guidino_cli.data.volumes.dicom.series import Series, choose_series
from guidino_cli.data.volumes.grid import Grid
from guidino_cli.data.volumes.reading import read_source, read_volume_labels
from guidino_cli.errors import DataError
from guidino_cli.types import Geometry, VolumeSource

Write = Callable[..., Path]
CLASSES = ["background", "liver", "tumour"]


def test_labels_lie_in_the_order_column_row_slice_with_an_ras_affine(tmp_path: Path) -> None:
    found = read_segmentation(make_segmentation(tmp_path / "a.dcm", [(1, 0.0, plane(0, 3)), (2, 2.0, plane(2, 0))]))
    assert found.labels.shape == found.geometry.shape == (6, 4, 2)
    assert found.labels[3:5, 0:2, 0].tolist() == [[1, 1], [1, 1]]
    assert found.labels[0:2, 2:4, 1].tolist() == [[2, 2], [2, 2]]
    assert np.count_nonzero(found.labels) == 8
    expected = [[-0.5, 0, 0, 10], [0, -0.75, 0, 20], [0, 0, 2, 0], [0, 0, 0, 1]]
    assert found.geometry.affine == pytest.approx(np.array(expected))
    assert found.names == read_segment_names(tmp_path / "a.dcm") == {1: "liver", 2: "tumour"}


def test_frames_that_are_missing_are_empty_slices(tmp_path: Path) -> None:
    path = make_segmentation(tmp_path / "a.dcm", [(1, 8.0, plane(0, 0)), (1, 0.0, plane(0, 0))])
    found = read_segmentation(path)
    assert found.labels.any(axis=(0, 1)).tolist() == [True, False, False, False, True]
    assert found.geometry.spacing == pytest.approx((0.5, 0.75, 2.0))


def test_without_a_stated_distance_the_smallest_one_counts(tmp_path: Path) -> None:
    frames = [(1, z, plane(0, 0)) for z in (0.0, 3.0, 9.0)]
    found = read_segmentation(make_segmentation(tmp_path / "a.dcm", frames, distance=None))
    assert found.labels.any(axis=(0, 1)).tolist() == [True, True, False, True]


def test_positions_that_are_no_multiples_of_a_distance_are_refused(tmp_path: Path) -> None:
    frames = [(1, z, plane(0, 0)) for z in (0.0, 2.0, 5.1)]
    with pytest.raises(DataError, match=r"2\.00 to 3\.10 mm, are no multiples of one"):
        read_segmentation(make_segmentation(tmp_path / "a.dcm", frames))


def test_a_single_slice_takes_the_stated_distance(tmp_path: Path) -> None:
    found = read_segmentation(make_segmentation(tmp_path / "a.dcm", [(1, 4.0, plane(0, 0))]))
    assert found.labels.shape == (6, 4, 1)
    assert found.geometry.spacing[2] == 2.0


def test_half_of_the_largest_value_is_inside_a_fractional_segment(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6), dtype=np.uint8)
    pixels[0, :3] = 99, 100, 200
    found = read_segmentation(make_segmentation(tmp_path / "a.dcm", [(1, 0.0, pixels)], kind="FRACTIONAL"))
    assert found.labels[:3, 0, 0].tolist() == [0, 1, 1]


def test_pixels_of_a_label_map_are_numbers_of_segments(tmp_path: Path) -> None:
    pixels = plane(0, 0, value=7) + plane(2, 2, value=3)
    names = {0: "Background", 3: "liver", 7: "tumour"}
    path = make_segmentation(tmp_path / "a.dcm", [(0, 0.0, pixels), (0, 4.0, pixels)], kind="LABELMAP", names=names)
    found = read_segmentation(path)
    assert found.names == {3: "liver", 7: "tumour"}
    assert np.array_equal(found.labels[..., 0], pixels.T)
    assert not found.labels[..., 1].any()


def test_the_padding_of_a_label_map_is_background(tmp_path: Path) -> None:
    pixels = np.where(plane(0, 0) == 1, 1, 5)
    path = make_segmentation(
        tmp_path / "a.dcm", [(0, 0.0, pixels)], kind="LABELMAP", names={1: "liver"}, PixelPaddingValue=5
    )
    assert np.array_equal(read_segmentation(path).labels[..., 0], plane(0, 0).T)


def test_overlapping_segments_are_refused_unless_one_is_named(tmp_path: Path) -> None:
    path = make_segmentation(tmp_path / "a.dcm", [(1, 0.0, plane(0, 0)), (2, 0.0, plane(1, 1))])
    with pytest.raises(DataError, match=r"segments 1 \(liver\) and 2 \(tumour\) overlap in 1 voxels"):
        read_segmentation(path)
    for name in ("tumour", "Tumour", "2"):
        assert np.array_equal(read_segmentation(path, segment=name).labels[..., 0], 2 * plane(1, 1).T)
    with pytest.raises(DataError, match="unknown segment 'tumor'; did you mean 'tumour'"):
        read_segmentation(path, segment="tumor")


def test_labels_above_255_need_two_bytes(tmp_path: Path) -> None:
    path = make_segmentation(tmp_path / "a.dcm", [(300, 0.0, plane(0, 0))], names={300: "liver"})
    found = read_segmentation(path)
    assert found.labels.dtype == np.uint16
    assert found.labels.max() == 300


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT"}, "modality CT, expected a segmentation"),
        ({"TotalPixelMatrixRows": 100}, "segments a slide in tiles"),
        ({"SegmentSequence": []}, "describes no segments"),
        ({"NumberOfFrames": 100_000}, "claims 100,000 frames, and describes 1"),
        ({"SegmentationType": "SURFACE"}, "type SURFACE, expected BINARY"),
        ({"PixelData": b""}, "a.dcm: "),
        ({"Rows": 0}, "a.dcm: "),
        ({"Columns": 60_000}, "a.dcm: "),
        ({"SharedFunctionalGroupsSequence": []}, "does not state where in the patient"),
    ],
)
def test_unusable_segmentations_are_refused_by_name(tags: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = make_segmentation(tmp_path / "a.dcm", [(1, 0.0, plane(0, 0))], **tags)
    with pytest.raises(DataError, match=words):
        read_segmentation(path)


def test_a_frame_of_a_segment_that_is_not_described_is_refused(tmp_path: Path) -> None:
    path = make_segmentation(tmp_path / "a.dcm", [(9, 0.0, plane(0, 0))])
    with pytest.raises(DataError, match="belongs to segment 9, which is not described"):
        read_segmentation(path)


def test_a_volume_that_frames_far_apart_would_claim_is_refused(tmp_path: Path) -> None:
    path = make_segmentation(tmp_path / "a.dcm", [(1, 0.0, plane(0, 0)), (1, 2e9, plane(0, 0))])
    with pytest.raises(DataError, match="voxels, more than GUIDINO_MAX_PIXELS"):
        read_segmentation(path)


def test_labels_of_a_volume_cover_its_grid_where_empty_frames_were_left_out(tmp_path: Path) -> None:
    path = make_segmentation(tmp_path / "a.dcm", [(1, 4.0, plane(0, 3))])
    affine = np.array([[-0.5, 0, 0, 10], [0, -0.75, 0, 20], [0, 0, 2, 0], [0, 0, 0, 1.0]])
    geometry = Geometry("image", (6, 4, 5), (0.5, 0.75, 2.0), "mm", affine)
    grid = Grid(geometry, np.array([[0, 1], [1, 1], [2, 1]]), None, VolumeSource(tmp_path))
    labels = read_volume_labels(VolumeSource(path), grid)
    expected = np.zeros((5, 4, 6), dtype=np.uint8)
    expected[2] = plane(0, 3)
    assert np.array_equal(labels, expected)


def test_a_segmentation_of_any_name_is_known_by_its_content(tmp_path: Path) -> None:
    path = make_segmentation(tmp_path / "label.seg", [(1, 0.0, plane(0, 3))])
    assert read_source(VolumeSource(path)).values.shape == (6, 4, 1)


def test_labels_between_the_slices_of_a_volume_are_refused(tmp_path: Path) -> None:
    path = make_segmentation(tmp_path / "a.dcm", [(1, 3.0, plane(0, 3))])
    affine = np.array([[-0.5, 0, 0, 10], [0, -0.75, 0, 20], [0, 0, 2, 0], [0, 0, 0, 1.0]])
    geometry = Geometry("image", (6, 4, 5), (0.5, 0.75, 2.0), "mm", affine)
    grid = Grid(geometry, np.array([[0, 1], [1, 1], [2, 1]]), None, VolumeSource(tmp_path))
    with pytest.raises(DataError, match="another grid"):
        read_volume_labels(VolumeSource(path), grid)


# Writing


@pytest.fixture
def series(write_series: Write) -> Series:
    """Twenty slices of 4 x 6 pixels."""
    return choose_series(write_series([2.0 * number for number in range(20)]), None)


def draw_labels(series: Series) -> np.ndarray:
    """Two segments whose shape and place differ from slice to slice; the first and last slices are empty."""
    labels = np.zeros(series.size, dtype=np.uint8)
    rng = np.random.default_rng(0)
    labels[..., 2:18] = rng.integers(0, 3, (*series.size[:2], 16))
    labels[..., 9] = 0
    return labels


def in_grid(series: Series, path: Path) -> np.ndarray:
    """Labels of a SEG in the axes of its series."""
    affine = series.affine_ras
    geometry = Geometry("series", series.size, (0.5, 0.75, 2.0), "mm", affine)
    grid = Grid(geometry, np.array([[0, 1], [1, 1], [2, 1]]), None, VolumeSource(path))
    return read_volume_labels(VolumeSource(path), grid).T


def test_labels_come_back_equal(series: Series, tmp_path: Path) -> None:
    labels = draw_labels(series)
    write_segmentation(tmp_path / "out.dcm", labels, series, CLASSES)
    assert np.array_equal(in_grid(series, tmp_path / "out.dcm"), labels)
    assert read_segment_names(tmp_path / "out.dcm") == {1: "liver", 2: "tumour"}


@pytest.mark.parametrize("shape", [(5, 6), (3, 3), (8, 5)])
def test_frames_may_begin_within_a_byte(write_series: Write, tmp_path: Path, shape: tuple[int, int]) -> None:
    folder = write_series([2.0 * number for number in range(5)], pixels=np.zeros(shape, np.int16))
    series = choose_series(folder, None)
    labels = np.random.default_rng(0).integers(0, 3, series.size).astype(np.uint8)
    write_segmentation(tmp_path / "out.dcm", labels, series, CLASSES)
    assert np.array_equal(in_grid(series, tmp_path / "out.dcm"), labels)


def test_highdicom_reads_the_same_voxels_at_the_same_places(series: Series, tmp_path: Path) -> None:
    import highdicom

    labels = draw_labels(series)
    write_segmentation(tmp_path / "out.dcm", labels, series, CLASSES)
    volume = highdicom.seg.segread(tmp_path / "out.dcm").get_volume(combine_segments=True)
    found = np.zeros_like(labels)
    to_series = np.linalg.inv(np.diag([-1, -1, 1, 1]) @ series.affine_ras) @ volume.affine
    for index in np.argwhere(volume.array):
        found[tuple(np.rint(to_series @ [*index, 1])[:3].astype(int))] = volume.array[tuple(index)]
    assert np.array_equal(found, labels)


def test_the_order_of_files_does_not_change_the_content(series: Series, write_series: Write, tmp_path: Path) -> None:
    import pydicom

    labels = draw_labels(series)
    write_segmentation(tmp_path / "one.dcm", labels, series, CLASSES)
    files = list(series.files)
    random.Random(0).shuffle(files)
    for number, path in enumerate(files):
        path.rename(path.with_name(f"shuffled_{number:02d}.dcm"))
    again = choose_series(series.folder, None)
    write_segmentation(tmp_path / "two.dcm", labels, again, CLASSES)
    one, two = (pydicom.dcmread(tmp_path / name) for name in ("one.dcm", "two.dcm"))
    for dataset in (one, two):
        for name in ("ContentTime", "SeriesTime", "InstanceCreationTime", "ContentDate", "SeriesDate"):
            if name in dataset:
                delattr(dataset, name)
        del dataset.InstanceCreationDate
        del dataset.ContributingEquipmentSequence[0].ContributionDateTime
        del dataset.DimensionOrganizationSequence
        for item in dataset.DimensionIndexSequence:
            del item.DimensionOrganizationUID
    assert one == two


def test_each_frame_refers_to_the_slice_that_it_lies_on(series: Series, tmp_path: Path) -> None:
    import pydicom

    write_segmentation(tmp_path / "out.dcm", draw_labels(series), series, CLASSES)
    places = {frame.instance[0]: frame.position for frame in series.frames}
    dataset = pydicom.dcmread(tmp_path / "out.dcm")
    for group in dataset.PerFrameFunctionalGroupsSequence:
        source = group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert tuple(group.PlanePositionSequence[0].ImagePositionPatient) == places[source]
    assert dataset.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.3.2"
    assert read_segmentation(tmp_path / "out.dcm").series_uid == "1.2.3.2"


def test_an_empty_prediction_has_all_its_frames_and_no_voxel(series: Series, tmp_path: Path) -> None:
    labels = np.zeros(series.size, dtype=np.uint8)
    write_segmentation(tmp_path / "out.dcm", labels, series, CLASSES)
    found = read_segmentation(tmp_path / "out.dcm")
    assert found.labels.shape == series.size
    assert not found.labels.any()
    assert found.names == {1: "liver", 2: "tumour"}


def test_a_class_that_does_not_occur_is_described_all_the_same(series: Series, tmp_path: Path) -> None:
    labels = (draw_labels(series) == 2) * np.uint8(2)
    write_segmentation(tmp_path / "out.dcm", labels, series, CLASSES)
    assert np.array_equal(in_grid(series, tmp_path / "out.dcm"), labels)


def test_a_missing_class_of_image_is_filled_from_the_modality(write_series: Write, tmp_path: Path) -> None:
    import pydicom

    series = choose_series(write_series(SOPClassUID="", Modality="MR"), None)
    labels = np.ones(series.size, dtype=np.uint8)
    write_segmentation(tmp_path / "out.dcm", labels, series, CLASSES)
    reference = pydicom.dcmread(tmp_path / "out.dcm").ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert reference.ReferencedSOPClassUID == "1.2.840.10008.5.1.4.1.1.4"


def test_a_missing_class_of_image_of_another_modality_is_refused(write_series: Write, tmp_path: Path) -> None:
    series = choose_series(write_series(SOPClassUID="", Modality="NM"), None)
    with pytest.raises(DataError, match="has no SOPClassUID, which is not known for modality NM"):
        write_segmentation(tmp_path / "out.dcm", np.zeros(series.size, dtype=np.uint8), series, CLASSES)
    assert not (tmp_path / "out.dcm").exists()


def test_removed_uids_are_replaced_with_a_warning(
    write_series: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr("guidino_cli.data.volumes.dicom.segment_writing.log_warning", warnings.append)
    removed = {"SeriesInstanceUID": "", "StudyInstanceUID": "", "SOPInstanceUID": ""}
    series = choose_series(write_series(**removed), None)
    labels = np.ones(series.size, dtype=np.uint8)
    write_segmentation(tmp_path / "out.dcm", labels, series, CLASSES)
    assert np.array_equal(in_grid(series, tmp_path / "out.dcm"), labels)
    assert len(warnings) == 1
    assert "have no SOPInstanceUID, SeriesInstanceUID, StudyInstanceUID" in warnings[0]


def test_orientations_that_differ_by_rounding_are_written_as_one(write_slice: Write, tmp_path: Path) -> None:
    for number in range(3):
        write_slice(f"{number}.dcm", z=2.0 * number, ImageOrientationPatient=[1, 0, 0.0002 * number, 0, 1, 0])
    series = choose_series(tmp_path, None)
    labels = np.ones(series.size, dtype=np.uint8)
    write_segmentation(tmp_path / "out" / "out.dcm", labels, series, CLASSES)
    assert np.array_equal(in_grid(series, tmp_path / "out" / "out.dcm"), labels)


def test_frames_of_a_multi_frame_source_may_lie_in_another_order(write_multiframe: Write, tmp_path: Path) -> None:
    write_multiframe(np.zeros((3, 4, 6), dtype=np.int16), [(0, 0, 4), (0, 0, 0), (0, 0, 2)])
    series = choose_series(tmp_path, None)
    labels = np.zeros(series.size, dtype=np.uint8)
    labels[1, 2, 0], labels[3, 1, 1], labels[:2, :2, 2] = 1, 2, 1
    write_segmentation(tmp_path / "out" / "out.dcm", labels, series, CLASSES)
    assert np.array_equal(in_grid(series, tmp_path / "out" / "out.dcm"), labels)


def test_labels_of_another_size_or_class_are_a_mistake_of_the_caller(series: Series, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 classes"):
        write_segmentation(tmp_path / "out.dcm", np.zeros((6, 4, 19), dtype=np.uint8), series, CLASSES)
    with pytest.raises(ValueError, match="up to 3"):
        write_segmentation(tmp_path / "out.dcm", np.full(series.size, 3, dtype=np.uint8), series, CLASSES)


def test_a_damaged_modality_is_refused_in_one_line() -> None:
    with pytest.raises(DataError) as caught:
        _require_segmentation(Path("a.dcm"), {"Modality": "SEG\n\x00\x1cUI"})
    assert str(caught.value) == r"a.dcm: is a DICOM file of modality SEG\n\x00\x1cUI, expected a segmentation (SEG)"
