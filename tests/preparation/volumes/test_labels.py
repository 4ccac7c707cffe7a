"""Which class the values of label volumes are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guidino_cli.data.cases import IGNORED
from guidino_cli.data.masks.rule import parse_classes
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.options.data import PrepareOptions
from guidino_cli.preparation.options import PreparationConfig
from guidino_cli.preparation.types import DiscoveredDataset
from guidino_cli.preparation.volumes.descriptions import read_channels, read_labels
from guidino_cli.preparation.volumes.labels import LabelTable, decide_labels, refuse_unknown


def decide(*values: int, dataset: DiscoveredDataset | None = None, **options: Any) -> LabelTable:
    classes = parse_classes(options["classes"]) if "classes" in options else None
    config = PreparationConfig(PrepareOptions(**options), "x", classes, None, None)
    found = [dict.fromkeys(values, 1)]
    return decide_labels(found, dataset or DiscoveredDataset("nifti", "", [], is_volumes=True), config)


def test_zero_is_the_background_even_below_it() -> None:
    table = decide(0, -5, 3)
    assert table.names == ("background", "class_-5", "class_3")
    assert [table.class_of(value) for value in (0, -5, 3)] == [0, 1, 2]


def test_one_value_is_the_foreground() -> None:
    assert decide(0, 255).names == ("background", "foreground")


def test_masks_without_foreground_have_two_classes() -> None:
    assert decide(0).names == ("background", "foreground")


def test_names_without_values_are_given_in_the_order_of_the_numbers() -> None:
    table = decide(0, 420, 205, classes="background,first,second")
    assert {value: table.names[index] for value, index in (table.values or {}).items()} == {
        0: "background",
        205: "first",
        420: "second",
    }


def test_names_for_class_indices_may_be_more_than_those_that_occur() -> None:
    assert decide(0, 2, classes="background,a,b").class_of(2) == 2


def test_too_few_names_are_refused_with_the_values() -> None:
    with pytest.raises(ConfigError, match="names 2 classes, masks hold 0, 205, 420"):
        decide(0, 205, 420, classes="background,a")


def test_colours_are_refused() -> None:
    with pytest.raises(ConfigError, match="names colours, but volumes have numbers"):
        decide(0, 1, classes="#000000=background,#ff0000=a")


def test_binary_and_threshold_make_two_classes() -> None:
    assert [decide(0, 3, 9, binary=True).class_of(value) for value in (0, 3, 9)] == [0, 1, 1]
    assert [decide(0, 3, 9, threshold=3).class_of(value) for value in (0, 3, 9)] == [0, 0, 1]


def test_intensities_in_the_place_of_labels_are_refused() -> None:
    with pytest.raises(DataError, match=r"masks hold 300 values .*masks and volumes are mixed up"):
        decide(*range(300))


def test_an_ignored_value_is_no_class() -> None:
    table = decide(0, 1, 7, ignore_label=7)
    assert (table.names, table.class_of(7)) == (("background", "foreground"), IGNORED)
    assert table.count({0: 10, 1: 2, 7: 5}).tolist() == [10, 2]


def test_values_become_class_indices_whatever_their_type() -> None:
    table = decide(-1, 0, 1000)
    labels = np.array([[0, 1000], [-1, 0]], dtype=np.int32)
    result = table.apply(labels, {-1: 1, 0: 2, 1000: 1})
    assert (result.tolist(), result.dtype) == ([[0, 2], [1, 0]], np.uint8)


def test_more_than_255_named_classes_take_two_bytes() -> None:
    values = {index: index for index in range(300)}
    dataset = DiscoveredDataset(
        "nnunet", "", [], class_names=tuple(map(str, range(300))), label_values=values, is_volumes=True
    )
    table = decide(0, 299, dataset=dataset)
    assert table.apply(np.array([0, 299]), {0: 1, 299: 1}).dtype == np.uint16
    with pytest.raises(ConfigError, match="needs at most 255 classes"):
        decide(0, 299, dataset=dataset, ignore_label=400)


def test_a_value_without_a_class_is_named_with_its_voxels() -> None:
    table = decide(0, 1, classes="0=background,1=a")
    with pytest.raises(DataError, match=r"has the labels 4, 5 in 12 voxels, .*it names 0, 1"):
        refuse_unknown(table, {0: 1, 4: 10, 5: 2})


def test_labels_of_version_2_and_1_mean_the_same() -> None:
    new = read_labels({"labels": {"background": 0, "liver": 205, "spleen": 12, "ignore": 300}}, Path())
    old = read_labels({"labels": {"0": "background", "205": "liver", "12": "spleen"}}, Path())
    assert new == old
    assert new is not None
    # By rising value, not by place.
    assert (new.names, new.values) == (("background", "spleen", "liver"), {0: 0, 12: 1, 205: 2})


def test_a_background_without_a_name_gets_one() -> None:
    named = read_labels({"labels": {"liver": 1}}, Path())
    assert named is not None
    assert named.names == ("background", "liver")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"a": 1, "b": 1}, "two labels have one value"),
        ({"0": "background", "1": "a", "2": "a"}, "two labels have one name"),
        ({"a": 1.5}, "expected a whole number"),
        ({"background": 0, "whole": [1, 2]}, "whole is a region of several labels"),
    ],
)
def test_labels_that_make_no_classes_are_refused(labels: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_labels({"labels": labels}, Path())


def test_channels_are_in_the_order_of_their_numbers() -> None:
    names = {str(number): f"c{number}" for number in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)}
    assert read_channels({"channel_names": names}, Path())[-1] == "c10"
    with pytest.raises(DataError, match="expected names by number"):
        read_channels({"channel_names": {"1": "CT"}}, Path())
