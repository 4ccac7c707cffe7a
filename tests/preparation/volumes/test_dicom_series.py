"""Folders of DICOM series: which series are cases and channels, and which masks are theirs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

pydicom = pytest.importorskip("pydicom")

from guidino_cli.data.volumes.dicom.series import find_series  # noqa: E402
from guidino_cli.errors import DataError  # noqa: E402
from guidino_cli.preparation.options import VolumeConfig  # noqa: E402
from guidino_cli.preparation.types import DiscoveredDataset  # noqa: E402
from guidino_cli.preparation.volumes.dicom_series import detect_dicom  # noqa: E402

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"


def write_series(folder: Path, *, uid: str, patient: str = "P-007", kind: str = "CT", description: str = "") -> Path:
    """Three slices of 4 x 6 pixels, 2 mm apart."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(3):
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CT if kind == "CT" else MR
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = f"{uid}.{number + 1}"
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = uid, f"1.2.{len(patient)}"
        dataset.PatientID, dataset.PatientName, dataset.Modality = patient, "Doe^Jane", kind
        for name in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "StudyID"):
            setattr(dataset, name, "")
        dataset.ReferringPhysicianName, dataset.SeriesNumber, dataset.SliceThickness = "", 1, 2
        dataset.SeriesDescription, dataset.FrameOfReferenceUID = description, "1.2.9"
        dataset.Rows, dataset.Columns, dataset.PixelSpacing = 4, 6, [1, 1]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.ImagePositionPatient = [0, 0, 2 * number]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
        dataset.PixelData = np.full((4, 6), number, dtype=np.int16).tobytes()
        dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder


def write_mask(path: Path) -> Path:
    """A mask on the grid of `write_series`: pixels go to the left and to the back."""
    values = np.zeros((6, 4, 3), dtype=np.uint8)
    values[1:3, 1:3, 1] = 1
    nibabel.Nifti1Image(values, np.diag([-1.0, -1, 2, 1])).to_filename(path)
    return path


def find(root: Path, **options: Any) -> DiscoveredDataset:
    found = detect_dicom(root, VolumeConfig(**options))
    assert found is not None
    return found


def descriptions(root: Path, dataset: DiscoveredDataset) -> list[list[str]]:
    known = {series.key: series.description for series in find_series(root).series}
    return [[known[str(key)] for key in pair.series] for pair in dataset.pairs]


def test_a_folder_without_dicom_is_none(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    assert detect_dicom(tmp_path, VolumeConfig()) is None


def test_the_series_with_a_mask_beside_it_is_the_case(tmp_path: Path) -> None:
    write_series(tmp_path / "p/a", uid="1.2.3", description="a")
    write_series(tmp_path / "p/b", uid="1.2.4", description="b")
    mask = write_mask(tmp_path / "p/b/drawn.nii.gz")
    dataset = find(tmp_path)
    assert descriptions(tmp_path, dataset) == [["b"]]
    assert (dataset.pairs[0].masks, dataset.channels) == ((mask,), ("CT",))


def test_a_mask_beside_several_series_must_name_one(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_series(tmp_path / "p" / name, uid=f"1.2.{ord(name)}", description=name)
    write_mask(tmp_path / "p/drawn.nii.gz")
    with pytest.raises(DataError, match="holds 2 series of 1 patient, listed above; choose with --series"):
        find(tmp_path)
    (tmp_path / "p/drawn.nii.gz").rename(tmp_path / "p/a_seg.nii.gz")
    assert descriptions(tmp_path, find(tmp_path)) == [["a"]]


def test_ids_and_groups_are_hashes_and_name_nobody(tmp_path: Path) -> None:
    for number, patient in enumerate(("P-007", "P-007", "P-0088")):
        write_series(tmp_path / str(number), uid=f"1.2.{number + 3}", patient=patient)
        write_mask(tmp_path / str(number) / "mask.nii.gz")
    pairs = find(tmp_path).pairs
    assert len({pair.id for pair in pairs}) == 3
    assert sorted(sum(pair.group == group for pair in pairs) for group in {pair.group for pair in pairs}) == [1, 2]
    assert all(len(pair.id) == 12 and int(pair.id, 16) >= 0 for pair in pairs)


def test_channels_are_chosen_by_modality_or_description(tmp_path: Path) -> None:
    write_series(tmp_path / "t2", uid="1.2.3", kind="MR", description="t2_tse_tra")
    write_series(tmp_path / "adc", uid="1.2.4", kind="MR", description="ep2d_ADC")
    write_series(tmp_path / "ct", uid="1.2.5", description="thorax")
    write_mask(tmp_path / "adc/mask.nii.gz")
    dataset = find(tmp_path, channels=("adc", "T2", "CT"))
    assert descriptions(tmp_path, dataset) == [["ep2d_ADC", "t2_tse_tra", "thorax"]]
    with pytest.raises(DataError, match=r"2 series for the channel MR \(.*expected one"):
        find(tmp_path, channels=("MR", "CT"))
    with pytest.raises(DataError, match="no series is PT by modality or description"):
        find(tmp_path, channels=("PT",))


def test_a_series_is_chosen_by_its_key(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_series(tmp_path / name, uid=f"1.2.{ord(name)}", description=name)
        write_mask(tmp_path / name / "mask.nii.gz")
    key = next(series.key for series in find_series(tmp_path).series if series.description == "b")
    assert descriptions(tmp_path, find(tmp_path, series=key)) == [["b"]]
    with pytest.raises(DataError, match="no series is spine by its key or description"):
        find(tmp_path, series="spine")


def test_series_that_are_no_volumes_are_named_with_the_reason(tmp_path: Path) -> None:
    write_series(tmp_path / "good", uid="1.2.3")
    write_mask(tmp_path / "good/mask.nii.gz")
    (write_series(tmp_path / "gap", uid="1.2.4") / "1.dcm").unlink()
    (tmp_path / "gap/2.dcm").unlink()
    notes = find(tmp_path).notes
    assert len(notes) == 1
    assert "is no volume: it has 1 slice" in notes[0]


def test_segmentations_belong_to_the_series_that_they_name(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    from guidino_cli.data.volumes.dicom.segments import read_segment_names

    write_series(tmp_path / "a", uid="1.2.3", description="a")
    write_series(tmp_path / "b", uid="1.2.4", description="b")
    path = _write_segmentation(tmp_path / "results/x.dcm", tmp_path / "b", ("liver", "spleen"))
    assert read_segment_names(path) == {1: "liver", 2: "spleen"}
    dataset = find(tmp_path)
    assert descriptions(tmp_path, dataset) == [["b"]]
    assert dataset.pairs[0].masks == (path,)
    assert (dataset.class_names, dataset.label_values) == (("background", "liver", "spleen"), {0: 0, 1: 1, 2: 2})


def test_a_segment_number_with_two_names_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    for name, segments in (("a", ("liver", "spleen")), ("b", ("spleen", "liver"))):
        write_series(tmp_path / name, uid=f"1.2.{ord(name)}")
        _write_segmentation(tmp_path / f"{name}_seg.dcm", tmp_path / name, segments)
    with pytest.raises(DataError, match=r"segment 1 is .*, in another file .*number the segments alike"):
        find(tmp_path)


def _write_segmentation(path: Path, folder: Path, names: tuple[str, ...]) -> Path:
    """A binary DICOM SEG of a series, each segment a row of pixels in the middle slice."""
    import highdicom as hd

    sources = [pydicom.dcmread(file) for file in sorted(folder.glob("*.dcm"))]
    pixels = np.zeros((3, 4, 6), dtype=np.uint8)
    for number in range(len(names)):
        pixels[1, number] = number + 1
    code = hd.sr.CodedConcept("85756007", "SCT", "Tissue")
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=code,
            segmented_property_type=code,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(names, start=1)
    ]
    segmentation = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=pixels,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=hd.UID(),
        series_number=1,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="x",
        manufacturer_model_name="x",
        software_versions="1",
        device_serial_number="1",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    segmentation.save_as(path)
    return path


def test_prepare_stores_a_series_with_its_segments(tmp_path: Path, guidino: Callable[..., Any]) -> None:
    pytest.importorskip("highdicom")
    from guidino_cli.data.manifest import load_manifest

    write_series(tmp_path / "src/a", uid="1.2.3")
    _write_segmentation(tmp_path / "src/seg.dcm", tmp_path / "src/a", ("liver", "spleen"))
    outcome = guidino("prepare", tmp_path / "src", "-o", tmp_path / "out")
    assert outcome.code == 0
    text = (tmp_path / "out/cases.json").read_text() + (tmp_path / "out/report.md").read_text() + outcome.stdout
    assert not any(secret in text for secret in ("Doe", "P-007", "1.2.3"))
    manifest = load_manifest(tmp_path / "out")
    assert manifest.classes == ["background", "liver", "spleen"]
    volume = manifest.cases[0].volume
    assert volume is not None
    assert volume.labels is not None
    assert np.load(volume.labels)[1, :, 0].tolist() == [1, 2, 0, 0]
    assert np.load(volume.image)[0, :, 0, 0].tolist() == [0, 1, 2]
