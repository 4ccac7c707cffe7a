"""Fingerprint of prepared volumes."""

from pathlib import Path

import numpy as np
import pytest
from volumes_data import make_volumes

from guidino_cli.data.manifest import load_manifest
from guidino_cli.data.volumes.stored import open_array, save_array
from guidino_cli.errors import DataError
from guidino_cli.planning.volumes.fingerprint import VolumeFingerprint, extract_volume_fingerprint


def _extract(folder: Path, *, spacing_mm: tuple[float | None, ...] = (None, None, None)) -> VolumeFingerprint:
    manifest = load_manifest(folder)
    object.__setattr__(manifest, "spacing_mm", spacing_mm)
    return extract_volume_fingerprint(manifest, manifest.select("train"))


def test_sizes_and_spacings_are_those_of_the_training_volumes(tmp_path: Path) -> None:
    facts = _extract(make_volumes(tmp_path, channels=("CT", "PET"), num_classes=3))
    assert (facts.cases, facts.channels) == (3, ("CT", "PET"))
    assert facts.shapes == ((12, 20, 16), (12, 21, 17), (12, 20, 18))
    assert facts.spacings_mm == ((3.0, 1.0, 1.5),) * 3
    assert facts.prepared_mm == (None, None, None)
    assert len(facts.statistics) == 2


def test_the_spacing_that_was_asked_for_replaces_the_stored_one(tmp_path: Path) -> None:
    """It rounds the size to whole voxels and fills the extent: 2.9 mm may be stored where 3 were asked for."""
    facts = _extract(make_volumes(tmp_path), spacing_mm=(None, 1.01, 1.49))
    assert facts.spacings_mm == ((3.0, 1.01, 1.49),) * 3
    assert facts.prepared_mm == (None, 1.01, 1.49)


def test_shares_of_classes_are_of_all_voxels(tmp_path: Path) -> None:
    """Boxes of a third of each side: 4 x 6 x 5 of 12 x 20 x 16 voxels, 4 x 7 x 5 of 12 x 21 x 17."""
    facts = _extract(make_volumes(tmp_path, train=2))
    (only,) = facts.classes
    assert (only.name, only.cases) == ("a", 2)
    assert only.smallest == pytest.approx(120 / 3840)
    assert only.share == pytest.approx((120 / 3840 + 140 / 4284) / 2)


def test_the_ignore_label_is_no_class(tmp_path: Path) -> None:
    facts = _extract(make_volumes(tmp_path, ignore_label=255))
    assert [item.name for item in facts.classes] == ["a"]


def test_sizes_are_cropped_to_voxels_that_are_not_zero(tmp_path: Path) -> None:
    folder = make_volumes(tmp_path, train=1)
    path = folder / "volumes" / "case0.npy"
    values = np.array(open_array(path)[:])
    values[:, :3] = values[:, :, 15:] = 0
    values[:, 3:, :15] += 1
    save_array(path, values)
    facts = _extract(folder)
    assert (facts.shapes, facts.cropped) == (((12, 20, 16),), ((9, 15, 16),))
    assert facts.kept == pytest.approx(0.75 * 0.75)


def test_data_without_a_labelled_volume_is_refused(tmp_path: Path) -> None:
    manifest = load_manifest(make_volumes(tmp_path))
    with pytest.raises(DataError, match="no labelled training case"):
        extract_volume_fingerprint(manifest, [])


def test_every_volume_is_counted(tmp_path: Path) -> None:
    manifest, done = load_manifest(make_volumes(tmp_path)), list[int]()
    extract_volume_fingerprint(manifest, manifest.select("train"), done=lambda: done.append(1))
    assert len(done) == 3
