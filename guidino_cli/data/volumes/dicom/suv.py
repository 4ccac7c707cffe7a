"""Standardised uptake values of PET: activity per gram over the injected activity per gram of the patient.

After the vendor-neutral rule of the Quantitative Imaging Biomarkers Alliance (QIBA) for body weight.
"""

import math
from datetime import datetime, timedelta
from typing import Any

from guidino_cli.data.volumes.dicom.datasets import dicom_errors, load_dataset
from guidino_cli.data.volumes.dicom.series import Series
from guidino_cli.errors import DataError

_LEAST_DOSE_BQ = 1e5
"""Nobody is injected less; such numbers are megabecquerel in the wrong field."""


def suv_factor(series: Series) -> float:
    """Factor from Bq/ml to body-weight SUV in g/ml.

    The injected dose decays until the moment to which the images are corrected: with DecayCorrection START the start of
    the scan, with ADMIN the injection.

    Raises:
        DataError: The series is no PET in Bq/ml, is not corrected for decay and attenuation, or a value is missing.
        DependencyError: pydicom is not installed.
    """
    where = f"series {series.key} in {series.folder}"
    path = series.files[0]
    dataset = load_dataset(path, pixels=False)
    with dicom_errors(path):
        if series.modality != "PT":
            raise DataError(f"{where}: SUV needs PET, it is {series.modality or 'of unknown modality'}")
        _require_corrected(dataset, where)
        dose = _read_dose(dataset, where)
        weight_kg = _positive(dataset, "PatientWeight", where)
        correction = str(dataset.get("DecayCorrection") or "").strip()
        if correction == "START":
            started = _scan_start(series, dataset, where)
            dose *= _decay(dataset, started, where)
        elif correction != "ADMIN":
            raise DataError(f"{where}: DecayCorrection is {correction or 'missing'}, SUV needs START or ADMIN")
        return weight_kg * 1000 / dose


def _require_corrected(dataset: Any, where: str) -> None:
    units = str(dataset.get("Units") or "").strip()
    if units != "BQML":
        raise DataError(f"{where}: Units is {units or 'missing'}, SUV needs BQML (Bq/ml)")
    corrected = dataset.get("CorrectedImage") or []
    done = {corrected} if isinstance(corrected, str) else set(map(str, corrected))
    missing = sorted({"ATTN", "DECY"} - done)
    if missing:
        raise DataError(f"{where}: CorrectedImage lacks {' and '.join(missing)}, SUV needs both ATTN and DECY")


def _radiopharmaceutical(dataset: Any, where: str) -> Any:
    items = dataset.get("RadiopharmaceuticalInformationSequence")
    if not items:
        raise DataError(f"{where}: RadiopharmaceuticalInformationSequence is missing, SUV needs dose and half-life")
    return items[0]


def _read_dose(dataset: Any, where: str) -> float:
    dose = _positive(_radiopharmaceutical(dataset, where), "RadionuclideTotalDose", where)
    if dose < _LEAST_DOSE_BQ:
        raise DataError(f"{where}: RadionuclideTotalDose is {dose:g} Bq, which is too little; is it in MBq? Correct it")
    return dose


def _decay(dataset: Any, started: datetime, where: str) -> float:
    """Share of the injected dose that is left when the scan starts."""
    item = _radiopharmaceutical(dataset, where)
    half_life = _positive(item, "RadionuclideHalfLife", where)
    injected = _moment(item, "RadiopharmaceuticalStartDateTime")
    if injected is None:
        clock = str(item.get("RadiopharmaceuticalStartTime") or "")
        injected = _join(f"{started:%Y%m%d}", clock)
        if injected is None:
            raise DataError(f"{where}: RadiopharmaceuticalStartTime is missing, SUV needs the time of the injection")
        if injected > started:
            # Only the time of day is stated: the injection was before midnight.
            injected -= timedelta(days=1)
    seconds = (started - injected).total_seconds()
    if not 0 <= seconds <= 10 * half_life:
        raise DataError(
            f"{where}: the scan starts {seconds / 60:.0f} minutes after the injection by its header, with a half-life "
            f"of {half_life / 60:.0f}; correct the times"
        )
    return math.exp(-math.log(2) * seconds / half_life)


def _scan_start(series: Series, dataset: Any, where: str) -> datetime:
    """Start of the scan: the series' time, unless that is later than the first slice, as of series made afterwards.

    Of those, GE states the start in an element of its own; for others, the first slice has it.
    """
    stated = _join(str(dataset.get("SeriesDate") or ""), str(dataset.get("SeriesTime") or ""))
    slices = []
    for path in series.files:
        header = load_dataset(path, pixels=False)
        day = str(header.get("AcquisitionDate") or header.get("SeriesDate") or "")
        slices.append(_join(day, str(header.get("AcquisitionTime") or "")))
    known = [moment for moment in slices if moment is not None]
    if len(known) < len(slices):
        raise DataError(f"{where}: AcquisitionTime is missing, SUV needs the start of the scan")
    first = min(known)
    if stated is not None and stated <= first:
        return stated
    try:
        of_ge = _moment({"": dataset.private_block(0x0009, "GEMS_PETD_01")[0x0D].value}, "")
    except KeyError:
        return first
    return of_ge or first


def _moment(item: Any, keyword: str) -> datetime | None:
    text = str(item.get(keyword) or "")
    return _join(text[:8], text[8:])


def _join(day: str, clock: str) -> datetime | None:
    """A DICOM date and time; None if either is missing or none. Zones are left out: all times are of one scanner."""
    clock = clock.strip().replace(":", "").split("+")[0].split("-")[0]
    whole, _, fraction = clock.partition(".")
    try:
        moment = datetime.strptime(f"{day.strip()} {whole.ljust(6, '0')}", "%Y%m%d %H%M%S")
    except ValueError:
        return None
    return moment + timedelta(seconds=float(f"0.{fraction}") if fraction.isdigit() else 0.0) if whole else None


def _positive(item: Any, keyword: str, where: str) -> float:
    value = item.get(keyword)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise DataError(f"{where}: {keyword} is {'missing' if value in (None, '') else value}, SUV needs it")
    return number
