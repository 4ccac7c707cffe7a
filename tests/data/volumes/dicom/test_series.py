"""Grouping of DICOM files into series, and the reasons why a series is no volume."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from guidino_cli.data.volumes.dicom.series import (
    SERIES_HEADINGS,
    Series,
    choose_series,
    find_series,
    series_row,
)
from guidino_cli.errors import DataError

Write = Callable[..., Path]


def the_series(folder: Path, **options: bool) -> Series:
    found = find_series(folder, **options).series
    assert len(found) == 1
    return found[0]


def problem_of(folder: Path) -> str:
    return the_series(folder).problem or ""


def test_spacing_is_the_distance_of_positions_and_not_the_slice_thickness(write_series: Write) -> None:
    series = the_series(write_series([0.0, 2.0, 4.0]))
    assert series.problem is None
    assert series.size == (6, 4, 3)
    assert series.spacing_mm == pytest.approx((0.5, 0.75, 2.0))


def test_slices_are_ordered_by_position_along_the_normal_and_not_by_name_or_number(write_series: Write) -> None:
    series = the_series(write_series([4.0, -2.0, 0.0, 2.0]))
    assert [frame.position[2] for frame in series.frames if frame.position] == [-2.0, 0.0, 2.0, 4.0]


def test_the_affine_is_ras_with_columns_along_a_row_along_a_column_and_across(write_series: Write) -> None:
    # LPS (-10, -20, 0) is RAS (10, 20, 0); LPS +x and +y point to the left and back, RAS -x and -y.
    expected = [[-0.5, 0, 0, 10], [0, -0.75, 0, 20], [0, 0, 2, 0], [0, 0, 0, 1]]
    assert the_series(write_series([0.0, 2.0, 4.0])).affine_ras == pytest.approx(np.array(expected))


def test_the_affine_of_sagittal_slices(write_slice: Write, tmp_path: Path) -> None:
    # Rows run backwards (+y), columns downwards (-z): the normal is y x -z = -x, to the right.
    for number in range(3):
        write_slice(
            f"{number}.dcm",
            ImageOrientationPatient=[0, 1, 0, 0, 0, -1],
            ImagePositionPatient=[3.0 * number, 5.0, 7.0],
        )
    series = the_series(tmp_path)
    # The first slice is that of x = 6; each next one lies 3 mm to the right, which is RAS +x.
    expected = [[0, 0, 3, -6], [-0.5, 0, 0, -5], [0, -0.75, 0, 7], [0, 0, 0, 1]]
    assert series.affine_ras == pytest.approx(np.array(expected))


def test_keys_are_hashes_that_depend_on_the_uid_alone(write_series: Write, tmp_path: Path) -> None:
    folder = write_series()
    series = the_series(folder)
    assert series.key == hashlib.sha256(b"series\n1.2.3.2").hexdigest()[:12]
    moved = tmp_path / "elsewhere" / "deeper"
    shutil.copytree(folder, moved)
    assert the_series(moved).key == series.key
    assert the_series(tmp_path / "elsewhere").key == series.key


def test_patients_are_grouped_by_a_hash(write_series: Write, tmp_path: Path) -> None:
    write_series(folder="a", SeriesInstanceUID="1.1")
    write_series(folder="b", SeriesInstanceUID="1.2")
    write_series(folder="c", SeriesInstanceUID="1.3", PatientID="P-008")
    patients = [series.patient for series in find_series(tmp_path).series]
    assert patients[0] == patients[1] != patients[2]
    assert "007" not in patients[0]


def test_no_cell_of_a_row_names_the_patient_or_a_uid(write_series: Write) -> None:
    row = series_row(the_series(write_series()))
    assert len(row) == len(SERIES_HEADINGS)
    assert row[1:] == ("CT", "thorax", "6x4x3", "0.5x0.75x2", "3")
    assert not any(secret in " ".join(row) for secret in ("P-007", "Doe", "1.2.3"))


def test_series_in_one_folder_are_told_apart_by_their_uid(write_series: Write) -> None:
    write_series([0, 2, 4], SeriesInstanceUID="1.1")
    folder = write_series([0, 2, 4, 6], folder="series/other", SeriesInstanceUID="1.2").parent
    assert [series.size[2] for series in find_series(folder).series] == [3, 4]


def test_sizes_and_pixel_spacings_split_a_series(write_series: Write, tmp_path: Path) -> None:
    write_series([0, 2, 4], folder="a")
    write_series([0, 2, 4], folder="b", PixelSpacing=[0.8, 0.8])
    write_series([0, 2], folder="c", pixels=np.zeros((5, 6), dtype=np.int16))
    found = find_series(tmp_path).series
    assert {series.title: series.size for series in found} == {
        "thorax, size 6x4, pixel size 0.5x0.75": (6, 4, 3),
        "thorax, size 6x4, pixel size 0.8x0.8": (6, 4, 3),
        "thorax, size 6x5": (6, 5, 2),
    }
    assert len({series.key for series in found}) == 3


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("EchoTime", "echo time"),
        ("DiffusionBValue", "b-value"),
        ("TemporalPositionIdentifier", "time"),
        ("AcquisitionNumber", "acquisition"),
    ],
)
def test_repeated_positions_are_split_by_what_tells_them_apart(
    tag: str, name: str, write_series: Write, tmp_path: Path
) -> None:
    for value in (800, 50):
        write_series([0, 2, 4], folder=str(value), Modality="MR", **{tag: value})
    found = find_series(tmp_path).series
    assert sorted(series.title for series in found) == [f"thorax, {name} 50", f"thorax, {name} 800"]
    assert all(series.problem is None and series.size == (6, 4, 3) for series in found)


def test_a_series_has_the_same_key_when_it_is_read_from_its_folder(write_series: Write, tmp_path: Path) -> None:
    # Volumes of one UID in folders of their own: there, nothing would say that they are split.
    for value in (800, 50):
        write_series([0, 2, 4], folder=f"dwi/{value}", Modality="MR", DiffusionBValue=value)
    write_series([0, 2, 4], folder="other", SeriesInstanceUID="1.9")
    for series in find_series(tmp_path).series:
        assert series.folder.name in ("dwi", "other")
        assert choose_series(series.folder, series.key).frames == series.frames


def test_acquisitions_do_not_split_slices_that_lie_at_different_positions(write_slice: Write, tmp_path: Path) -> None:
    for number in range(4):
        write_slice(f"{number}.dcm", z=2.0 * number, AcquisitionNumber=number)
    assert the_series(tmp_path).split == ()


@pytest.mark.parametrize("value", [b"800 ", ["800"], "800"])
def test_the_b_value_of_siemens_is_found_in_its_private_block(
    value: object, write_series: Write, tmp_path: Path
) -> None:
    import pydicom

    for folder, number in (("a", b"50"), ("b", value)):
        for path in write_series([0, 2, 4], folder=folder, Modality="MR").iterdir():
            dataset = pydicom.dcmread(path)
            block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
            block.add_new(0x0C, "OB" if isinstance(number, bytes) else "IS", number)
            dataset.save_as(path)
    assert sorted(series.split for series in find_series(tmp_path).series) == [
        (("b-value", "50"),),
        (("b-value", "800"),),
    ]


def test_positions_that_nothing_tells_apart_are_refused(write_series: Write, tmp_path: Path) -> None:
    write_series([0, 2, 4], folder="a")
    write_series([0, 2, 4], folder="b")
    assert problem_of(tmp_path).startswith("6 slices lie at 3 positions (2 at each)")


def test_files_that_come_twice_are_named(write_series: Write, tmp_path: Path) -> None:
    folder = write_series([0, 2, 4])
    shutil.copy(next(folder.iterdir()), tmp_path / "series" / "copy.dcm")
    problem = problem_of(folder)
    assert problem.startswith("1 slice comes twice: ")
    assert "copy.dcm" in problem


def test_a_missing_slice_is_named_with_its_distance(write_series: Write) -> None:
    assert problem_of(write_series([0, 3, 6, 12, 15])) == (
        "1 slice is missing: 6.00 mm from slice 3 to 4 of 5, 3.00 mm elsewhere"
    )


def test_of_two_distances_the_larger_one_is_a_gap(write_series: Write) -> None:
    assert problem_of(write_series([0, 2, 6])).startswith("1 slice is missing: 4.00 mm from slice 2 to 3 of 3")


def test_two_missing_slices_in_one_gap_are_counted(write_series: Write) -> None:
    assert problem_of(write_series([0, 3, 6, 15])).startswith("2 slices are missing: 9.00 mm from slice 3 to 4")


def test_uneven_distances_are_listed(write_series: Write) -> None:
    assert problem_of(write_series([0, 1.08, 5.08, 9.08, 16.08])) == (
        "the distances of its slices differ: 1.08, 4.00, 7.00 mm, expected equal ones"
    )


# 1 % of 2 mm is 0.02 mm; of 10 mm it would be 0.1, where 0.05 mm are the limit.
@pytest.mark.parametrize(
    ("heights", "is_regular"),
    [
        ([0, 2, 4.02, 6], True),
        ([0, 2, 4.03, 6], False),
        ([0, 10, 20.05, 30], True),
        ([0, 10, 20.06, 30], False),
    ],
)
def test_distances_may_differ_by_one_per_cent_and_five_hundredths_of_a_millimetre(
    heights: list[float], is_regular: bool, write_series: Write
) -> None:
    assert (problem_of(write_series(heights)) == "") is is_regular


def test_small_differences_that_add_up_are_refused(write_series: Write) -> None:
    # Half of the distances 2.00, half 2.02 mm: the slice in the middle lies 60 * 0.01 = 0.6 mm away from its place.
    heights = np.cumsum([0.0] + [2.0] * 60 + [2.02] * 60)
    assert "drift" in problem_of(write_series(heights.tolist()))


@pytest.mark.parametrize(("degrees", "is_regular"), [(0.4, True), (0.6, False), (18.5, False)])
def test_a_tilt_of_more_than_half_a_degree_is_refused(
    degrees: float, is_regular: bool, write_slice: Write, tmp_path: Path
) -> None:
    for number in range(4):
        y = 2.0 * number * np.tan(np.radians(degrees))
        write_slice(f"{number}.dcm", ImagePositionPatient=[0.0, round(float(y), 6), 2.0 * number])
    problem = problem_of(tmp_path)
    assert (problem == "") is is_regular
    assert is_regular or f"tilted by {degrees:.1f} degrees" in problem


def test_a_slice_that_is_shifted_sideways_is_refused(write_slice: Write, tmp_path: Path) -> None:
    for number in range(4):
        write_slice(f"{number}.dcm", ImagePositionPatient=[0.3 * (number == 1), 0.0, 2.0 * number])
    assert problem_of(tmp_path) == "the slices are shifted sideways by up to 0.30 mm"


def test_several_orientations_are_refused_with_their_numbers_of_slices(write_slice: Write, tmp_path: Path) -> None:
    turns = {"a": [1, 0, 0, 0, 1, 0], "b": [0, 1, 0, 0, 0, -1], "c": [1, 0, 0, 0, 0, -1]}
    for count, (name, turn) in enumerate(turns.items(), start=2):
        for number in range(count):
            write_slice(f"{name}{number}.dcm", z=2.0 * number, ImageOrientationPatient=turn)
    assert problem_of(tmp_path) == (
        "its slices have 3 orientations (2, 3 and 4 slices, as localizers have), expected one"
    )


def test_an_orientation_that_differs_by_rounding_is_the_same(write_slice: Write, tmp_path: Path) -> None:
    for number in range(3):
        write_slice(f"{number}.dcm", z=2.0 * number, ImageOrientationPatient=[1, 0, 0.0005 * number, 0, 1, 0])
    assert problem_of(tmp_path) == ""


def test_one_slice_is_no_volume_unless_allowed(write_slice: Write, tmp_path: Path) -> None:
    write_slice("a.dcm")
    assert problem_of(tmp_path) == "it has 1 slice, expected at least 2"
    single = the_series(tmp_path, allow_single=True)
    assert single.problem is None
    assert single.spacing_mm == (0.5, 0.75, 5.0)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"ImagePositionPatient": None}, "do not state where"),
        ({"PixelSpacing": None}, "do not state the size of a voxel"),
        ({"PixelSpacing": [0, 0.5]}, "do not state the size of a voxel"),
        ({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "not at right angles"),
        ({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "not at right angles"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "colours (PALETTE COLOR)"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "colours (RGB)"),
        ({"BitsStored": 17}, "17 of 16 bits"),
        ({"HighBit": 14}, "highest bit is 14"),
        ({"Rows": 400}, "truncated: its header claims 4,800 bytes of pixels, the file has 48"),
        ({"NumberOfFrames": 10**9}, "1,000,000,000 frames without a position"),
    ],
)
def test_files_that_are_no_slices_are_refused(tags: dict[str, object], words: str, write_series: Write) -> None:
    assert words in problem_of(write_series(**tags))


def test_a_look_up_table_of_intensities_is_refused(write_series: Write) -> None:
    import pydicom

    folder = write_series()
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.ModalityLUTSequence = [pydicom.Dataset()]
        dataset.save_as(path)
    assert "look-up table" in problem_of(folder)


def test_files_with_other_kinds_of_pixels_are_refused(write_series: Write) -> None:
    folder = write_series([0, 2, 4])
    write_series([6, 8], folder="series/unsigned", pixels=np.zeros((4, 6), dtype=np.uint16))
    assert "differ in the kind of their pixels" in problem_of(folder)


def test_a_file_beside_a_series_that_cannot_be_read_may_be_one_of_its_slices(write_series: Write) -> None:
    folder = write_series()
    (folder / "lost.dcm").write_bytes(b"")
    problem = problem_of(folder)
    assert problem.startswith("1 file beside it cannot be read and may be its slices (lost.dcm is empty (0 bytes))")


def test_unreadable_files_elsewhere_do_not_stop_a_series(write_series: Write, tmp_path: Path) -> None:
    write_series()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.dcm").write_text("these are notes, not an image\n" * 20)
    (tmp_path / "readme.txt").write_text("no DICOM")
    found = find_series(tmp_path)
    assert [path.name for path, _ in found.unreadable] == ["notes.dcm"]
    assert found.series[0].problem is None


def test_files_are_found_by_content_and_hidden_ones_are_not(write_slice: Write, tmp_path: Path) -> None:
    for number, name in enumerate(("IM_0001", "IM_0002", "deep/er/IM_0003", ".hidden/IM_0004", "._IM_0005")):
        write_slice(name, z=2.0 * number)
    assert the_series(tmp_path).size[2] == 3


def test_a_transfer_syntax_without_a_decoder_names_the_package(
    write_series: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pydicom
    from pydicom.uid import JPEGLosslessSV1

    folder = write_series()
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PixelData = pydicom.encaps.encapsulate([dataset.PixelData])
        dataset["PixelData"].VR = "OB"
        dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        dataset.save_as(path)
    monkeypatch.setattr(pydicom.pixels.decoders.base.Decoder, "is_available", property(lambda self: False))
    problem = problem_of(folder)
    assert problem.startswith("its pixels are compressed as JPEG Lossless")
    assert problem.endswith("pip install python-gdcm")


def test_series_without_uids_are_grouped_by_folder(write_series: Write, tmp_path: Path) -> None:
    removed = {"SeriesInstanceUID": "", "StudyInstanceUID": "", "SOPInstanceUID": "", "PatientID": ""}
    write_series([0, 2, 4], folder="a", **removed)
    write_series([1, 3, 5, 7], folder="b", **removed)
    found = find_series(tmp_path).series
    assert [series.size[2] for series in found] == [3, 4]
    assert len({series.key for series in found}) == len({series.patient for series in found}) == 2
    assert the_series(tmp_path / "b").key == found[1].key


def test_segmentations_and_other_objects_are_no_series(write_series: Write, write_slice: Write, tmp_path: Path) -> None:
    write_series()
    write_slice("seg.dcm", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG")
    write_slice("report.dcm", Modality="SR", Rows=None, Columns=None, PixelData=None)
    found = find_series(tmp_path)
    assert len(found.series) == 1
    assert [path.name for path in found.segmentations] == ["seg.dcm"]
    assert found.others == (("SR", 1),)


def test_a_dicomdir_is_passed_over(write_series: Write) -> None:
    import pydicom

    folder = write_series()
    directory = pydicom.dcmread(next(folder.iterdir()))
    directory.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    directory.save_as(folder / "DICOMDIR")
    assert problem_of(folder) == ""


def test_a_multi_frame_file_of_one_orientation_is_a_series(write_multiframe: Write, tmp_path: Path) -> None:
    # The frames lie from head to feet: they are turned around.
    pixels = np.arange(3 * 4 * 6, dtype=np.int16).reshape(3, 4, 6)
    write_multiframe(pixels, [(0, 0, 4), (0, 0, 2), (0, 0, 0)])
    series = the_series(tmp_path)
    assert series.problem is None
    assert series.size == (6, 4, 3)
    assert series.spacing_mm == pytest.approx((0.5, 0.75, 2.0))
    assert [frame.index for frame in series.frames] == [2, 1, 0]
    assert len(series.files) == 1


def test_a_multi_frame_file_of_several_orientations_is_refused(write_multiframe: Write, tmp_path: Path) -> None:
    turns = [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1)]
    write_multiframe(np.zeros((3, 4, 6), dtype=np.int16), [(0, 0, 0), (0, 0, 2), (0, 0, 4)], orientations=turns)
    assert "2 orientations (2 and 1 slices)" in problem_of(tmp_path)


def test_a_multi_frame_file_that_describes_fewer_frames_than_it_claims_is_refused(
    write_multiframe: Write, tmp_path: Path
) -> None:
    write_multiframe(np.zeros((3, 4, 6), dtype=np.int16), [(0, 0, 0), (0, 0, 2)])
    assert "claims 3 frames, and describes 2" in problem_of(tmp_path)


def test_choosing_a_series_needs_a_key_where_there_are_several(write_series: Write, tmp_path: Path) -> None:
    write_series(folder="a", SeriesInstanceUID="1.1")
    write_series([0, 2, 8], folder="b", SeriesInstanceUID="1.2")
    first, second = find_series(tmp_path).series
    assert choose_series(tmp_path, first.key).key == first.key
    with pytest.raises(DataError, match=r"holds 2 series \(.*name one of them"):
        choose_series(tmp_path, None)
    with pytest.raises(DataError, match="has no series abc, only"):
        choose_series(tmp_path, "abc")
    with pytest.raises(DataError, match=f"series {second.key} is no volume: 2 slices are missing"):
        choose_series(tmp_path, second.key)


def test_a_folder_without_dicom_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no DICOM images"):
        choose_series(tmp_path, None)
    with pytest.raises(DataError, match="no such folder"):
        find_series(tmp_path / "gone")
