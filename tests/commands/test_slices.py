"""`guidino slices`: written slices, resuming, refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """Three small volumes of three slices, one of them in a folder below."""
    for number, name in enumerate(("a.nii.gz", "b.nii", "deep/c.nii.gz")):
        (tmp_path / "ct" / name).parent.mkdir(parents=True, exist_ok=True)
        values = np.full((8, 8, 3), 10 * number, dtype=np.int16)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "ct" / name)
    return tmp_path / "ct"


def _pictures(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))


def test_every_volume_becomes_a_folder_of_its_slices(volumes: Path, guidino: Callable[..., Any]) -> None:
    out = volumes.parent / "slices"
    result = guidino("slices", volumes, "-o", out, "--size", "16")
    assert result.code == 0
    assert result.stdout.startswith("9 slices of 3 volumes")
    assert _pictures(out) == [f"{name}/{number:04d}.png" for name in ("a", "b", "deep/c") for number in range(3)]


def test_finished_volumes_are_skipped_and_other_settings_refused(volumes: Path, guidino: Callable[..., Any]) -> None:
    out = volumes.parent / "slices"
    assert guidino("slices", volumes, "-o", out, "--shard", "1/2").stdout.startswith("6 slices of 2 volumes")
    written = (out / "a" / "0000.png").stat().st_mtime_ns
    assert guidino("slices", volumes, "-o", out).stdout.startswith("3 slices of 1 volume")
    assert (out / "a" / "0000.png").stat().st_mtime_ns == written
    result = guidino("slices", volumes, "-o", out, "--window", "50,100")
    assert result.code == 2
    assert "was begun with window [40.0, 400.0], not [50.0, 100.0]" in result.stderr


def test_a_damaged_volume_is_named_and_the_others_are_done(volumes: Path, guidino: Callable[..., Any]) -> None:
    (volumes / "b.nii").write_bytes(b"no volume")
    out = volumes.parent / "slices"
    result = guidino("slices", volumes, "-o", out)
    assert result.code == 6
    assert "b.nii" in result.stderr
    assert len(_pictures(out)) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--window", "soft"), "expected two numbers"),
        (("--window", "40,-400"), "--window 40,-400: expected a level and a width above 0"),
        (("--window", "40,nan"), "expected a level and a width above 0"),
        (("--shard", "3/2"), "expected NUMBER/COUNT such as 2/8"),
        (("--shard", "0/2"), "the first is 1/8"),
        (("--shard", "1.5/2"), "--shard 1.5/2: expected NUMBER/COUNT"),
        (("--shard", "inf/inf"), "--shard inf/inf: expected NUMBER/COUNT"),
    ],
)
def test_invalid_options_are_refused(
    volumes: Path, guidino: Callable[..., Any], options: tuple[str, str], message: str
) -> None:
    result = guidino("slices", volumes, "-o", volumes.parent / "slices", *options)
    assert result.code == 2
    assert message in result.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.nii", "a.nii and a.nii.gz would both be cut into a/; rename or remove one"),
        ("b/x.nii.gz", "b.nii would be cut into b/, as would b/x.nii.gz; rename one of them"),
    ],
)
@pytest.mark.parametrize("shard", ["1/1", "3/4"])
def test_volumes_that_would_be_cut_into_one_folder_are_refused_in_every_shard(
    volumes: Path, guidino: Callable[..., Any], name: str, message: str, shard: str
) -> None:
    (volumes / name).parent.mkdir(exist_ok=True)
    (volumes / name).write_bytes(b"")
    result = guidino("slices", volumes, "-o", volumes.parent / "slices", "--shard", shard)
    assert result.code == 3
    assert message in result.stderr
    assert not (volumes.parent / "slices").exists()
