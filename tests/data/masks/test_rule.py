"""Mask rules on hand-made values, and the parser of --classes."""

import numpy as np
import pytest

from guidino_cli.data.masks.rule import (
    MaskRule,
    apply_mask_rule,
    class_names,
    default_class_names,
    format_values,
    pack_colour,
    parse_classes,
    require_finite,
)
from guidino_cli.errors import ConfigError, DataError


def test_names_are_indices_in_order() -> None:
    assert parse_classes("background, disc,cup").names == ("background", "disc", "cup")
    assert parse_classes("background,disc").codes is None


def test_several_values_may_share_a_name() -> None:
    classes = parse_classes("255=background,128=lesion,0=lesion")
    assert classes.names == ("background", "lesion")
    assert classes.codes == {255: 0, 128: 1, 0: 1}


def test_colours_are_read_as_red_green_blue() -> None:
    assert parse_classes("#000000=background,#ff0080=tool").codes == {(0, 0, 0): 0, (255, 0, 128): 1}


@pytest.mark.parametrize(
    "text", ["polyp", "a,a", "0=background,polyp", "0=background,0=polyp", "x=a,1=b", "background,", "polyp,background"]
)
def test_invalid_class_lists_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--classes"):
        parse_classes(text)


def test_unnamed_classes_are_numbered() -> None:
    assert default_class_names(2) == ("background", "foreground")
    assert default_class_names(3) == ("background", "class_1", "class_2")


@pytest.mark.parametrize("names", [1, 256])
def test_too_few_or_too_many_names_are_refused(names: int) -> None:
    with pytest.raises(ConfigError, match=f"found {names} class, expected 2 to 255"):
        parse_classes(",".join(f"c{index}" for index in range(names)))
    assert len(parse_classes(",".join(f"c{index}" for index in range(255))).names) == 255


def test_negative_values_may_be_named() -> None:
    assert parse_classes("-1=background,7=a").codes == {-1: 0, 7: 1}


def table(*codes: tuple[int, int], kind: str = "codes") -> MaskRule:
    return MaskRule(kind, "table", max(index for _, index in codes) + 1, codes=codes)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32])
def test_a_table_reads_every_number_type(dtype: type) -> None:
    values = np.array([[0, 7, 200]], dtype=dtype)
    assert apply_mask_rule(table((0, 1), (7, 0), (200, 2)), values).tolist() == [[1, 0, 2]]


@pytest.mark.parametrize("value", [-1, -7, 6, 8, 201, 70000])
@pytest.mark.parametrize("dtype", [np.int32, np.float64])
def test_a_value_beside_those_of_a_table_is_refused(value: int, dtype: type) -> None:
    with pytest.raises(DataError, match=f"has values {value} that --classes"):
        apply_mask_rule(table((0, 0), (7, 1), (200, 2)), np.array([[0, value]]).astype(dtype))


def test_a_table_may_hold_negative_and_large_values() -> None:
    values = np.array([[-3, 70000, 0]])
    assert apply_mask_rule(table((0, 0), (-3, 1), (70000, 2)), values).tolist() == [[1, 2, 0]]
    assert apply_mask_rule(table((0, 0), (65535, 1), (65536, 2)), np.array([[65536, 65535]])).tolist() == [[2, 1]]


def test_more_than_256_labels_have_indices_of_16_bit() -> None:
    for count, dtype in ((256, np.uint8), (257, np.uint16)):
        rule = table(*((2 * index, index) for index in range(count)), kind="labels")
        found = apply_mask_rule(rule, np.array([[0, 2, 2 * (count - 1)]]))
        assert (found.dtype, found.tolist()) == (dtype, [[0, 1, count - 1]])


def test_labels_that_occur_are_named_by_their_values() -> None:
    assert class_names(table((0, 0), (205, 1), (420, 2), kind="labels")) == ("background", "class_205", "class_420")
    assert class_names(MaskRule("index", "", 3)) == ("background", "class_1", "class_2")


def test_a_threshold_is_exclusive_and_a_nonzero_value_may_be_negative() -> None:
    values = np.array([[126.9, 127.0, 127.1, -1.0]])
    assert apply_mask_rule(MaskRule("threshold", "", 2, 127.0), values).tolist() == [[0, 0, 1, 0]]
    assert apply_mask_rule(MaskRule("nonzero", "", 2), values - 127).tolist() == [[1, 0, 1, 1]]


def test_a_colour_is_foreground_if_one_channel_is_not_0() -> None:
    colours = np.array([[[0, 0, 0], [0, 0, 1], [9, 0, 0]]], dtype=np.uint8)
    assert apply_mask_rule(MaskRule("nonzero", "", 2), colours).tolist() == [[0, 1, 1]]
    with pytest.raises(DataError, match="is a colour image, but the other masks are grey"):
        apply_mask_rule(MaskRule("index", "", 2), colours)
    with pytest.raises(DataError, match="is a colour mask, but --classes gives grey values"):
        apply_mask_rule(table((0, 0), (1, 1)), colours)


def test_a_colour_table_reads_colours_grey_values_and_bits() -> None:
    rule = MaskRule("codes", "", 4, codes=(((0, 0, 0), 0), ((1, 2, 3), 1), ((7, 7, 7), 2), ((255, 255, 255), 3)))
    colours = np.array([[[1, 2, 3], [0, 0, 0]]], dtype=np.uint8)
    assert apply_mask_rule(rule, colours).tolist() == [[1, 0]]
    assert apply_mask_rule(rule, np.array([[7, 0, 255]])).tolist() == [[2, 0, 3]]
    assert apply_mask_rule(rule, np.array([[True, False]])).tolist() == [[3, 0]]


def test_a_colour_is_packed_as_rrggbb() -> None:
    assert pack_colour((1, 2, 3)) == 0x010203
    assert pack_colour(5) == 0x050505


def test_values_that_are_not_finite_are_counted() -> None:
    with pytest.raises(DataError, match="3 of 4 pixels are not finite"):
        require_finite(np.array([[np.nan, 0], [np.inf, -np.inf]]))
    require_finite(np.array([[0.5]]))
    require_finite(np.array([[1]]))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([0, 1, 2, 3, 4, 5], "0, 1, 2, 3, 4, 5"),
        ([0, 1, 2, 3, 4, 5, 6], "0, 1, 2 ... 5, 6"),
        ([0.1234567, 70001.0, "#ff0000"], "0.123457, 70001, #ff0000"),
    ],
)
def test_six_values_are_listed_in_full(values: list[object], text: str) -> None:
    assert format_values(values) == text


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (MaskRule("index", "why", 3), "values are class indices: why"),
        (MaskRule("nonzero", "why", 2), "every value but 0 is foreground: why"),
        (MaskRule("threshold", "why", 2, 0.5), "values above 0.5 are foreground: why"),
        (table((0, 0), (7, 1)), "2 values are looked up in --classes: table"),
        (table((0, 0), (7, 1), kind="labels"), "values are labels: table"),
    ],
)
def test_a_rule_is_one_sentence(rule: MaskRule, sentence: str) -> None:
    assert rule.sentence == sentence
