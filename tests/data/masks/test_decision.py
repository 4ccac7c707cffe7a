"""Deciding on one mask rule for a folder."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.data.masks.decision import decide_mask_rule
from guidino_cli.data.masks.rule import MaskRule, apply_mask_rule, parse_classes
from guidino_cli.data.masks.values import compute_histogram, read_with_histogram
from guidino_cli.errors import DataError


def _rule(*masks: Sequence[object], lossy: bool = False, **options: object) -> MaskRule:
    found = [
        compute_histogram(np.array(values).reshape(1, -1), name=f"{index}.png", is_lossy=lossy)
        for index, values in enumerate(masks)
    ]
    return decide_mask_rule(found, **options)  # type: ignore[arg-type]


def _labels(rule: MaskRule, *values: object) -> list[int]:
    return apply_mask_rule(rule, np.array(values).reshape(1, -1)).ravel().tolist()


@pytest.mark.parametrize("value", [1, 255, 38, 65535])
def test_zero_and_one_other_value_is_a_binary_mask(value: int) -> None:
    rule = _rule([0, value], [value, value])
    assert rule.kind == "nonzero"
    assert _labels(rule, 0, value, 0) == [0, 1, 0]


def test_an_empty_mask_does_not_change_the_rule() -> None:
    with_empty = _rule([0, 255], [0, 0], [0, 255])
    assert _labels(with_empty, 255, 0) == [1, 0]
    assert _rule([0, 1, 2], [0, 0]).kind == "index"


def test_jpeg_noise_is_cut_at_127_and_not_at_zero() -> None:
    rule = _rule([0, 3, 7, 249, 255], lossy=True)
    assert rule.kind == "threshold"
    assert _labels(rule, 0, 7, 249, 255, 127, 128) == [0, 0, 1, 1, 0, 1]


def test_jpeg_noise_copied_into_a_png_is_still_noise() -> None:
    assert _labels(_rule([0, 1, 5, 254, 255]), 5, 254) == [0, 1]


def test_a_lossy_file_may_have_one_percent_of_its_pixels_between_the_clusters() -> None:
    allowed = [0, 3, 252, 255] * 50 + [120, 130]
    assert _rule(allowed, lossy=True).kind == "threshold"
    with pytest.raises(DataError, match=r"0\.png"):
        _rule([*allowed, 110, 115, 140], lossy=True)


def test_one_pixel_between_the_clusters_of_a_lossless_file_is_refused_by_name() -> None:
    clean = [0, 255] * 100
    with pytest.raises(DataError, match=r"--threshold.*1\.png \(3 values: 0, 120, 255\)$"):
        _rule(clean, [*clean, 120])


def test_a_lone_file_of_another_convention_is_named() -> None:
    with pytest.raises(DataError, match=r"2 hold 0 and 255, 1 another value.*Files: 2\.png \(2 values: 0, 1\)$"):
        _rule([0, 255], [0, 255], [0, 1])


def test_small_integers_are_class_indices() -> None:
    rule = _rule([0, 1], [0, 2])
    assert (rule.kind, rule.class_count) == ("index", 3)
    assert _labels(rule, 0, 1, 2) == [0, 1, 2]


def test_the_sentence_names_a_class_that_no_pixel_has() -> None:
    assert "no pixel has 2" in _rule([0, 1, 3]).sentence


def test_indices_with_255_are_refused_because_255_may_mean_ignore() -> None:
    with pytest.raises(DataError, match="ignore"):
        _rule([0, 1, 2, 255])


def test_grey_classes_are_refused_with_a_table_to_paste() -> None:
    with pytest.raises(DataError, match="--classes '0=background,128=class_1,200=class_2'"):
        _rule([0, 128, 200])


def test_a_table_maps_grey_values_in_any_order() -> None:
    rule = _rule([0, 128, 255], codes={255: 0, 128: 1, 0: 2})
    assert _labels(rule, 255, 128, 0) == [0, 1, 2]


def test_a_value_that_the_table_does_not_name_is_refused_with_the_file() -> None:
    with pytest.raises(DataError, match=r"1\.png: has values 7 "):
        _rule([0, 255], [0, 7], codes={0: 0, 255: 1})


def test_an_instance_map_is_refused_unless_binary_is_asked_for() -> None:
    with pytest.raises(DataError, match=r"instance maps.*--binary"):
        _rule(list(range(300)))
    assert _labels(_rule(list(range(300)), binary=True), 0, 1, 299) == [0, 1, 1]


def test_indices_in_a_jpeg_are_refused() -> None:
    with pytest.raises(DataError, match="lossy"):
        _rule([0, 1, 2], lossy=True)


def test_more_values_than_named_classes_are_refused() -> None:
    with pytest.raises(DataError, match="3 classes are named"):
        _rule([0, 1, 2, 3], class_count=3)


def test_three_named_classes_keep_an_absent_one() -> None:
    rule = _rule([0, 2], class_count=3)
    assert (rule.kind, rule.class_count, _labels(rule, 0, 2)) == ("index", 3, [0, 2])


def test_one_bit_masks_agree_with_0_255_masks() -> None:
    found = [compute_histogram(np.array([[0, 255]]), name="a"), compute_histogram(np.array([[False, True]]), name="b")]
    rule = decide_mask_rule(found)
    assert apply_mask_rule(rule, np.array([[True, False]])).tolist() == [[1, 0]]
    assert apply_mask_rule(rule, np.array([[255, 0]])).tolist() == [[1, 0]]


def test_probabilities_need_a_threshold() -> None:
    with pytest.raises(DataError, match=r"--threshold 0\.5"):
        _rule([0.1, 0.9])
    assert _labels(_rule([0.1, 0.9], threshold=0.5), 0.1, 0.9) == [0, 1]


def test_whole_numbers_stored_as_floats_are_indices() -> None:
    assert _labels(_rule([0.0, 1.0, 2.0]), 0.0, 2.0) == [0, 2]


def test_black_and_one_colour_is_binary() -> None:
    colour = np.zeros((1, 2, 3), dtype=np.uint8)
    colour[0, 1] = (0, 0, 200)
    assert apply_mask_rule(decide_mask_rule([compute_histogram(colour, name="a")]), colour).tolist() == [[0, 1]]


def test_more_colours_are_refused_with_the_found_ones_to_paste() -> None:
    colours = np.array([[[0, 0, 0], [255, 0, 0], [255, 0, 0], [0, 255, 0]]], dtype=np.uint8)
    with pytest.raises(DataError, match="--classes '#000000=background,#ff0000=class_1,#00ff00=class_2'"):
        decide_mask_rule([compute_histogram(colours, name="a")])
    rule = decide_mask_rule(
        [compute_histogram(colours, name="a")], codes={(0, 0, 0): 0, (255, 0, 0): 1, (0, 255, 0): 2}
    )
    assert apply_mask_rule(rule, colours).tolist() == [[0, 1, 1, 2]]


def test_an_all_black_file_fits_a_colour_table() -> None:
    rule = _rule([0, 0], codes={(0, 0, 0): 0, (255, 0, 0): 1})
    assert _labels(rule, 0, 0) == [0, 0]


def test_a_jpeg_mask_is_recognised_as_lossy(tmp_path: Path) -> None:
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[10:25, 10:25] = 255
    Image.fromarray(mask).save(tmp_path / "a.jpg", quality=90)
    values, found = read_with_histogram(tmp_path / "a.jpg")
    assert found.is_lossy
    assert (apply_mask_rule(decide_mask_rule([found]), values) == (mask > 0)).all()


def test_an_unexpected_value_is_refused_when_the_rule_is_applied() -> None:
    with pytest.raises(DataError, match=r"has values 5, expected class indices 0\.\.2"):
        _labels(_rule([0, 1, 2]), 0, 5)


def test_a_photograph_is_refused_without_a_table_of_its_colours() -> None:
    """Every pixel another colour, more than any mask has."""
    colours = np.stack(np.broadcast_arrays(np.arange(30)[:, None], np.arange(30), 7), axis=-1).astype(np.uint8)
    with pytest.raises(DataError) as refused:
        decide_mask_rule([compute_histogram(colours, name="a.jpg", is_lossy=True)] * 3)
    said = str(refused.value)
    assert said.startswith("a.jpg: has 3 channels and 900 colours, as a photograph has (one of 3 such files of 3)")
    assert "give the folder of the masks" in said
    assert "#" not in said
    assert len(said) < 300


def test_lossy_masks_of_three_named_classes_get_no_table_of_their_noise() -> None:
    noise = [value + step for value in (3, 128, 250) for step in (-3, -2, -1, 0, 0, 0, 1, 2, 3)]
    with pytest.raises(DataError) as refused:
        _rule(noise, lossy=True, class_count=3)
    said = str(refused.value)
    assert said.startswith("3 classes are named, but lossy masks with values around 3, 128, 250 cannot be read")
    assert "lossless PNG" in said
    assert "class_3" not in said


@pytest.mark.parametrize("value", [3, -1, 0.5])
def test_a_value_that_is_no_class_index_is_refused_on_reading(value: float) -> None:
    rule = MaskRule("index", "named", 3)
    assert _labels(rule, 0, 1, 2) == [0, 1, 2]
    with pytest.raises(DataError, match=r"expected class indices 0\.\.2"):
        _labels(rule, 0, value)


def test_a_table_of_indices_reads_a_mask_of_one_bit_as_0_and_1() -> None:
    assert _labels(MaskRule("codes", "table", 2, codes=((0, 0), (1, 1))), False, True) == [0, 1]
    assert _labels(MaskRule("codes", "table", 2, codes=((0, 0), (255, 1))), False, True) == [0, 1]


def test_one_colour_beside_a_grey_value_is_refused() -> None:
    red = np.array([[[0, 0, 0], [255, 0, 0]]], dtype=np.uint8)
    histograms = [compute_histogram(red, name="a"), compute_histogram(np.array([[0, 7]]), name="b")]
    with pytest.raises(DataError, match="colour masks"):
        decide_mask_rule(histograms)


@pytest.mark.parametrize(("value", "lossy", "kind"), [(128, False, "nonzero"), (224, True, "nonzero")])
def test_one_value_alone_is_foreground_unless_compression_made_it(value: int, lossy: bool, kind: str) -> None:
    assert _rule([0, value], lossy=lossy).kind == kind


@pytest.mark.parametrize("value", [1, 128, 223])
def test_one_value_below_the_upper_cluster_of_a_lossy_file_is_not_simply_foreground(value: int) -> None:
    with pytest.raises(DataError, match="lossy masks that are neither near 0 nor near 255"):
        _rule([0, value], lossy=True)


@pytest.mark.parametrize(("low", "high", "fits"), [(31, 224, True), (32, 224, False), (31, 223, False)])
def test_clusters_end_at_31_and_224(low: int, high: int, fits: bool) -> None:
    if fits:
        assert _rule([0, low, high, 255]).kind == "threshold"
    else:
        with pytest.raises(DataError):
            _rule([0, low, high, 255])


def test_small_values_without_an_upper_cluster_are_indices() -> None:
    assert _rule([0, 3, 15]).class_count == 16
    with pytest.raises(DataError, match=r"values that are no class indices.*Files: 1\.png \(3 values: 0, 3, 16\)$"):
        _rule([0, 3], [0, 3, 16])


def test_values_above_255_beside_small_ones_are_refused() -> None:
    with pytest.raises(DataError, match="masks with values above 255"):
        _rule([0, 3, 256])


@pytest.mark.parametrize("masks", [([0, 258, 1001],), ([0, 258], [0, 1001]), ([0, 3, 1001],), ([258, 1001],)])
def test_labels_above_255_are_offered_a_table_that_reads_them(masks: tuple[list[int], ...]) -> None:
    low, high = sorted({value for mask in masks for value in mask} - {0})
    with pytest.raises(DataError, match="masks with values above 255") as caught:
        _rule(*masks)
    table = f"0=background,{low}=class_1,{high}=class_2"
    assert f"--classes '{table}' names them, --binary makes" in str(caught.value)
    assert _labels(_rule(*masks, codes=parse_classes(table).codes), 0, low, high) == [0, 1, 2]


@pytest.mark.parametrize("count", [16, 17])
def test_more_than_16_values_may_be_instances(count: int) -> None:
    problem = "no class indices" if count == 16 else "many values"
    with pytest.raises(DataError, match=problem):
        _rule([0, *range(100, 100 + count - 1)])


def test_files_with_one_value_each_that_is_no_index_disagree() -> None:
    with pytest.raises(DataError, match=r"2 hold 0 and 100, 1 another value.*2\.png \(2 values: 0, 90\)$"):
        _rule([0, 100], [0, 100], [0, 90])


def test_two_named_classes_refuse_a_second_value_by_file() -> None:
    assert _rule([0, 5], class_count=2).kind == "nonzero"
    with pytest.raises(DataError, match=r"two classes are named.*Files: 1\.png \(2 values: 0, 7\)$"):
        _rule([0, 5], [0, 7], class_count=2)


def test_empty_masks_have_the_classes_that_were_named() -> None:
    assert (_rule([0, 0]).kind, _rule([0, 0]).class_count) == ("nonzero", 2)
    assert _rule([0, 0], class_count=3).class_count == 3
    assert "every mask is empty" in _rule([0, 0]).why
    assert "2 masks of 1 bit" in _rule([False, True], [False, False]).why


def test_negative_values_are_refused_by_file() -> None:
    with pytest.raises(DataError, match=r"negative values.*Files: 1\.png \(3 values: -1, 0, 1\)$"):
        _rule([0, 1], [-1, 0, 1])


def test_at_most_ten_files_are_listed() -> None:
    with pytest.raises(DataError, match=r"9\.png \(2 values: -1, 0\)$"):
        _rule(*[[-1, 0]] * 10)
    with pytest.raises(DataError, match=r"9\.png \(2 values: -1, 0\), and 1 more$"):
        _rule(*[[-1, 0]] * 11)


def test_the_sentence_says_how_much_lies_between_the_clusters() -> None:
    assert "0..3 and 252..255, and none between them" in _rule([0, 3, 252, 255]).why
    clean = [0, 255] * 100
    assert "0..0 and 254..255, and at most 0.50% of a file" in _rule(clean, [0, 254] * 99 + [255, 120], lossy=True).why


def test_a_binary_file_and_one_of_few_indices_are_two_conventions() -> None:
    with pytest.raises(DataError, match=r"small indices and 255.*Files: 1\.png \(3 values: 0, 1, 2\)$"):
        _rule([0, 255], [0, 1, 2])


def test_a_value_that_a_colour_table_does_not_name_is_refused() -> None:
    table = {(0, 0, 0): 0, (255, 0, 0): 1}
    with pytest.raises(DataError, match=r"0\.png: has values #070707 that --classes does not name"):
        _rule([0, 7], codes=table)
    red = np.array([[[0, 0, 0], [255, 0, 0]]], dtype=np.uint8)
    with pytest.raises(DataError, match=r"a: is a colour mask, but --classes gives grey values.*#ff0000=class_1"):
        decide_mask_rule([compute_histogram(red, name="a")], codes={0: 0, 255: 1})


def test_one_colour_without_black_is_refused() -> None:
    red = np.full((1, 2, 3), (255, 0, 0), dtype=np.uint8)
    with pytest.raises(DataError, match="colour masks with 1 colours"):
        decide_mask_rule([compute_histogram(red, name="a")])


def test_every_mask_counts_and_none_is_an_error() -> None:
    with pytest.raises(DataError, match="no masks to look at"):
        decide_mask_rule([])


def test_peaks_of_lossy_classes_are_more_than_16_apart() -> None:
    noise = [0] * 9 + [100] * 8 + [116] * 7 + [84] * 7 + [117] * 6 + [200] * 5
    with pytest.raises(DataError, match="values around 0, 100, 117 cannot"):
        _rule(noise, lossy=True, class_count=3)


def test_a_table_of_colours_names_seventeen_at_most() -> None:
    colours = np.zeros((1, 40, 3), dtype=np.uint8)
    colours[0, :20, 0] = np.arange(20)
    with pytest.raises(DataError, match=r"#000000=background.*=class_16'") as refused:
        decide_mask_rule([compute_histogram(colours, name="a")])
    assert "class_17" not in str(refused.value)


def test_grey_classes_are_suggested_for_sixteen_values_at_most() -> None:
    with pytest.raises(DataError, match="115=class_16' names them"):
        _rule([0, *range(100, 116)], class_count=2)
    with pytest.raises(DataError) as refused:
        _rule([0, *range(100, 117)], class_count=2)
    assert "names them" not in str(refused.value)


def test_an_empty_grey_mask_fits_masks_of_one_colour() -> None:
    red = np.array([[[0, 0, 0], [255, 0, 0]]], dtype=np.uint8)
    empty = compute_histogram(np.array([[0, 0]]), name="b")
    rule = decide_mask_rule([compute_histogram(red, name="a"), empty])
    assert (rule.kind, rule.why) == ("nonzero", "2 masks hold only black and #ff0000")


def test_grey_levels_of_two_classes_are_not_taken_for_soft_edges() -> None:
    with pytest.raises(DataError, match="names them, --binary"):
        _rule([0, 128, 255, 255, 255])
