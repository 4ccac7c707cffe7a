"""Body-weight SUV of PET series: worked out by hand, and refused where something is missing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guidino_cli.data.volumes.dicom.pixels import read_series
from guidino_cli.data.volumes.dicom.series import choose_series
from guidino_cli.data.volumes.dicom.suv import suv_factor
from guidino_cli.data.volumes.reading import read_source
from guidino_cli.errors import DataError
from guidino_cli.types import VolumeSource

Write = Callable[..., Path]
HALF_LIFE_S = 6600.0


def pet(**tags: Any) -> dict[str, Any]:
    """Tags of a PET of a patient of 80 kg, scanned one half-life (110 minutes) after 400 MBq."""
    import pydicom

    dose = pydicom.Dataset()
    dose.RadionuclideTotalDose = 400e6
    dose.RadionuclideHalfLife = HALF_LIFE_S
    dose.RadiopharmaceuticalStartTime = "101000.00"
    values: dict[str, Any] = {
        "Modality": "PT",
        "Units": "BQML",
        "CorrectedImage": ["NORM", "DTIM", "ATTN", "SCAT", "DECY"],
        "DecayCorrection": "START",
        "PatientWeight": 80,
        "SeriesDate": "20240102",
        "SeriesTime": "120000.00",
        "AcquisitionDate": "20240102",
        "AcquisitionTime": "120500.00",
        "RadiopharmaceuticalInformationSequence": [dose],
    }
    return values | tags


def factor(folder: Path) -> float:
    return suv_factor(choose_series(folder, None))


def test_the_dose_decays_until_the_series_starts(write_series: Write) -> None:
    # 400 MBq decay by half: 80,000 g / 200e6 Bq.
    assert factor(write_series(**pet())) == pytest.approx(4e-4)


def test_a_series_that_was_made_later_counts_from_the_first_slice(write_slice: Write, tmp_path: Path) -> None:
    for number, clock in enumerate(("121000", "120000", "120500")):
        write_slice(f"{number}.dcm", z=2.0 * number, **pet(SeriesTime="180000", AcquisitionTime=clock))
    assert factor(tmp_path) == pytest.approx(4e-4)


def test_a_scan_after_midnight_has_the_injection_on_the_day_before(write_series: Write) -> None:
    tags = pet(SeriesTime="000000", AcquisitionTime="000500")
    tags["RadiopharmaceuticalInformationSequence"][0].RadiopharmaceuticalStartTime = "221000"
    assert factor(write_series(**tags)) == pytest.approx(4e-4)


def test_an_injection_with_its_date_counts_from_there(write_series: Write) -> None:
    tags = pet()
    tags["RadiopharmaceuticalInformationSequence"][0].RadiopharmaceuticalStartDateTime = "20240102082000.00"
    # Two half-lives.
    assert factor(write_series(**tags)) == pytest.approx(8e-4)


def test_images_corrected_to_the_injection_need_no_decay(write_series: Write) -> None:
    assert factor(write_series(**pet(DecayCorrection="ADMIN"))) == pytest.approx(2e-4)


def test_values_of_a_series_become_suv(write_series: Write) -> None:
    plane = np.full((4, 6), 10_000, dtype=np.int16)
    volume = read_series(write_series(pixels=plane, RescaleSlope=0.5, **pet()), as_suv=True)
    assert volume.values.dtype == np.float32
    # 5,000 Bq/ml times 4e-4.
    assert volume.values.max() == pytest.approx(2.0)


def test_pet_is_read_as_suv_and_other_series_as_they_are(write_series: Write) -> None:
    plane = np.full((4, 6), 10_000, dtype=np.int16)
    tags = pet()
    assert read_source(VolumeSource(write_series(pixels=plane, RescaleSlope=0.5, **tags))).values.max() == 2.0
    ct = write_series(pixels=plane, RescaleSlope=0.5, **(tags | {"Modality": "CT"}))
    assert read_source(VolumeSource(ct)).values.max() == 5_000


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"Units": "CNTS"}, "Units is CNTS, SUV needs BQML"),
        ({"Units": None}, "Units is missing"),
        ({"Modality": "CT"}, "SUV needs PET, it is CT"),
        ({"CorrectedImage": ["DECY"]}, "CorrectedImage lacks ATTN"),
        ({"CorrectedImage": None}, "CorrectedImage lacks ATTN and DECY"),
        ({"DecayCorrection": "NONE"}, "DecayCorrection is NONE"),
        ({"DecayCorrection": None}, "DecayCorrection is missing"),
        ({"PatientWeight": None}, "PatientWeight is missing"),
        ({"PatientWeight": 0}, "PatientWeight is 0"),
        ({"AcquisitionTime": None}, "AcquisitionTime is missing"),
        ({"RadiopharmaceuticalInformationSequence": None}, "RadiopharmaceuticalInformationSequence is missing"),
    ],
)
def test_what_is_missing_is_named(tags: dict[str, Any], words: str, write_series: Write) -> None:
    folder = write_series(**pet(**tags))
    with pytest.raises(DataError, match=words):
        factor(folder)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("RadionuclideTotalDose", None, "RadionuclideTotalDose is missing"),
        ("RadionuclideTotalDose", 400, "is it in MBq"),
        ("RadionuclideHalfLife", None, "RadionuclideHalfLife is missing"),
        ("RadiopharmaceuticalStartTime", None, "RadiopharmaceuticalStartTime is missing"),
        ("RadiopharmaceuticalStartDateTime", "20240103101000", "starts -1330 minutes after the injection"),
    ],
)
def test_what_is_missing_of_the_injection_is_named(name: str, value: Any, words: str, write_series: Write) -> None:
    tags = pet()
    item = tags["RadiopharmaceuticalInformationSequence"][0]
    if value is None:
        delattr(item, name)
    else:
        setattr(item, name, value)
    folder = write_series(**tags)
    with pytest.raises(DataError, match=words):
        factor(folder)
