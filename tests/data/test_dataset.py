"""Training samples and their order: the same pixels and the same order for the same seed and epoch."""

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from guidino_cli.data.cases import read_label_map
from guidino_cli.data.dataset import EpochSampler, SampleIndex, SegmentationDataset, infinite_sample_indices
from guidino_cli.data.image_writing import write_label_map
from guidino_cli.data.images import read_image
from guidino_cli.data.manifest import load_manifest
from guidino_cli.errors import DataError

Maker = Callable[..., Path]


def _dataset(data: Path, **options: object) -> SegmentationDataset:
    settings = {
        "num_classes": 2,
        "image_size": 32,
        "resize": "none",
        "foreground_crops": 0.0,
        "cache_gb": 1.0,
        "seed": 0,
    }
    return SegmentationDataset(load_manifest(data).select("train"), **{**settings, **options})  # type: ignore[arg-type]


def test_a_sample_is_an_image_a_mask_and_its_case(make_data: Maker) -> None:
    sample = _dataset(make_data(), resize="stretch")[SampleIndex(0, 2)]
    assert (sample.image.shape, sample.image.dtype) == ((3, 32, 32), torch.float32)
    assert (sample.mask.shape, sample.mask.dtype) == ((32, 32), torch.int64)
    assert sample.case_index.item() == 2
    assert 0 <= sample.image.min() <= sample.image.max() <= 1


def test_a_crop_is_a_piece_of_the_image_and_the_same_piece_of_the_mask(make_data: Maker) -> None:
    dataset = _dataset(make_data())
    pixels, _ = read_image(dataset.cases[0].image)
    assert dataset.cases[0].mask is not None
    labels = read_label_map(dataset.cases[0].mask)
    sample = dataset[SampleIndex(0, 0)]
    crop = (sample.image * 255).round().byte().numpy().transpose(1, 2, 0)
    places = [(y, x) for y in range(9) for x in range(17) if np.array_equal(pixels[y : y + 32, x : x + 32], crop)]
    assert len(places) == 1
    y, x = places[0]
    assert np.array_equal(labels[y : y + 32, x : x + 32], sample.mask.numpy())


def test_the_crop_depends_only_on_the_epoch_and_the_seed(make_data: Maker) -> None:
    data = make_data()
    first, again, other = _dataset(data), _dataset(data), _dataset(data, seed=1)
    again[SampleIndex(0, 3)]
    index = SampleIndex(0, 0)
    assert torch.equal(first[index].image, again[index].image)
    assert not torch.equal(first[index].image, other[index].image)
    assert not torch.equal(first[index].image, first[SampleIndex(1, 0)].image)


def test_foreground_crops_are_centred_on_the_foreground(make_data: Maker) -> None:
    """A single foreground pixel in a corner: by chance it would hardly ever be in a crop of a tenth of the side."""
    data = make_data(train=1, size_hw=(160, 160))
    case = load_manifest(data).select("train")[0]
    assert case.mask is not None
    labels = np.zeros((160, 160), dtype=np.uint8)
    labels[80, 100] = 1
    write_label_map(case.mask, labels)
    dataset = _dataset(data, image_size=16, foreground_crops=1.0)
    for epoch in range(5):
        assert dataset[SampleIndex(epoch, 0)].mask[8, 8] == 1


def test_an_image_without_foreground_is_cropped_anywhere(make_data: Maker) -> None:
    data = make_data(train=1, num_classes=1)
    assert _dataset(data, foreground_crops=1.0)[SampleIndex(0, 0)].mask.sum() == 0


def test_an_image_smaller_than_a_sample_is_padded_at_the_bottom_and_right(make_data: Maker) -> None:
    sample = _dataset(make_data(size_hw=(20, 24)))[SampleIndex(0, 0)]
    assert sample.image.shape == (3, 32, 32)
    assert sample.image[:, 20:].abs().sum() == 0
    assert sample.image[:, :, 24:].abs().sum() == 0
    assert sample.mask[20:].sum() == 0
    assert sample.image[:, :20, :24].abs().sum() > 0


def test_with_longer_an_image_keeps_its_shape_and_the_padding_does_not_count(make_data: Maker) -> None:
    # 48 x 40 px, width x height: the width becomes 32 and the height 32 * 40 / 48, rounded 27.
    sample = _dataset(make_data(), resize="longer")[SampleIndex(0, 0)]
    assert sample.image.shape == (3, 32, 32)
    assert sample.image[:, 27:].max() == 0
    assert sample.image[:, :27].min(dim=2).values.max() > 0
    assert set(sample.mask[27:].unique().tolist()) == {255}
    assert set(sample.mask[:27].unique().tolist()) == {0, 1}


@pytest.mark.parametrize(("cache_gb", "kept"), [(1.0, 4), (0.0, 0), (2 * 32 * 32 * 4 / 1e9, 2)])
def test_the_cache_keeps_no_more_than_its_limit(cache_gb: float, kept: int, make_data: Maker) -> None:
    """A sample of 32 x 32 pixels takes three bytes a pixel for the image and one for the mask."""
    dataset = _dataset(make_data(), resize="stretch", cache_gb=cache_gb)
    before = [dataset[SampleIndex(0, i)].image for i in range(4)]
    for case in dataset.cases:
        case.image.unlink()
    cached = 0
    for i in range(4):
        try:
            assert torch.equal(dataset[SampleIndex(0, i)].image, before[i])
            cached += 1
        except DataError:
            pass
    assert cached == kept


# --- Refusals


def test_a_mask_of_another_size_names_both_files(make_data: Maker) -> None:
    data = make_data()
    case = load_manifest(data).select("train")[0]
    assert case.mask is not None
    write_label_map(case.mask, np.zeros((10, 10), dtype=np.uint8))
    with pytest.raises(DataError, match=r"masks/case0\.png: is 10x10 px .*, its image .*images/case0\.png is 48x40;"):
        _dataset(data)[SampleIndex(0, 0)]


def test_a_class_that_does_not_exist_is_refused_by_name(make_data: Maker) -> None:
    with pytest.raises(DataError, match=r"masks/case0\.png: has class 2, expected 0\.\.1"):
        _dataset(make_data(num_classes=3))[SampleIndex(0, 0)]


def test_a_case_without_a_mask_is_refused(make_data: Maker) -> None:
    from dataclasses import replace

    dataset = _dataset(make_data())
    dataset.cases = [replace(dataset.cases[0], mask=None)]
    with pytest.raises(DataError, match="has no mask"):
        dataset[SampleIndex(0, 0)]


def test_a_missing_image_is_refused_by_name(make_data: Maker) -> None:
    dataset = _dataset(make_data())
    dataset.cases[0].image.unlink()
    with pytest.raises(DataError, match=r"case0\.png: no such file"):
        dataset[SampleIndex(0, 0)]


def test_a_photograph_with_exif_rotation_fits_its_rotated_mask(make_data: Maker) -> None:
    data = make_data(train=1)
    case = load_manifest(data).select("train")[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(case.image).transpose(Image.Transpose.ROTATE_90).save(case.image, exif=exif)
    assert _dataset(data)[SampleIndex(0, 0)].image.shape == (3, 32, 32)


def _order(seed: int, epoch: int, *, skipped: int = 0) -> list[SampleIndex]:
    sampler = EpochSampler(20, seed=seed)
    sampler.set_epoch(epoch)
    sampler.skipped = skipped
    return list(sampler)


def test_an_epoch_has_every_case_once_with_the_epoch_in_its_index() -> None:
    assert sorted(_order(0, 7)) == [(7, case) for case in range(20)]


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    cases = {name: [index.case for index in _order(*name)] for name in ((0, 3), (0, 4), (1, 3))}
    assert cases[0, 3] == [index.case for index in _order(0, 3)]
    assert cases[0, 3] != cases[0, 4]
    assert cases[0, 3] != cases[1, 3]


def test_an_epoch_continues_after_the_skipped_cases() -> None:
    assert _order(0, 3, skipped=13) == _order(0, 3)[13:]
    assert _order(0, 3, skipped=20) == []


def test_infinite_indices_are_whole_epochs_one_after_the_other() -> None:
    indices = list(islice(infinite_sample_indices(5, seed=3), 15))
    for epoch in range(3):
        part = indices[5 * epoch : 5 * epoch + 5]
        sampler = EpochSampler(5, seed=3)
        sampler.set_epoch(epoch)
        assert part == list(sampler)


def test_infinite_indices_continue_from_the_start_position() -> None:
    assert list(islice(infinite_sample_indices(5, seed=3, start=7), 6)) == list(
        islice(infinite_sample_indices(5, seed=3), 7, 13)
    )


def test_ignored_pixels_have_one_value_and_no_crop_is_centred_on_them(tmp_path: Path) -> None:
    from guidino_cli.types import Case

    labels = np.zeros((32, 200), dtype=np.uint8)
    labels[:, 150:] = 7
    labels[:, 5] = 1
    Image.fromarray(np.zeros((32, 200, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    write_label_map(tmp_path / "mask.png", labels)
    case = Case("a", tmp_path / "a.png", tmp_path / "mask.png", "train", None, "a", (32, 200), 0.1, ignore_label=7)
    settings = {"num_classes": 2, "image_size": 32, "resize": "none", "cache_gb": 0.0, "seed": 0}
    dataset = SegmentationDataset([case], foreground_crops=1.0, **settings)  # type: ignore[arg-type]
    # Centred on column 5, as far as the image allows.
    assert all(dataset[SampleIndex(epoch, 0)].mask[:, 5].eq(1).all() for epoch in range(20))
    anywhere = SegmentationDataset([case], foreground_crops=0.0, **settings)  # type: ignore[arg-type]
    seen = {value for epoch in range(40) for value in anywhere[SampleIndex(epoch, 0)].mask.unique().tolist()}
    assert 255 in seen
    assert seen <= {0, 1, 255}
