"""The grid of the prepared data, and the axes that a network sees."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from guidino_cli.config import DataSettings
from guidino_cli.data.manifest import Manifest, load_manifest, save_manifest
from guidino_cli.data.volumes.canonical import find_orientation
from guidino_cli.data.volumes.grid import Grid, Volume
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing, count_nonfinite, to_stored_grid
from guidino_cli.errors import DataError
from guidino_cli.types import Case, ChannelStatistics, Geometry, StoredVolume, VolumeSource

_STATISTICS = ChannelStatistics(0, 1000, 100, 50, 90, 10, 300)
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def _volume(values: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Volume:
    geometry = Geometry("a.nii", values.shape[:0:-1], spacing[::-1], "mm", _LPS * np.array([*spacing[::-1], 1.0]))
    return Volume(values, Grid(geometry, find_orientation(geometry), None, VolumeSource(Path("a.nii"))))


def _manifest(folder: Path, *spacings: tuple[float, float, float]) -> Manifest:
    cases = [
        Case(
            id=f"case{number}",
            image=folder / f"{number}.nii.gz",
            mask=folder / "masks" / f"case{number}.nii.gz",
            split="train",
            fold=None,
            group=f"case{number}",
            size_hw=(5, 6),
            foreground=0.1,
            volume=StoredVolume(
                sources=(VolumeSource(folder / "series", "0123456789ab"), VolumeSource(folder / "b.nii")),
                image=folder / "volumes" / "a.npy",
                labels=folder / "labels" / "a.npy",
                foreground=None,
                shape=(4, 5, 6),
                spacing_mm=spacing,
                statistics=(_STATISTICS, _STATISTICS),
                orientation="PSR",
            ),
        )
        for number, spacing in enumerate(spacings)
    ]
    return Manifest(
        "a",
        ["background", "organ"],
        cases,
        channels=("CT", "PT"),
        spacing_mm=(None, 1.0, 1.0),
        statistics=(_STATISTICS,) * 2,
    )


def test_a_volume_that_keeps_its_grid_keeps_its_values_and_type() -> None:
    values = np.arange(120, dtype=np.int16).reshape(1, 4, 5, 6)
    stored = to_stored_grid(_volume(values), (None, None, None))
    assert stored.values.dtype == np.int16
    assert np.array_equal(stored.values, values)
    assert stored.statistics[0].mean == pytest.approx(59.5)
    assert stored.long_axis is None


def test_a_volume_is_resampled_to_the_target_spacing() -> None:
    values = np.full((2, 4, 10, 10), 3, dtype=np.int16)
    stored = to_stored_grid(_volume(values, (5.0, 1.0, 1.0)), (None, 0.5, 2.0))
    assert stored.values.shape == (2, 4, 20, 5)
    assert stored.spacing_mm == (5.0, 0.5, 2.0)
    assert stored.long_axis == 0
    assert np.allclose(stored.values, 3)


def test_voxels_without_a_value_get_the_smallest_of_their_channel() -> None:
    values = np.array([5.5, np.nan, 7.0, np.inf], dtype=np.float32).reshape(1, 1, 2, 2)
    assert count_nonfinite(values) == 2
    stored = to_stored_grid(_volume(values), (None, None, None))
    assert stored.values.ravel().tolist() == [5.5, 5.5, 7.0, 5.5]


@pytest.mark.parametrize(
    ("spacings", "axis", "axes"),
    [
        ([(5.0, 1.0, 1.0), (1.0, 1.0, 1.0), (5.0, 1.0, 1.0)], 0, (0, 1, 2)),
        ([(1.0, 1.0, 1.0)], 0, (0, 1, 2)),
        # Sagittal slices of a spine.
        ([(1.0, 1.0, 3.0)], 2, (2, 0, 1)),
        ([(1.0, 3.0, 1.0)], 1, (1, 0, 2)),
    ],
)
def test_slices_are_cut_across_the_axis_of_the_largest_spacing(
    tmp_path: Path, spacings: list[tuple[float, float, float]], axis: int, axes: tuple[int, int, int]
) -> None:
    found = VolumePreprocessing.from_manifest(_manifest(tmp_path, *spacings), DataSettings())
    assert (found.slice_axis, found.axes) == (axis, axes)
    assert (
        VolumePreprocessing.from_manifest(_manifest(tmp_path, *spacings), DataSettings(slice_axis="y")).slice_axis == 1
    )


def test_a_run_records_what_it_needs_to_prepare_other_volumes(tmp_path: Path) -> None:
    settings = DataSettings(intensity=["windows", "suv"])
    wanted = VolumePreprocessing.from_manifest(_manifest(tmp_path, (1.0, 1.0, 3.0)), settings)
    assert wanted.outputs == 4
    assert VolumePreprocessing.from_facts(json.loads(json.dumps(wanted.to_facts())), settings) == wanted


def test_each_channel_is_mapped_by_its_own_rule(tmp_path: Path) -> None:
    preprocessing = VolumePreprocessing.from_manifest(_manifest(tmp_path, (1.0, 1.0, 1.0)), DataSettings())
    mapped = preprocessing.normalize(np.array([[155.0], [5.0]]), (_STATISTICS, _STATISTICS))
    # CT: (155 - 10) / 290; PET: 5 / 20.
    assert mapped.ravel().tolist() == pytest.approx([0.5, 0.25])


def test_a_manifest_of_volumes_is_read_back(tmp_path: Path) -> None:
    manifest = _manifest(tmp_path, (1.0, 1.0, 3.0), (2.0, 1.0, 3.0))
    save_manifest(manifest, tmp_path)
    assert json.loads((tmp_path / "cases.json").read_text())["format"] == 2
    assert load_manifest(tmp_path) == manifest


def test_images_among_volumes_are_refused(tmp_path: Path) -> None:
    manifest = _manifest(tmp_path, (1.0, 1.0, 3.0), (1.0, 1.0, 3.0))
    mixed = replace(manifest, cases=[replace(manifest.cases[0], volume=None), manifest.cases[1]])
    save_manifest(mixed, tmp_path)
    with pytest.raises(DataError, match="case case0 is an image among volumes; prepare images and volumes apart"):
        load_manifest(tmp_path)
