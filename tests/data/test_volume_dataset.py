"""Samples of volumes: where they lie, what they depend on, and what they show."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from volumes_data import make_volumes

from guidino_cli.config import DataSettings
from guidino_cli.data.cases import IGNORED
from guidino_cli.data.dataset import SampleIndex
from guidino_cli.data.manifest import Manifest, load_manifest
from guidino_cli.data.volume_dataset import PatchDataset, Sampling, SliceDataset, StepSampler, patch_corner
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing
from guidino_cli.errors import DataError
from guidino_cli.types import Case, VolumeSample


def _sampling(manifest: Manifest, **changes: object) -> Sampling:
    settings = DataSettings(slice_axis=str(changes.pop("slice_axis", "z")), intensity=changes.pop("intensity", "auto"))  # type: ignore[arg-type]
    values = {"num_classes": len(manifest.classes), "batch_size": 3, "foreground_share": 0.33, "length": 30, "seed": 5}
    return Sampling(VolumePreprocessing.from_manifest(manifest, settings), **(values | changes))  # type: ignore[arg-type]


def _slices(
    folder: Path, *, image_size: int = 24, resize: str = "none", slab: int = 1, **changes: object
) -> SliceDataset:
    manifest = load_manifest(folder)
    sampling = _sampling(manifest, **changes)
    return SliceDataset(manifest.select("train"), sampling, image_size=image_size, resize=resize, slab=slab)  # type: ignore[arg-type]


def _patches(folder: Path, patch_size: tuple[int, int, int], **changes: object) -> PatchDataset:
    manifest = load_manifest(folder)
    return PatchDataset(manifest.select("train"), _sampling(manifest, **changes), patch_size=patch_size)


def _stored(case: Case) -> tuple[np.ndarray, np.ndarray]:
    assert case.volume is not None
    assert case.volume.labels is not None
    return np.load(case.volume.image), np.load(case.volume.labels)


def _with_foreground(folder: Path, name: str, rows: list[list[int]]) -> None:
    np.save(folder / "foreground" / f"{name}.npy", np.array(rows, dtype=np.int32).reshape(-1, 4))


def _equal(first: VolumeSample, second: VolumeSample) -> bool:
    """Whether two samples that are not augmented are the same; noise is drawn by the augmentation."""
    assert first.noise == second.noise == ()
    return all(torch.equal(a, b) for a, b in zip(first[:-1], second[:-1], strict=True))


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_slice_is_that_of_the_stored_volume_between_its_percentiles(tmp_path: Path, axis: str) -> None:
    data = _slices(make_volumes(tmp_path), slice_axis=axis)
    sample = data[SampleIndex(0, 0)]
    case = data.cases[int(sample.case_index)]
    values, labels = _stored(case)
    number, top, left = sample.corner.tolist()
    assert (top, left) == (0, 0)
    plane = np.take(values[0], number, axis="zyx".index(axis)).astype(float)
    assert case.volume is not None
    low, high = (getattr(case.volume.statistics[0], f"percentile_{name}") for name in ("00_5", "99_5"))
    height, width = plane.shape
    expected = ((plane - low) / (high - low)).clip(0, 1)
    np.testing.assert_allclose(sample.image[0, :height, :width].numpy(), expected, atol=1e-6)
    assert not sample.image[0, height:].any()
    assert not sample.image[0, :, width:].any()
    np.testing.assert_array_equal(sample.mask[:height, :width], np.take(labels, number, axis="zyx".index(axis)))


def test_last_third_of_a_batch_is_forced_and_the_slice_is_that_of_a_foreground_voxel(tmp_path: Path) -> None:
    # 33 % of 3 samples: one, the last. Each case is told to have foreground in slice 7 only.
    folder = make_volumes(tmp_path)
    for number in range(3):
        _with_foreground(folder, f"case{number}", [[1, 7, 3, 3]])
    data = _slices(folder)
    slices = [int(data[SampleIndex(0, position)].corner[0]) for position in range(30)]
    assert slices[2::3] == [7] * 10
    others = [number for position, number in enumerate(slices) if position % 3 != 2]
    assert len(set(others)) > 6


def test_classes_of_a_case_are_forced_equally_often_whatever_their_size(tmp_path: Path) -> None:
    folder = make_volumes(tmp_path, train=1, num_classes=3)
    _with_foreground(folder, "case0", [[1, 2, 0, 0]] + [[2, 5, 0, 0]] * 99)
    data = _slices(folder, foreground_share=1.0)
    found = Counter(int(data[SampleIndex(0, position)].corner[0]) for position in range(200))
    # Binomial of 200 and 1/2: 100 with a deviation of 7.
    assert set(found) == {2, 5}
    assert 70 < found[2] < 130


def test_a_case_without_foreground_is_drawn_as_often_and_gives_uniform_slices(tmp_path: Path) -> None:
    folder = make_volumes(tmp_path, train=2)
    _with_foreground(folder, "case0", [])
    data = _slices(folder, foreground_share=1.0)
    samples = [data[SampleIndex(0, position)] for position in range(200)]
    empty = [int(sample.corner[0]) for sample in samples if int(sample.case_index) == 0]
    assert 70 < len(empty) < 130
    assert set(empty) == set(range(12))


def test_a_batch_of_one_is_forced_in_its_share_of_the_steps(tmp_path: Path) -> None:
    folder = make_volumes(tmp_path, train=1)
    _with_foreground(folder, "case0", [[1, 7, 3, 3]])
    data = _slices(folder, batch_size=1)
    share = np.mean([int(data[SampleIndex(0, position)].corner[0]) == 7 for position in range(400)])
    # A third, and a twelfth of the other two thirds: 0.386, deviation 0.024.
    assert share == pytest.approx(0.386, abs=0.08)


def test_crop_is_centred_on_the_voxel_and_clipped_at_the_border(tmp_path: Path) -> None:
    folder = make_volumes(tmp_path, train=1, shape=(4, 40, 40))
    for voxel, corner in (((1, 20, 25), (12, 17)), ((1, 1, 39), (0, 24))):
        _with_foreground(folder, "case0", [[1, *voxel]])
        sample = _slices(folder, image_size=16, foreground_share=1.0)[SampleIndex(0, 0)]
        assert sample.corner.tolist() == [1, *corner]
        assert sample.image.shape == (1, 16, 16)
        assert sample.mask.shape == (16, 16)


def test_crop_of_a_resized_slice_is_centred_on_where_the_voxel_went(tmp_path: Path) -> None:
    # The shorter side, 20, becomes 40: row 30.5 is at 61, less half of 40.
    folder = make_volumes(tmp_path, train=1, shape=(4, 60, 20))
    _with_foreground(folder, "case0", [[1, 2, 30, 10]])
    sample = _slices(folder, image_size=40, resize="shorter", foreground_share=1.0)[SampleIndex(0, 0)]
    assert sample.corner.tolist() == [2, 41, 0]


def test_longer_pads_a_narrow_slice_with_what_does_not_count(tmp_path: Path) -> None:
    data = _slices(make_volumes(tmp_path, shape=(4, 20, 10)), image_size=32, resize="longer")
    sample = data[SampleIndex(0, 2)]
    assert sample.image.shape == (1, 32, 32)
    assert set(sample.mask[:, 16:].unique().tolist()) == {255}
    assert 255 not in sample.mask[:, :16]


def test_stretch_shows_the_whole_slice_in_the_square(tmp_path: Path) -> None:
    data = _slices(make_volumes(tmp_path, shape=(4, 20, 10)), image_size=32, resize="stretch")
    sample = data[SampleIndex(0, 2)]
    _, labels = _stored(data.cases[int(sample.case_index)])
    plane = labels[int(sample.corner[0])]
    assert sample.image.shape == (1, 32, 32)
    assert sample.mask.float().mean().item() == pytest.approx(plane.mean(), abs=0.05)


def test_slab_has_the_neighbours_as_channels_and_repeats_the_edges(tmp_path: Path) -> None:
    folder = make_volumes(tmp_path, train=1)
    _with_foreground(folder, "case0", [[1, 0, 3, 3]])
    slabs, singles = (_slices(folder, slab=slab, foreground_share=1.0) for slab in (5, 1))
    image = slabs[SampleIndex(0, 0)].image
    assert image.shape[0] == 5
    by_slice = {0: singles[SampleIndex(0, 0)].image[0]}
    for number in (1, 2):
        _with_foreground(folder, "case0", [[1, number, 3, 3]])
        by_slice[number] = _slices(folder, foreground_share=1.0)[SampleIndex(0, 0)].image[0]
    for channel, number in zip(image, (0, 0, 0, 1, 2), strict=True):
        torch.testing.assert_close(channel, by_slice[number])


def test_slab_of_two_channels_has_both_channels_of_a_slice_side_by_side(tmp_path: Path) -> None:
    data = _slices(make_volumes(tmp_path, channels=("T1", "T2")), slab=3)
    sample = data[SampleIndex(0, 0)]
    values, _ = _stored(data.cases[int(sample.case_index)])
    number = int(sample.corner[0])
    height, width = values.shape[2:]
    assert sample.image.shape[0] == 6
    for index in range(2):
        shown, stored = sample.image[2 + index, :height, :width].numpy(), values[index, number]
        assert np.corrcoef(shown.ravel(), stored.ravel())[0, 1] > 0.99


def test_patch_lies_where_its_corner_says_and_repeats_the_last_slice(tmp_path: Path) -> None:
    folder = make_volumes(tmp_path, train=1, shape=(5, 20, 16))
    data = _patches(folder, (8, 8, 16), intensity="zscore")
    sample = data[SampleIndex(0, 0)]
    first, top, left = sample.corner.tolist()
    assert (first, left) == (0, 0)
    values, labels = _stored(data.cases[0])
    part = values[0, :, top : top + 8].astype(float)
    expected = (part - values[0].mean()) / values[0].std()
    np.testing.assert_allclose(sample.image[0, :5].numpy(), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(sample.mask[:5].numpy(), labels[:, top : top + 8])
    for beyond in range(5, 8):
        assert torch.equal(sample.image[:, beyond], sample.image[:, 4])
        assert torch.equal(sample.mask[beyond], sample.mask[4])


def test_patch_has_the_slices_first(tmp_path: Path) -> None:
    folder = make_volumes(tmp_path, train=1, shape=(12, 20, 16))
    sample = _patches(folder, (20, 12, 16), slice_axis="y")[SampleIndex(0, 0)]
    values, labels = _stored(load_manifest(folder).select("train")[0])
    np.testing.assert_array_equal(sample.mask.numpy(), labels.transpose(1, 0, 2))
    assert np.corrcoef(sample.image[0].ravel(), values[0].transpose(1, 0, 2).ravel())[0, 1] > 0.99


@pytest.mark.parametrize(
    ("voxel", "corner"), [((10, 2, 9), (6, 0, 7)), ((19, 5, 10), (12, 1, 8)), ((0, 9, 0), (0, 2, 0))]
)
def test_patch_is_centred_on_the_voxel_inside_the_volume(
    voxel: tuple[int, int, int], corner: tuple[int, int, int]
) -> None:
    assert patch_corner((20, 10, 12), (8, 8, 4), voxel, np.random.default_rng(0)) == corner


def test_uniform_patches_reach_both_ends_of_the_volume() -> None:
    generator = np.random.default_rng(0)
    corners = [patch_corner((20, 8, 12), (17, 8, 16), None, generator) for _ in range(200)]
    assert {corner[0] for corner in corners} == {0, 1, 2, 3}
    assert {corner[1:] for corner in corners} == {(0, 0)}


@pytest.mark.parametrize("dims", [2, 3])
def test_samples_depend_on_seed_epoch_and_position_only(tmp_path: Path, dims: int) -> None:
    folder = make_volumes(tmp_path)

    def build(seed: int) -> SliceDataset | PatchDataset:
        return _slices(folder, seed=seed) if dims == 2 else _patches(folder, (8, 8, 8), seed=seed)

    first, again, other = build(5), build(5), build(6)
    _ = [again[SampleIndex(1, position)] for position in (3, 1)]
    assert _equal(first[SampleIndex(1, 2)], again[SampleIndex(1, 2)])
    for changed in (first[SampleIndex(2, 2)], first[SampleIndex(1, 5)], other[SampleIndex(1, 2)]):
        assert not torch.equal(first[SampleIndex(1, 2)].image, changed.image)


def test_sampler_goes_on_after_the_skipped_positions_of_its_epoch() -> None:
    sampler = StepSampler(6)
    sampler.set_epoch(3)
    sampler.skipped = 4
    assert list(sampler) == [SampleIndex(3, 4), SampleIndex(3, 5)]
    assert len(sampler) == 6


def test_ignored_voxels_are_marked_and_others_are_not(tmp_path: Path) -> None:
    data = _patches(make_volumes(tmp_path, ignore_label=9, train=1), (12, 20, 16))
    mask = data[SampleIndex(0, 0)].mask
    assert (mask[-1] == IGNORED).all()
    assert set(mask[:-1].unique().tolist()) == {0, 1}


def test_a_class_that_the_data_does_not_have_is_named_with_its_file(tmp_path: Path) -> None:
    folder = make_volumes(tmp_path, train=1)
    np.save(folder / "labels" / "case0.npy", np.full((12, 20, 16), 4, dtype=np.uint8))
    with pytest.raises(DataError, match=r"case0.npy: has class 4, expected 0..1; run `guidino prepare` again"):
        _patches(folder, (12, 20, 16))[SampleIndex(0, 0)]


def test_sources_are_never_opened(tmp_path: Path) -> None:
    folder = make_volumes(tmp_path)
    for source in (folder / "sources").iterdir():
        source.unlink()
    assert _slices(folder)[SampleIndex(0, 0)].image.isfinite().all()
    assert _patches(folder, (8, 8, 8))[SampleIndex(0, 0)].image.isfinite().all()


def test_compressed_volumes_give_the_same_samples(tmp_path: Path) -> None:
    pytest.importorskip("blosc2")
    plain, compressed = make_volumes(tmp_path, "plain"), make_volumes(tmp_path, "compressed", suffix=".b2nd")
    for position in range(3):
        index = SampleIndex(0, position)
        assert _equal(_slices(plain, slice_axis="y")[index], _slices(compressed, slice_axis="y")[index])
        assert _equal(_patches(plain, (16, 8, 8))[index], _patches(compressed, (16, 8, 8))[index])


def test_masks_of_more_than_256_classes_keep_their_classes(tmp_path: Path) -> None:
    folder = make_volumes(tmp_path, train=1)
    np.save(folder / "labels" / "case0.npy", np.full((12, 20, 16), 300, dtype=np.uint16))
    manifest = load_manifest(folder)
    sampling = replace(_sampling(manifest), num_classes=301)
    for resize in ("none", "stretch"):
        data = SliceDataset(manifest.select("train"), sampling, image_size=16, resize=resize)  # type: ignore[arg-type]
        assert (data[SampleIndex(0, 0)].mask == 300).all()
