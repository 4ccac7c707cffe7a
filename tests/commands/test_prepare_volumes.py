"""`guidino prepare` on volumes: stored arrays, reports and refused input."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from guidino_cli.data.cases import IGNORED
from guidino_cli.data.manifest import load_manifest
from guidino_cli.types import Case, StoredVolume

pytestmark = pytest.mark.usefixtures("coarse_figures")

Run = Callable[..., Any]
SHAPE = (8, 7, 6)
RAS = np.diag([1.0, 2.0, 3.0, 1.0])


def save(path: Path, values: np.ndarray, affine: np.ndarray = RAS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(values, affine).to_filename(path)
    return path


def intensities(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1000, shape, dtype=np.int16)


def labels(*values: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Background, and four voxels of each value in a row of its own."""
    result = np.zeros(shape, dtype=np.int16)
    for number, value in enumerate(values):
        result[2:6, number + 1, 2] = value
    return result


def make_pairs(root: Path, count: int = 10, *, values: Sequence[int] = (1,)) -> Path:
    for number in range(count):
        save(root / "images" / f"c{number}.nii.gz", intensities(number))
        save(root / "labels" / f"c{number}.nii.gz", labels(*values))
    return root


def stored(case: Case) -> StoredVolume:
    assert case.volume is not None
    return case.volume


def one_line(text: str) -> str:
    """Console output without the wrapping of its columns."""
    return " ".join(text.split())


def test_a_volume_is_stored_from_the_feet_up_front_to_back_and_right_to_left(tmp_path: Path, guidino: Run) -> None:
    values, mask = intensities(), labels(1)
    save(tmp_path / "src/images/a.nii.gz", values)
    save(tmp_path / "src/labels/a.nii.gz", mask)
    assert guidino("prepare", tmp_path / "src", "-o", tmp_path / "out").code == 0
    volume = stored(load_manifest(tmp_path / "out").cases[0])
    # The file has axes to the right, to the front and up: X and Y are turned round, and Z comes first.
    expected = values[::-1, ::-1, :].transpose(2, 1, 0)
    image = np.load(volume.image)
    assert image.dtype == np.int16
    assert np.array_equal(image, expected[None])
    assert (volume.shape, volume.spacing_mm, volume.orientation) == ((6, 7, 8), (3, 2, 1), "RAS")
    assert volume.labels is not None
    assert np.array_equal(np.load(volume.labels), mask[::-1, ::-1, :].transpose(2, 1, 0))


def test_equal_volumes_in_other_axis_orders_are_stored_alike(tmp_path: Path, guidino: Run) -> None:
    for name, values in (("images", intensities()), ("labels", labels(1))):
        image = nibabel.Nifti1Image(values, RAS)
        for axes in ("RAS", "PSR", "ILA"):
            turned = image.as_reoriented(
                nibabel.orientations.ornt_transform(
                    nibabel.orientations.io_orientation(RAS), nibabel.orientations.axcodes2ornt(tuple(axes))
                )
            )
            path = tmp_path / "src" / name / f"{axes}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            turned.to_filename(path)
    outcome = guidino("prepare", tmp_path / "src", "-o", tmp_path / "out")
    assert outcome.code == 0
    assert "axes of the files point in 3 ways (ILA, PSR, RAS); all are stored alike" in one_line(outcome.stdout)
    cases = load_manifest(tmp_path / "out").cases
    first = stored(cases[0])
    assert [stored(case).orientation for case in cases] == ["ILA", "PSR", "RAS"]
    for case in cases:
        volume = stored(case)
        assert volume.labels is not None
        assert first.labels is not None
        assert np.array_equal(np.load(volume.image), np.load(first.image))
        assert np.array_equal(np.load(volume.labels), np.load(first.labels))
        assert volume.spacing_mm == first.spacing_mm


def test_masks_are_class_indices_in_the_grid_of_the_source(tmp_path: Path, guidino: Run) -> None:
    affine = np.array([[0.0, 0, -2, 5], [-1, 0, 0, 6], [0, 3, 0, 7], [0, 0, 0, 1]])
    save(tmp_path / "src/images/a.nii.gz", intensities(), affine)
    save(tmp_path / "src/labels/a.nii.gz", labels(205), affine)
    assert guidino("prepare", tmp_path / "src", "-o", tmp_path / "out", "--spacing", "1,1,1").code == 0
    case = load_manifest(tmp_path / "out").cases[0]
    assert case.mask is not None
    mask: Any = nibabel.load(case.mask)
    assert np.array_equal(np.asarray(mask.dataobj), labels(1))
    assert np.array_equal(mask.affine, affine)
    # Four of 8 x 7 x 6 voxels, in the source's grid.
    assert case.foreground == pytest.approx(4 / 336, rel=1e-5)


def test_nothing_but_the_data_set_is_left(tmp_path: Path, guidino: Run) -> None:
    source = make_pairs(tmp_path / "src", 2)
    before = {path: path.stat().st_mtime_ns for path in source.rglob("*")}
    assert guidino("prepare", source, "-o", tmp_path / "out", "--spacing", "auto").code == 0
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {"cases.json", "report.md", "contact_sheet.png", "volumes", "labels", "foreground", "masks"}
    assert {path: path.stat().st_mtime_ns for path in source.rglob("*")} == before


def test_a_dry_run_reports_and_writes_nothing(tmp_path: Path, guidino: Run) -> None:
    outcome = guidino("prepare", make_pairs(tmp_path / "src", 4), "--dry-run", "-o", tmp_path / "out")
    assert (outcome.code, (tmp_path / "out").exists()) == (0, False)
    assert "8x7x6 voxels of 1 x 2 x 3 mm (x, y, z)" in one_line(outcome.stdout)


def test_labels_are_mapped_in_the_order_of_their_numbers_and_named(tmp_path: Path, guidino: Run) -> None:
    # As texts, 1000 would come before 205.
    outcome = guidino("prepare", make_pairs(tmp_path / "src", 3, values=(205, 420, 1000)), "-o", tmp_path / "out")
    manifest = load_manifest(tmp_path / "out")
    assert manifest.classes == ["background", "class_205", "class_420", "class_1000"]
    assert "205 is class_205, 420 is class_420, 1000 is class_1000" in one_line(outcome.stdout)
    path = stored(manifest.cases[0]).labels
    assert path is not None
    assert np.bincount(np.load(path).ravel()).tolist() == [336 - 12, 4, 4, 4]


def test_classes_name_the_values_of_masks(tmp_path: Path, guidino: Run) -> None:
    source = make_pairs(tmp_path / "src", 3, values=(205, 420))
    named = "0=background,420=left,205=right"
    assert guidino("prepare", source, "-o", tmp_path / "out", "--classes", named).code == 0
    manifest = load_manifest(tmp_path / "out")
    assert manifest.classes == ["background", "left", "right"]
    assert manifest.source["mask_values"] == {"0": 0, "420": 1, "205": 2}


def test_ignored_voxels_are_no_class_and_no_foreground(tmp_path: Path, guidino: Run) -> None:
    source = make_pairs(tmp_path / "src", 3, values=(1, 9))
    outcome = guidino("prepare", source, "-o", tmp_path / "out", "--ignore-label", "9")
    assert "12 voxels of 3 volumes do not count (ignore label 9)" in one_line(outcome.stdout)
    manifest = load_manifest(tmp_path / "out")
    assert (manifest.classes, manifest.ignore_label) == (["background", "foreground"], IGNORED)
    volume = stored(manifest.cases[0])
    assert volume.labels is not None
    assert volume.foreground is not None
    assert np.unique(np.load(volume.labels)).tolist() == [0, 1, IGNORED]
    assert np.unique(np.load(volume.foreground)[:, 0]).tolist() == [1]
    assert manifest.cases[0].foreground == pytest.approx(4 / 336, rel=1e-5)


def test_statistics_are_of_the_foreground_of_training_volumes_alone(tmp_path: Path, guidino: Run) -> None:
    for name, value in (("a", 100), ("b", 300), ("t", 5000)):
        save(tmp_path / f"src/images/{name}.nii.gz", np.where(labels(1) == 1, value, 7).astype(np.int16))
        save(tmp_path / f"src/labels/{name}.nii.gz", labels(1))
    (tmp_path / "src/train.txt").write_text("a\nb\n")
    (tmp_path / "src/test.txt").write_text("t\n")
    assert guidino("prepare", tmp_path / "src", "-o", tmp_path / "out").code == 0
    manifest = load_manifest(tmp_path / "out")
    training = [case.id for case in manifest.cases if case.split == "train"]
    values = {"a": 100, "b": 300}
    numbers = [values[case] for case in training]
    (own,) = manifest.statistics
    assert (own.minimum, own.maximum, own.mean) == (min(numbers), max(numbers), sum(numbers) / len(numbers))


def test_spacing_auto_is_the_median_of_the_training_volumes(tmp_path: Path, guidino: Run) -> None:
    for number, spacing in enumerate((1.0, 1.5, 2.0)):
        for kind, values in (("images", intensities(number)), ("labels", labels(1))):
            save(tmp_path / f"src/{kind}/c{number}.nii.gz", values, np.diag([spacing, spacing, spacing, 1]))
    outcome = guidino("prepare", tmp_path / "src", "-o", tmp_path / "out", "--spacing", "auto", "--split", "100/0/0")
    assert outcome.code == 0
    assert "1.5,1.5,1.5 mm (z, y, x) by nnU-Net's rule" in one_line(outcome.stdout)
    manifest = load_manifest(tmp_path / "out")
    assert manifest.spacing_mm == (1.5, 1.5, 1.5)
    # 6, 7 and 8 voxels of 1, 1.5 and 2 mm become so many of 1.5 mm.
    assert [stored(case).shape for case in manifest.cases] == [(4, 5, 5), (6, 7, 8), (8, 9, 11)]
    for case in manifest.cases:
        assert np.load(stored(case).image).shape == (1, *stored(case).shape)


def test_compressed_volumes_hold_the_same_values(tmp_path: Path, guidino: Run) -> None:
    pytest.importorskip("blosc2")
    from guidino_cli.data.volumes.stored import open_array

    source = make_pairs(tmp_path / "src", 2)
    for store in ("npy", "blosc2"):
        assert guidino("prepare", source, "-o", tmp_path / store, "--store", store).code == 0
    plain, packed = (stored(load_manifest(tmp_path / store).cases[0]) for store in ("npy", "blosc2"))
    assert (plain.image.suffix, packed.image.suffix) == (".npy", ".b2nd")
    assert np.array_equal(open_array(packed.image)[:], np.load(plain.image))


def write_nnunet(root: Path, *, listed: bool = False, names: dict[str, int] | None = None) -> Path:
    """Five cases; with `listed` as the Decathlon has them, else as nnU-Net has them."""
    for number in range(5):
        save(root / "imagesTr" / f"h{number}{'' if listed else '_0000'}.nii.gz", intensities(number))
        save(root / "labelsTr" / f"h{number}.nii.gz", labels(1, 2))
    description: dict[str, Any] = {"labels": names or {"background": 0, "anterior": 1, "posterior": 2}}
    if listed:
        description["labels"] = {str(value): name for name, value in description["labels"].items()}
        description["modality"] = {"0": "MRI"}
        description["training"] = [
            {"image": f"./imagesTr/h{number}.nii.gz", "label": f"./labelsTr/h{number}.nii.gz"} for number in range(5)
        ]
    else:
        description |= {"channel_names": {"0": "MRI"}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(description))
    return root


def test_decathlon_and_nnunet_folders_give_the_same_cases(tmp_path: Path, guidino: Run) -> None:
    contents = []
    for name, listed in (("nnunet", False), ("msd", True)):
        write_nnunet(tmp_path / name, listed=listed)
        assert guidino("prepare", tmp_path / name, "-o", tmp_path / f"{name}_out", "--name", "x").code == 0
        content = json.loads((tmp_path / f"{name}_out" / "cases.json").read_text())
        assert content["source"]["layout"] == name
        for case in content["cases"]:
            del case["image"], case["volume"]["sources"], case["image_file"]["mtime_ns"]
        contents.append({key: value for key, value in content.items() if key != "source"})
    assert contents[0] == contents[1]
    assert contents[0]["classes"] == ["background", "anterior", "posterior"]
    assert contents[0]["channels"] == ["MRI"]


def test_channels_of_the_decathlon_are_the_fourth_axis(tmp_path: Path, guidino: Run) -> None:
    root = write_nnunet(tmp_path / "src", listed=True)
    for number in range(5):
        save(root / f"imagesTr/h{number}.nii.gz", intensities(number, shape=(*SHAPE, 2)))
    refused = guidino("prepare", root, "-o", tmp_path / "out")
    assert (refused.code, "has four axes (8 x 7 x 6 x 2), expected three" in refused.stderr) == (3, True)
    description = json.loads((root / "dataset.json").read_text()) | {"modality": {"0": "T2", "1": "ADC"}}
    (root / "dataset.json").write_text(json.dumps(description))
    assert guidino("prepare", root, "-o", tmp_path / "out").code == 0
    manifest = load_manifest(tmp_path / "out")
    assert manifest.channels == ("T2", "ADC")
    values = intensities(0, shape=(*SHAPE, 2))
    assert np.load(stored(manifest.cases[0]).image)[:, 0, 0, 0].tolist() == values[-1, -1, 0].tolist()


def test_folds_are_made_of_volumes_too(tmp_path: Path, guidino: Run) -> None:
    source = make_pairs(tmp_path / "src", 10)
    assert guidino("prepare", source, "-o", tmp_path / "out", "--split", "100/0/0", "--folds", "5").code == 0
    cases = load_manifest(tmp_path / "out").cases
    assert sorted(case.fold for case in cases if case.fold is not None) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_fold_file_of_nnunet_is_the_official_split(tmp_path: Path, guidino: Run) -> None:
    root = write_nnunet(tmp_path / "src")
    folds = [{"train": [], "val": ["h1", "h3"]}, {"train": [], "val": ["h0", "h2", "h4"]}]
    (root / "splits_final.json").write_text(json.dumps(folds))
    assert guidino("prepare", root, "-o", tmp_path / "out").code == 0
    assert {case.id: case.fold for case in load_manifest(tmp_path / "out").cases} == {
        "h0": 1, "h1": 0, "h2": 1, "h3": 0, "h4": 1,
    }  # fmt: skip


def test_a_class_that_no_mask_has_is_said_once(tmp_path: Path, guidino: Run) -> None:
    names = {"background": 0, "anterior": 1, "posterior": 2, "tail": 3}
    outcome = guidino("prepare", write_nnunet(tmp_path / "src", names=names), "-o", tmp_path / "out")
    assert outcome.code == 0
    assert one_line(outcome.stdout).count("no mask has a voxel of tail") == 1
    assert load_manifest(tmp_path / "out").classes[-1] == "tail"


def test_a_label_that_the_data_set_does_not_name_names_the_mask(tmp_path: Path, guidino: Run) -> None:
    root = write_nnunet(tmp_path / "src")
    save(root / "labelsTr/h3.nii.gz", labels(1, 2, 7))
    outcome = guidino("prepare", root, "-o", tmp_path / "out")
    assert (outcome.code, (tmp_path / "out").exists()) == (3, False)
    assert (
        "h3.nii.gz: has the label 7 in 4 voxels, which the data set does not name (it names 0, 1, 2)" in outcome.stderr
    )


def test_regions_are_refused_by_name(tmp_path: Path, guidino: Run) -> None:
    root = write_nnunet(tmp_path / "src", names={"background": 0, "whole": [1, 2], "core": 2})  # type: ignore[dict-item]
    outcome = guidino("prepare", root, "-o", tmp_path / "out")
    assert outcome.code == 3
    assert "whole is a region of several labels" in outcome.stderr


def test_channels_by_suffix_become_one_volume(tmp_path: Path, guidino: Run) -> None:
    for number in range(2):
        for name in ("T1", "T2"):
            save(tmp_path / f"src/images/c{number}_{name}.nii.gz", intensities(number + 10 * (name == "T2")))
        save(tmp_path / f"src/labels/c{number}.nii.gz", labels(1))
    assert guidino("prepare", tmp_path / "src", "-o", tmp_path / "out", "--channels", "T2,T1").code == 0
    manifest = load_manifest(tmp_path / "out")
    assert (manifest.channels, [case.id for case in manifest.cases]) == (("T2", "T1"), ["c0", "c1"])
    image = np.load(stored(manifest.cases[0]).image)
    assert image[:, 0, 0, 0].tolist() == [intensities(10)[-1, -1, 0], intensities(0)[-1, -1, 0]]


def test_a_case_without_one_of_its_channels_is_named(tmp_path: Path, guidino: Run) -> None:
    for name in ("c0_T1", "c0_T2", "c1_T1"):
        save(tmp_path / f"src/images/{name}.nii.gz", intensities())
    for name in ("c0", "c1"):
        save(tmp_path / f"src/labels/{name}.nii.gz", labels(1))
    command = ("prepare", tmp_path / "src", "-o", tmp_path / "out", "--channels", "T1,T2")
    outcome = guidino(*command)
    assert (outcome.code, "1 case without a channel: c1 (T2)" in outcome.stderr) == (3, True)
    assert guidino(*command, "--allow-unpaired").code == 0
    assert [case.id for case in load_manifest(tmp_path / "out").cases] == ["c0"]


def test_masks_of_several_endings_are_not_taken_for_one_class(tmp_path: Path, guidino: Run) -> None:
    for name, ending in (("a", "_seg-manual"), ("b", "_gmseg_manual")):
        save(tmp_path / f"src/{name}.nii.gz", intensities(ord(name)))
        save(tmp_path / f"src/{name}{ending}.nii.gz", labels(1))
    command = ("prepare", tmp_path / "src", "-o", tmp_path / "out")
    outcome = guidino(*command)
    assert outcome.code == 3
    assert "end in 2 ways, _gmseg_manual (b_gmseg_manual.nii.gz), _seg_manual (a_seg-manual.nii.gz)" in outcome.stderr
    assert guidino(*command, "--mask-suffix", "_seg-manual,_gmseg_manual").code == 0
    assert len(load_manifest(tmp_path / "out").cases) == 2
    alone = guidino(*command, "--mask-suffix", "_seg-manual", "--allow-unpaired", "--overwrite")
    assert (alone.code, [case.id for case in load_manifest(tmp_path / "out").cases]) == (0, ["a"])


def test_endings_that_differ_in_the_separator_are_one_kind(tmp_path: Path, guidino: Run) -> None:
    for name, mask in (("a_image", "a_label"), ("b", "b-label")):
        save(tmp_path / f"src/{name}.nii.gz", intensities(len(name)))
        save(tmp_path / f"src/{mask}.nii.gz", labels(1))
    assert guidino("prepare", tmp_path / "src", "-o", tmp_path / "out").code == 0


def test_folders_of_volumes_that_are_not_used_are_named(tmp_path: Path, guidino: Run) -> None:
    root = make_pairs(tmp_path / "src", 2)
    save(root / "extra/old.nii.gz", intensities())
    outcome = guidino("prepare", root, "-o", tmp_path / "out")
    assert (outcome.code, "extra/ is not used" in one_line(outcome.stdout)) == (0, True)
    save(root / "test2/imgs/a.nii.gz", intensities())
    refused = guidino("prepare", root, "-o", tmp_path / "out", "--overwrite")
    assert (refused.code, "test2/imgs/ would be used" in refused.stderr) == (3, True)


def test_a_channel_on_another_grid_is_resampled_and_said(tmp_path: Path, guidino: Run) -> None:
    ramp = np.broadcast_to(np.arange(16, dtype=np.int16)[:, None, None] * 10, (16, 7, 6))
    save(tmp_path / "src/images/c_T1.nii.gz", intensities())
    # Half as large voxels along X, the first one centred as the first of T1.
    save(tmp_path / "src/images/c_T2.nii.gz", ramp, np.diag([0.5, 2, 3, 1]))
    save(tmp_path / "src/labels/c.nii.gz", labels(1))
    outcome = guidino("prepare", tmp_path / "src", "-o", tmp_path / "out", "--channels", "T1,T2")
    assert outcome.code == 0
    assert "c_T2.nii.gz resampled to the grid of c_T1.nii.gz: 16x7x6 of 0.5x2x3 mm" in one_line(outcome.stdout)
    second = np.load(stored(load_manifest(tmp_path / "out").cases[0]).image)[1]
    # Voxels of T1 lie on every second one of T2; from the right to the left the ramp falls.
    assert second[0, 0].tolist() == [140, 120, 100, 80, 60, 40, 20, 0]


def test_a_fourth_axis_is_channels_only_if_they_are_named(tmp_path: Path, guidino: Run) -> None:
    save(tmp_path / "src/images/a.nii.gz", intensities(shape=(*SHAPE, 2)))
    save(tmp_path / "src/labels/a.nii.gz", labels(1))
    outcome = guidino("prepare", tmp_path / "src", "-o", tmp_path / "out")
    assert outcome.code == 3
    assert "a.nii.gz: has four axes (8 x 7 x 6 x 2), expected three" in outcome.stderr
    assert "--channels" in outcome.stderr
    assert "time points, save each as a file of its own" in outcome.stderr
    assert guidino("prepare", tmp_path / "src", "-o", tmp_path / "out", "--channels", "T1,T2").code == 0
    assert stored(load_manifest(tmp_path / "out").cases[0]).shape == (6, 7, 8)


def test_a_sheared_volume_is_prepared_and_said(tmp_path: Path, guidino: Run) -> None:
    sheared = np.array([[1.0, 0.05, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    save(tmp_path / "src/images/a.nii.gz", intensities(), sheared)
    save(tmp_path / "src/labels/a.nii.gz", labels(1), sheared)
    outcome = guidino("prepare", tmp_path / "src", "-o", tmp_path / "out")
    assert outcome.code == 0
    # arcsin(0.05 / sqrt(1 + 0.05^2)) = 2.86 degrees.
    assert "a: its axes are sheared by 2.9 degrees" in one_line(outcome.stdout)


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.diag([1.0, 2.0, 4.0, 1.0]), "8x7x6 of 1x2x4 mm, c0.nii.gz's 8x7x6 of 1x2x3 mm"),
        (RAS + np.array([[0, 0, 0, 9.0]] + [[0.0] * 4] * 3), "shifted by 9 mm"),
    ],
)
def test_a_mask_on_another_grid_is_refused(tmp_path: Path, guidino: Run, affine: np.ndarray, words: str) -> None:
    root = make_pairs(tmp_path / "src", 2)
    save(root / "labels/c0.nii.gz", labels(1), affine)
    outcome = guidino("prepare", root, "-o", tmp_path / "out")
    assert (outcome.code, (tmp_path / "out").exists()) == (3, False)
    assert "labels/c0.nii.gz: is on another grid" in outcome.stderr
    assert words in outcome.stderr
    assert guidino("prepare", root, "-o", tmp_path / "out", "--ignore-headers").code == 0


def test_a_truncated_file_is_named_and_the_others_go_on(tmp_path: Path, guidino: Run) -> None:
    root = make_pairs(tmp_path / "src", 4)
    path = root / "images/c2.nii.gz"
    path.write_bytes(path.read_bytes()[:-200])
    refused = guidino("prepare", root, "-o", tmp_path / "out")
    assert (refused.code, (tmp_path / "out").exists()) == (3, False)
    assert "images/c2.nii.gz: cannot be read" in refused.stderr
    assert "--skip-bad" in refused.stderr
    skipped = guidino("prepare", root, "-o", tmp_path / "out", "--skip-bad")
    assert (skipped.code, "c2.nii.gz" in skipped.stderr) == (6, True)
    assert [case.id for case in load_manifest(tmp_path / "out").cases] == ["c0", "c1", "c3"]
    assert not list((tmp_path / "out").rglob("c2*"))


def test_a_mask_cut_short_leaves_nothing_of_its_case(tmp_path: Path, guidino: Run) -> None:
    root = make_pairs(tmp_path / "src", 3)
    content = gzip.compress(gzip.decompress((root / "labels/c1.nii.gz").read_bytes())[:400])
    (root / "labels/c1.nii.gz").write_bytes(content)
    assert guidino("prepare", root, "-o", tmp_path / "out", "--skip-bad").code == 6
    assert not list((tmp_path / "out").rglob("c1*"))


def test_a_volume_of_one_slice_is_prepared_and_said(tmp_path: Path, guidino: Run) -> None:
    root = make_pairs(tmp_path / "src", 2)
    save(root / "images/flat.nii.gz", intensities(shape=(8, 7, 1)))
    save(root / "labels/flat.nii.gz", np.ones((8, 7, 1), dtype=np.uint8))
    outcome = guidino("prepare", root, "-o", tmp_path / "out")
    assert (outcome.code, "1 volume of one slice: flat" in one_line(outcome.stdout)) == (0, True)
    assert stored(load_manifest(tmp_path / "out").cases[-1]).shape == (1, 7, 8)


def test_voxels_without_a_number_get_the_smallest_one(tmp_path: Path, guidino: Run) -> None:
    root = make_pairs(tmp_path / "src", 1)
    values = intensities().astype(np.float32) + 0.5
    values[0, 0, 0], values[1, 0, 0] = np.nan, np.inf
    save(root / "images/c0.nii.gz", values)
    outcome = guidino("prepare", root, "-o", tmp_path / "out")
    assert "2 voxels of c0 are NaN or infinite" in one_line(outcome.stdout)
    image = np.load(stored(load_manifest(tmp_path / "out").cases[0]).image)[0]
    smallest = values[np.isfinite(values)].min()
    assert image[0, -1, -2:].tolist() == [smallest, smallest]


def test_empty_masks_are_counted(tmp_path: Path, guidino: Run) -> None:
    root = make_pairs(tmp_path / "src", 3)
    save(root / "labels/c1.nii.gz", labels())
    outcome = guidino("prepare", root, "-o", tmp_path / "out")
    assert (outcome.code, "1 empty mask: c1" in one_line(outcome.stdout)) == (0, True)


def test_equal_volumes_stay_in_one_part(tmp_path: Path, guidino: Run) -> None:
    root = make_pairs(tmp_path / "src", 8)
    (root / "images/c5.nii.gz").write_bytes((root / "images/c1.nii.gz").read_bytes())
    guidino("prepare", root, "-o", tmp_path / "out")
    manifest = load_manifest(tmp_path / "out")
    assert manifest.source["duplicates"] == [["c1", "c5"]]
    assert len({case.split for case in manifest.cases if case.id in {"c1", "c5"}}) == 1


def test_frames_of_one_patient_stay_in_one_part(tmp_path: Path, guidino: Run) -> None:
    for number in range(12):
        name = f"patient{number // 2:03d}_frame{1 + number % 2:02d}.nii.gz"
        save(tmp_path / "src/images" / name, intensities(number))
        save(tmp_path / "src/labels" / name, labels(1))
    guidino("prepare", tmp_path / "src", "-o", tmp_path / "out", "--split", "50/25/25")
    cases = load_manifest(tmp_path / "out").cases
    assert [case.group for case in cases[:3]] == ["patient000", "patient000", "patient001"]
    assert all(first.split == second.split for first, second in zip(cases[::2], cases[1::2], strict=True))


def test_values_like_hounsfield_units_ask_for_the_name_of_the_channel(tmp_path: Path, guidino: Run) -> None:
    root = make_pairs(tmp_path / "src", 2)
    for number in range(2):
        save(root / f"images/c{number}.nii.gz", intensities(number) - 500)
    hint = "values look like Hounsfield units: --channels CT"
    assert hint in one_line(guidino("prepare", root, "-o", tmp_path / "out").stdout)
    named = guidino("prepare", root, "-o", tmp_path / "out", "--overwrite", "--channels", "CT")
    assert hint not in one_line(named.stdout)
    assert load_manifest(tmp_path / "out").channels == ("CT",)


def test_images_and_volumes_are_not_mixed(tmp_path: Path, guidino: Run) -> None:
    from PIL import Image

    root = make_pairs(tmp_path / "src", 1)
    for kind in ("images", "labels"):
        Image.new("L", (8, 8)).save(root / kind / "a.png")
    outcome = guidino("prepare", root, "-o", tmp_path / "out")
    assert (outcome.code, "a data set has one kind" in outcome.stderr) == (3, True)


@pytest.mark.parametrize(
    "option",
    [("--exif", "apply"), ("--copy",), ("--merge-masks",), ("--export", "nnunet"), ("--normal", "include")],
    ids=lambda item: item[0],
)
def test_options_for_images_are_refused_for_volumes(tmp_path: Path, guidino: Run, option: tuple[str, ...]) -> None:
    outcome = guidino("prepare", make_pairs(tmp_path / "src", 1), "-o", tmp_path / "out", *option)
    assert (outcome.code, f"{option[0]}: is for images, but these are volumes" in outcome.stderr) == (2, True)


@pytest.mark.parametrize(
    "option",
    [
        ("--spacing", "auto"),
        ("--series", "T2"),
        ("--mask-suffix", "_x"),
        ("--orientation", "RAS"),
        ("--ignore-headers",),
    ],
    ids=lambda item: item[0],
)
def test_options_for_volumes_are_refused_for_images(tmp_path: Path, guidino: Run, option: tuple[str, ...]) -> None:
    from PIL import Image

    for kind in ("images", "masks"):
        (tmp_path / "src" / kind).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "src" / kind / "a.png")
    outcome = guidino("prepare", tmp_path / "src", "-o", tmp_path / "out", *option)
    assert (outcome.code, f"{option[0]}: is for volumes, but these are images" in outcome.stderr) == (2, True)


def test_the_report_lists_each_volume(tmp_path: Path, guidino: Run) -> None:
    guidino("prepare", make_pairs(tmp_path / "src", 3), "-o", tmp_path / "out")
    report = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    part = {case.id: case.split for case in load_manifest(tmp_path / "out").cases}["c1"]
    assert f"| c1 | {part} | 8x7x6 | 1 x 2 x 3 | RAS | " in report
    assert "| median | 8 x 7 x 6 | 1 x 2 x 3 |" in report


def test_audit_of_volumes_is_refused_in_one_line(tmp_path: Path, guidino: Run) -> None:
    guidino("prepare", make_pairs(tmp_path / "src", 2), "-o", tmp_path / "out")
    outcome = guidino("audit", tmp_path / "out")
    assert (outcome.code, outcome.stderr.count("\n")) == (3, 1)
    assert "holds volumes, and audit compares images with their masks" in outcome.stderr
