"""Values of DICOM series: scale of each slice, kinds of numbers, compression, damage."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from guidino_cli.data.volumes.canonical import find_orientation, turn
from guidino_cli.data.volumes.dicom.pixels import read_series
from guidino_cli.data.volumes.reading import read_volume
from guidino_cli.errors import DataError
from guidino_cli.types import VolumeSource

Write = Callable[..., Path]


def test_values_lie_in_the_order_column_row_slice(write_slice: Write, tmp_path: Path) -> None:
    plane = np.arange(24, dtype=np.int16).reshape(4, 6)
    write_slice("b.dcm", z=0.0, pixels=plane)
    write_slice("a.dcm", z=2.0, pixels=plane + 100)
    values = read_series(tmp_path).values
    assert values.shape == (6, 4, 2)
    # Row 1, column 2 of the lower slice holds 1 * 6 + 2.
    assert values[2, 1, 0] == 8
    assert values[2, 1, 1] == 108


def test_an_axial_series_needs_no_turn_to_canonical_axes(write_slice: Write, tmp_path: Path) -> None:
    plane = np.arange(24, dtype=np.int16).reshape(4, 6)
    for number in range(3):
        write_slice(f"{number}.dcm", z=2.0 * number, pixels=plane + 100 * number)
    volume = read_series(tmp_path)
    turned = turn(volume.values, find_orientation(volume.geometry))
    assert np.array_equal(turned, np.stack([plane, plane + 100, plane + 200]))


def test_a_series_is_read_as_a_channel_of_a_volume(write_series: Write) -> None:
    volume = read_volume([VolumeSource(write_series([0, 2, 4]))])
    assert volume.values.shape == (1, 3, 4, 6)
    assert volume.values[0, :, 0, 0].tolist() == [1, 2, 3]
    assert volume.spacing_mm == pytest.approx((2.0, 0.75, 0.5))
    assert volume.grid.orientation == "LPS"


def test_whole_slopes_and_intercepts_give_integers(write_series: Write) -> None:
    values = read_series(write_series(RescaleSlope=2, RescaleIntercept=-1024)).values
    assert values.dtype == np.int16
    assert values[0, 0].tolist() == [-1022, -1020, -1018]


@pytest.mark.parametrize(
    ("stored", "slope", "intercept", "kind", "value"),
    [
        (np.uint16(65535), 1, 0, np.uint16, 65535),
        (np.uint16(65535), 1, -1024, np.int32, 64511),
        (np.uint16(4095), 1, -1024, np.int16, 3071),
        (np.int16(-32768), 2, 0, np.int32, -65536),
        (np.uint8(255), 1, 0, np.int16, 255),
        (np.int16(3), 0.5, 0, np.float32, 1.5),
        (np.int16(3), 1, 0.25, np.float32, 3.25),
    ],
)
def test_the_type_holds_every_value_without_loss(
    stored: np.generic, slope: float, intercept: float, kind: type, value: float, write_series: Write
) -> None:
    pixels = np.zeros((4, 6), dtype=stored.dtype)
    pixels[0, 0] = stored
    values = read_series(write_series(pixels=pixels, RescaleSlope=slope, RescaleIntercept=intercept)).values
    assert values.dtype == kind
    assert values[0, 0, 0] == value
    assert values[1, 0, 0] == intercept


def test_each_slice_has_its_own_slope_as_in_pet(write_slice: Write, tmp_path: Path) -> None:
    plane = np.full((4, 6), 10, dtype=np.int16)
    for number, slope in enumerate((0.5, 1.5, 2.25)):
        write_slice(f"{number}.dcm", z=2.0 * number, pixels=plane, Modality="PT", RescaleSlope=slope)
    values = read_series(tmp_path).values
    assert values.dtype == np.float32
    assert values[0, 0].tolist() == [5.0, 15.0, 22.5]


def test_unused_high_bits_are_no_part_of_a_number(write_series: Write) -> None:
    # 12 of 16 bits: an overlay in bit 15 of 0x8123 does not count; signed 0x0FFF is -1.
    unsigned = np.full((4, 6), 0x8123, dtype=np.uint16)
    folder = write_series(pixels=unsigned, BitsStored=12, HighBit=11, folder="unsigned")
    assert read_series(folder).values.max() == 0x123
    signed = np.full((4, 6), 0x0FFF, dtype=np.int16)
    folder = write_series(pixels=signed, BitsStored=12, HighBit=11, folder="signed")
    assert read_series(folder).values.max() == -1


def test_white_zero_is_inverted_but_not_for_ct_and_pet(write_series: Write) -> None:
    tags = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    plane = np.full((4, 6), 95, dtype=np.uint16)
    folder = write_series(pixels=plane, Modality="MR", folder="mr", **tags)
    assert read_series(folder).values.max() == 4095 - 95
    assert read_series(write_series(pixels=plane, folder="ct", **tags)).values.max() == 95


def test_frames_of_a_multi_frame_file_are_put_in_order_with_their_slopes(
    write_multiframe: Write, tmp_path: Path
) -> None:
    pixels = np.stack([np.full((4, 6), value, dtype=np.int16) for value in (1, 2, 3)])
    write_multiframe(pixels, [(0, 0, 4), (0, 0, 2), (0, 0, 0)], slopes=(1, 10, 100))
    # Value times slope minus 1, from the feet up.
    assert read_series(tmp_path).values[0, 0].tolist() == [299, 19, 0]


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEG2000Lossless", "DeflatedExplicitVRLittleEndian"])
def test_compressed_slices_are_read_without_loss(syntax: str, write_series: Write) -> None:
    import pydicom

    folder = write_series(pixels=np.arange(24, dtype=np.int16).reshape(4, 6) - 12)
    expected = read_series(folder).values
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        if syntax.startswith("Deflated"):
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        elif syntax == "RLELossless":
            dataset.compress(pydicom.uid.RLELossless)
        else:
            from io import BytesIO

            from PIL import Image

            unsigned = (dataset.pixel_array + 12).astype(np.uint16)
            coded = BytesIO()
            Image.fromarray(unsigned).save(coded, format="JPEG2000", irreversible=False, no_jp2=True)
            dataset.PixelData = pydicom.encaps.encapsulate([coded.getvalue()])
            dataset["PixelData"].VR = "OB"
            dataset.PixelRepresentation, dataset.RescaleIntercept = 0, -12
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
        dataset.save_as(path)
    assert np.array_equal(read_series(folder).values, expected)


def test_damaged_compressed_pixels_name_their_file(write_series: Write) -> None:
    import pydicom

    folder = write_series()
    path = sorted(folder.iterdir())[1]
    dataset = pydicom.dcmread(path)
    dataset.PixelData = pydicom.encaps.encapsulate([b"no picture at all, but some bytes"])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    dataset.save_as(path)
    with pytest.raises(DataError, match=f"{path.name}: cannot be read as DICOM"):
        read_series(folder)


def test_more_voxels_than_allowed_are_refused_before_they_are_decoded(
    write_series: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUIDINO_MAX_PIXELS", "71")
    folder = write_series([0, 2, 4])
    with pytest.raises(DataError, match="claims 6 x 4 x 3 voxels, more than GUIDINO_MAX_PIXELS=71"):
        read_series(folder)


def test_a_file_without_a_preamble_is_read(write_series: Write) -> None:
    import pydicom

    folder = write_series()
    expected = read_series(folder).values
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.file_meta
        dataset.save_as(path, implicit_vr=True, little_endian=True)
    assert np.array_equal(read_series(folder).values, expected)


def test_without_slope_and_intercept_the_stored_numbers_are_the_values(write_series: Write) -> None:
    values = read_series(write_series(Modality="MR", RescaleSlope=None, RescaleIntercept=None)).values
    assert values.dtype == np.int16
    assert values[0, 0].tolist() == [1, 2, 3]
