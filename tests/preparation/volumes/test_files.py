"""Masks of volumes and the volumes they belong to, by name."""

from pathlib import Path

import pytest

from guidino_cli.errors import DataError
from guidino_cli.preparation.volumes.files import match_volumes


def test_two_masks_that_are_named_as_one_volumes_are_not_taken_one_for_the_other() -> None:
    images, masks = [Path("ct/v1.nii.gz")], [Path("seg/v1.nii.gz"), Path("seg/v1_seg.nii.gz")]
    with pytest.raises(DataError, match=r"v1\.nii\.gz and v1_seg\.nii\.gz are both named as masks of v1, expected one"):
        match_volumes(images, masks)


def test_the_ending_of_masks_tells_them_apart() -> None:
    images, masks = [Path("ct/v1.nii.gz")], [Path("seg/v1_liver.nii.gz"), Path("seg/v1_lesion.nii.gz")]
    found = match_volumes(images, masks, suffixes=["_liver"])
    assert found.pairs == [("v1", (images[0],), (masks[0],))]
    assert found.matches.unmatched_masks == [masks[1]]
