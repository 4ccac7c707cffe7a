"""Mask readers: one rule for a folder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.data.masks.rule import MaskRule
from guidino_cli.data.masks.values import Histogram
from guidino_cli.errors import DataError
from guidino_cli.evaluation.mask_survey import Survey, find_common_labels, label_reader, make_reader, survey_masks
from guidino_cli.evaluation.masks import MaskReader, ReadOptions, UnexpectedValueError, index_reader
from guidino_cli.types import Geometry


def folder(place: Path, masks: list[np.ndarray]) -> list[Path]:
    paths = [place / f"{index:03}.png" for index in range(len(masks))]
    for path, mask in zip(paths, masks, strict=True):
        Image.fromarray(mask.astype(np.uint8)).save(path)
    return paths


def mask(*values: int) -> np.ndarray:
    return np.array([[0, *values]])


def test_an_empty_mask_does_not_change_the_rule(tmp_path: Path) -> None:
    paths = folder(tmp_path, [mask(0), mask(255), mask(0)])
    reader = make_reader(paths, ReadOptions())
    assert reader.read(paths[1]).labels.tolist() == [[0, 1]]
    assert reader.read(paths[0]).labels.tolist() == [[0, 0]]


def test_a_value_outside_the_sample_is_unexpected(tmp_path: Path) -> None:
    paths = folder(tmp_path, [mask(1)] * 60 + [mask(2)])
    reader = make_reader(paths, ReadOptions())
    with pytest.raises(UnexpectedValueError):
        reader.read(paths[60])
    assert make_reader(paths, ReadOptions(), read_all=True).read(paths[60]).labels.tolist() == [[0, 2]]


def test_a_palette_outside_the_sample_that_contradicts_it_is_refused(tmp_path: Path) -> None:
    paths = folder(tmp_path, [mask(1)] * 61)
    for index, path in enumerate(paths):
        image = Image.open(path)
        image.putpalette([0, 0, 0, 255, 0, 0] if index < 60 else [255, 0, 0, 0, 0, 0])
        image.save(path)
    reader = make_reader(paths, ReadOptions())
    with pytest.raises(UnexpectedValueError):
        reader.read(paths[60])
    with pytest.raises(DataError, match=r"palette index 0 is #000000 in 000\.png and #ff0000 in 060\.png"):
        make_reader(paths, ReadOptions(), read_all=True)
    by_colour = ReadOptions(codes=(((0, 0, 0), 0), ((255, 0, 0), 1)))
    assert make_reader(paths, by_colour).read(paths[60]).labels.tolist() == [[1, 0]]


def test_the_ignored_value_becomes_background_and_is_marked(tmp_path: Path) -> None:
    paths = folder(tmp_path, [mask(1, 255), mask(2, 255)])
    found = make_reader(paths, ReadOptions(ignore=255)).read(paths[0])
    assert found.labels.tolist() == [[0, 1, 0]]
    assert found.ignored is not None
    assert found.ignored.tolist() == [[False, False, True]]


def test_instances_keep_their_numbers(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 7, 60000]], dtype=np.uint16)).save(tmp_path / "a.png")
    reader: MaskReader = make_reader([tmp_path / "a.png"], ReadOptions(instances=True))
    found = reader.read(tmp_path / "a.png")
    assert found.instances is not None
    assert found.instances.tolist() == [[0, 7, 60000]]
    assert found.labels.tolist() == [[0, 1, 1]]


def test_no_readable_mask_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="none of 1 mask can be read"):
        make_reader([tmp_path / "a.png"], ReadOptions())


def test_masks_too_large_for_memory_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr("guidino_cli.evaluation.masks.read_labels", full)
    with pytest.raises(DataError, match=r"a\.png: not enough memory"):
        make_reader([tmp_path / "a.png"], ReadOptions())


def test_a_missing_label_between_the_sampled_ones_is_unexpected(tmp_path: Path) -> None:
    """The sample holds 0, 2 and 4; a later 1 is below the largest value and unknown all the same."""
    paths = folder(tmp_path, [mask(2, 4)] * 60 + [mask(4), mask(1)])
    reader = make_reader(paths, ReadOptions())
    with pytest.raises(UnexpectedValueError):
        reader.read(paths[61])
    assert reader.read(paths[60]).labels.tolist() == [[0, 4]]


@pytest.mark.parametrize(("count", "seen"), [(48, True), (49, False)])
def test_a_sample_is_drawn_from_more_than_48_masks(tmp_path: Path, count: int, seen: bool) -> None:
    """The sample of 49 masks leaves out the last one."""
    paths = folder(tmp_path, [mask(1)] * (count - 1) + [mask(2)])
    survey = survey_masks(paths, ReadOptions())
    assert survey.is_complete is seen
    assert survey.total == count
    assert survey.foreground == ({1, 2} if seen else {1})
    assert survey_masks(paths, ReadOptions(), read_all=True).foreground == {1, 2}


@pytest.mark.parametrize("second", [0, 255, 254])
def test_a_binary_sample_expects_no_other_value(tmp_path: Path, second: int) -> None:
    paths = folder(tmp_path, [mask(255)] * 60 + [mask(255, second)])
    reader = make_reader(paths, ReadOptions())
    if second == 254:
        with pytest.raises(UnexpectedValueError):
            reader.read(paths[60])
    else:
        assert reader.read(paths[60]).labels.tolist() == [[0, 1, int(second == 255)]]


def test_an_empty_sample_expects_only_empty_masks(tmp_path: Path) -> None:
    paths = folder(tmp_path, [mask(0)] * 60 + [mask(255)])
    with pytest.raises(UnexpectedValueError):
        make_reader(paths, ReadOptions()).read(paths[60])


def test_many_labels_are_compared_one_by_one(tmp_path: Path) -> None:
    """Six known values that leave a gap, in images of 16 bit: 5 is unexpected."""
    known = np.array([[0, 1, 2, 3, 4, 6]], dtype=np.uint16)
    paths = [tmp_path / f"{index:03}.png" for index in range(61)]
    for index, path in enumerate(paths):
        Image.fromarray(known + np.uint16(index == 60) * (known == 4)).save(path)
    reader = make_reader(paths, ReadOptions())
    assert reader.read(paths[0]).labels.tolist() == [[0, 1, 2, 3, 4, 6]]
    with pytest.raises(UnexpectedValueError):
        reader.read(paths[60])


@pytest.mark.parametrize(("middle", "unexpected"), [(2, False), (3, True)])
def test_a_lossy_mask_may_have_one_percent_between_the_clusters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, middle: int, unexpected: bool
) -> None:
    """2 of 200 pixels are 1 %. Values are as a reader of JPEG returns them, which Pillow would not write."""
    values = np.array([[0] * 100 + [255] * (100 - middle) + [120] * middle], dtype=np.uint8)
    monkeypatch.setattr(
        "guidino_cli.evaluation.masks.read_labels", lambda path: (values, Geometry.of_pixels("a", values.shape))
    )
    reader = MaskReader(MaskRule("threshold", "noise", 2, 127.0), frozenset({0, 3, 255}))
    if unexpected:
        with pytest.raises(UnexpectedValueError):
            reader.read(tmp_path / "a.jpg")
    else:
        assert reader.read(tmp_path / "a.jpg").labels.sum() == 100 - middle
    with pytest.raises(UnexpectedValueError):
        reader.read(tmp_path / "a.png")


def survey_of(*values: int, volumes: bool = False, kind: str = "grey") -> Survey:
    histogram = Histogram("a", (0, *values), (1,) * (len(values) + 1), len(values) + 1, kind)  # type: ignore[arg-type]
    return Survey((histogram,), 1, True, volumes)


@pytest.mark.parametrize(
    ("true", "predicted", "labels"),
    [
        ((1, 2), (1, 2), {1, 2}),
        ((1,), (2,), {1, 2}),
        ((1, 3), (2,), {1, 2, 3}),
        ((1,), (1,), set()),  # one label is a binary mask
        ((1,), (255,), set()),  # written in two ways
        ((1,), (16,), set()),  # larger than a label of an image
        ((1,), (15,), {1, 15}),
        ((1, 2), (1, 255), set()),  # may be an ignored value
    ],
)
def test_labels_of_images_up_to_15_are_compared_as_they_are(
    true: tuple[int, ...], predicted: tuple[int, ...], labels: set[int]
) -> None:
    assert find_common_labels(survey_of(*true), survey_of(*predicted)) == labels


@pytest.mark.parametrize(
    ("true", "predicted", "labels"),
    [((205,), (420,), {205, 420}), ((1,), (255,), set()), ((1,), (65535,), set()), ((1,), (254,), {1, 254})],
)
def test_labels_of_volumes_may_be_large(true: tuple[int, ...], predicted: tuple[int, ...], labels: set[int]) -> None:
    assert find_common_labels(survey_of(*true, volumes=True), survey_of(*predicted)) == labels


def test_two_small_values_that_may_be_one_are_asked_about() -> None:
    with pytest.raises(
        DataError, match="the only label of the truth is 2, of the predictions 255: different labels, or one mask"
    ):
        find_common_labels(survey_of(2), survey_of(255))
    assert find_common_labels(survey_of(16), survey_of(255)) == set()


def test_colours_are_no_labels() -> None:
    assert find_common_labels(survey_of(1, 2, kind="colour"), survey_of(1, 2)) == set()
    assert find_common_labels(survey_of(1, 2), survey_of(1, 2, kind="bool")) == set()


def test_more_labels_than_an_atlas_has_are_refused() -> None:
    """512 labels are allowed."""
    survey = survey_of(*range(1, 513), volumes=True)
    whole = Survey(
        (replace(survey.histograms[0], values=tuple(range(512)), counts=(1,) * 512, distinct=513),), 1, True, True
    )
    assert label_reader(survey, survey.foreground, ReadOptions()).rule.class_count == 513
    with pytest.raises(DataError, match="has 513 labels, expected at most 512 classes"):
        label_reader(whole, whole.foreground, ReadOptions())
    with pytest.raises(DataError, match="expected at most 512"):
        label_reader(survey, frozenset(range(1, 514)), ReadOptions())


def test_colours_of_instances_are_numbers(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[0, 0, 0], [1, 2, 3]]], dtype=np.uint8)).save(tmp_path / "a.png")
    found = make_reader([tmp_path / "a.png"], ReadOptions(instances=True)).read(tmp_path / "a.png").instances
    assert found is not None
    assert found.tolist() == [[0, 0x010203]]


def test_fractional_instance_numbers_are_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0.0, 0.5]]))
    with pytest.raises(DataError, match="fractional values, expected integer instance numbers"):
        make_reader([tmp_path / "a.npy"], ReadOptions(instances=True)).read(tmp_path / "a.npy")


def test_the_reader_of_prepared_masks_refuses_other_values(tmp_path: Path) -> None:
    (path,) = folder(tmp_path, [mask(1, 3)])
    with pytest.raises(DataError, match=r"000\.png: has values 3, expected class indices 0\.\.2"):
        index_reader(3).read(path)
    assert index_reader(4).read(path).labels.tolist() == [[0, 1, 3]]


def test_negative_values_are_no_labels() -> None:
    negative = Survey((Histogram("a", (-1, 0, 2), (1, 1, 1), 3, "grey"),), 1, True, False)
    assert not negative.is_label_map
    assert find_common_labels(negative, survey_of(1, 2)) == set()
    assert survey_of(1, 2).is_label_map
    assert survey_of(kind="bool").is_label_map
