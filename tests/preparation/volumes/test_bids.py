"""BIDS folders: which files are channels, masks and cases."""

from pathlib import Path

import pytest

from guidino_cli.errors import DataError
from guidino_cli.preparation.options import VolumeConfig
from guidino_cli.preparation.types import DiscoveredDataset
from guidino_cli.preparation.volumes.bids import detect_bids


def make(root: Path, *names: str) -> Path:
    (root / "dataset_description.json").write_text("{}")
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return root


def find(root: Path, *channels: str, suffixes: tuple[str, ...] = ()) -> DiscoveredDataset:
    found = detect_bids(root, VolumeConfig(channels=channels, mask_suffixes=suffixes))
    assert found is not None
    return found


def names(dataset: DiscoveredDataset) -> dict[str, list[str]]:
    return {pair.id: [path.name for path in (*pair.images, *pair.masks)] for pair in dataset.pairs}


def test_a_folder_without_a_description_is_no_bids(tmp_path: Path) -> None:
    make(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz")
    (tmp_path / "dataset_description.json").unlink()
    assert detect_bids(tmp_path, VolumeConfig()) is None


def test_a_mask_is_named_as_its_image_and_further(tmp_path: Path) -> None:
    make(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "derivatives/labels/sub-1/anat/sub-1_T1w_seg-manual.nii.gz")
    dataset = find(tmp_path)
    assert dataset.channels == ("T1w",)
    assert names(dataset) == {"sub-1": ["sub-1_T1w.nii.gz", "sub-1_T1w_seg-manual.nii.gz"]}


def test_a_mask_may_leave_out_the_contrast(tmp_path: Path) -> None:
    make(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "derivatives/x/sub-1/anat/sub-1_label-lesion_dseg.nii.gz")
    assert names(find(tmp_path)) == {"sub-1": ["sub-1_T1w.nii.gz", "sub-1_label-lesion_dseg.nii.gz"]}


def test_sessions_of_a_subject_are_cases_of_one_group(tmp_path: Path) -> None:
    for session in ("ses-1", "ses-2"):
        stem = f"sub-1_{session}_ct"
        make(tmp_path, f"sub-1/{session}/ct/{stem}.nii", f"derivatives/x/sub-1/{session}/ct/{stem}_dseg.nii")
    assert {pair.id: pair.group for pair in find(tmp_path).pairs} == {"sub-1_ses-1": "sub-1", "sub-1_ses-2": "sub-1"}


def test_several_contrasts_are_listed_and_must_be_chosen(tmp_path: Path) -> None:
    make(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_T2w.nii.gz", "sub-2/anat/sub-2_T2w.nii.gz")
    make(tmp_path, "derivatives/labels/sub-2/anat/sub-2_T2w_seg.nii.gz")
    with pytest.raises(DataError, match=r"has 2 contrasts, T1w \(1, 0 with a mask\), T2w \(2, 1 with a mask\); choose"):
        find(tmp_path)
    dataset = find(tmp_path, "T2w")
    assert (list(names(dataset)), [path.name for path in dataset.unmatched_images]) == (["sub-2"], ["sub-1_T2w.nii.gz"])
    with pytest.raises(DataError, match="has no PD, only T1w"):
        find(tmp_path, "PD")


def test_contrasts_of_a_session_are_channels_in_the_order_given(tmp_path: Path) -> None:
    make(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_acq-fast_T2w.nii.gz", "sub-2/anat/sub-2_T2w.nii.gz")
    make(tmp_path, "derivatives/labels/sub-1/anat/sub-1_acq-fast_T2w_seg.nii.gz")
    dataset = find(tmp_path, "T2w", "T1w")
    assert names(dataset) == {
        "sub-1": ["sub-1_acq-fast_T2w.nii.gz", "sub-1_T1w.nii.gz", "sub-1_acq-fast_T2w_seg.nii.gz"]
    }
    assert dataset.incomplete == ["sub-2 (T1w)"]


def test_runs_of_a_session_are_cases(tmp_path: Path) -> None:
    for run in ("run-1", "run-2"):
        make(tmp_path, *(f"sub-1/anat/sub-1_{run}_{contrast}.nii.gz" for contrast in ("T1w", "T2w")))
        make(tmp_path, f"derivatives/labels/sub-1/anat/sub-1_{run}_T1w_seg.nii.gz")
    assert list(names(find(tmp_path, "T1w", "T2w"))) == ["sub-1_run-1", "sub-1_run-2"]


def test_several_kinds_of_masks_are_listed_and_must_be_chosen(tmp_path: Path) -> None:
    make(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz")
    make(tmp_path, *(f"derivatives/x/sub-1/anat/sub-1_T1w_{kind}.nii.gz" for kind in ("seg-a", "seg-b", "lesion")))
    with pytest.raises(DataError, match=r"_lesion \(x/, 1\), _seg-a \(x/, 1\), _seg-b \(x/, 1\); choose with --mask"):
        find(tmp_path)
    assert names(find(tmp_path, suffixes=("_lesion",)))["sub-1"][1] == "sub-1_T1w_lesion.nii.gz"


def test_masks_of_other_names_only_are_listed(tmp_path: Path) -> None:
    make(tmp_path, "sub-1/anat/sub-1_T1w.nii.gz", "derivatives/x/sub-1/anat/sub-1_T1w_lesion.nii.gz")
    with pytest.raises(DataError, match=r"masks end with _lesion \(x/, 1\); choose with --mask-suffix"):
        find(tmp_path)
