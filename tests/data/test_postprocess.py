"""Postprocessing of masks by class."""

import numpy as np
import pytest

from guidino_cli.data.postprocess import PostprocessRule, parse_postprocess_rule, postprocess_class, postprocess_labels
from guidino_cli.errors import ConfigError


def _ring_and_dot() -> np.ndarray:
    """A ring of 24 pixels round a hole of 25, and one pixel far away, in 20 x 20."""
    mask = np.zeros((20, 20), dtype=bool)
    mask[2:9, 2:9] = True
    mask[3:8, 3:8] = False
    mask[15, 15] = True
    return mask


@pytest.mark.parametrize(
    ("rule", "pixels"),
    [
        (PostprocessRule(), 25),
        (PostprocessRule(largest=True), 24),
        (PostprocessRule(fill=True), 50),
        (PostprocessRule(largest=True, fill=True), 49),
        # 2 of 400 pixels are needed: the dot goes. 30 of 400: the ring goes too, and nothing is left.
        (PostprocessRule(min_share=0.005), 24),
        (PostprocessRule(min_share=0.075), 0),
    ],
)
def test_a_rule_keeps_the_expected_number_of_pixels(rule: PostprocessRule, pixels: int) -> None:
    assert postprocess_class(_ring_and_dot(), rule).sum() == pixels


def test_components_that_touch_at_corners_are_one() -> None:
    assert postprocess_class(np.eye(5, dtype=bool), PostprocessRule(largest=True)).sum() == 5


def test_a_class_inside_another_is_not_filled_over() -> None:
    labels = _ring_and_dot().astype(np.uint8)
    labels[5, 5] = 2
    cleaned = postprocess_labels(labels, {1: PostprocessRule(largest=True, fill=True)})
    assert cleaned[5, 5] == 2
    assert (cleaned == 1).sum() == 48
    assert labels[15, 15] == 1


def test_a_rule_is_parsed_from_its_string() -> None:
    rule = parse_postprocess_rule("fill,min=0.01,largest")
    assert rule == PostprocessRule(0.01, True, True)
    assert parse_postprocess_rule(str(rule)) == rule


@pytest.mark.parametrize("text", ["biggest", "min=2", "min", "fill=1", "", "min=x"])
def test_invalid_rules_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--post"):
        parse_postprocess_rule(text)


def test_a_component_of_just_the_smallest_share_stays() -> None:
    """The ring has 24 of 400 pixels, 0.06; one more would be needed for 0.0625."""
    assert postprocess_class(_ring_and_dot(), PostprocessRule(min_share=0.06)).sum() == 24
    assert postprocess_class(_ring_and_dot(), PostprocessRule(min_share=0.0625)).sum() == 0
    assert postprocess_class(_ring_and_dot(), PostprocessRule(min_share=1 / 400)).sum() == 25


def test_a_largest_component_that_is_too_small_goes_too() -> None:
    assert postprocess_class(_ring_and_dot(), PostprocessRule(min_share=0.1, largest=True)).sum() == 0
    assert postprocess_class(np.zeros((4, 4), dtype=bool), PostprocessRule(largest=True)).sum() == 0


def test_lower_classes_are_filled_first() -> None:
    """A ring of class 1 inside one of class 2: the hole in the middle belongs to class 1."""
    labels = np.zeros((9, 9), dtype=np.uint8)
    labels[0:9, 0:9], labels[1:8, 1:8], labels[3:6, 3:6], labels[4, 4] = 2, 0, 1, 0
    rules = {2: PostprocessRule(fill=True), 1: PostprocessRule(fill=True), 3: PostprocessRule(fill=True)}
    filled = postprocess_labels(labels, rules)
    assert (filled[4, 4], filled[1, 1]) == (1, 2)
    assert (filled == 2).sum() == 81 - 9


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("largest", PostprocessRule(largest=True)),
        (" fill , largest", PostprocessRule(largest=True, fill=True)),
        ("min=0", PostprocessRule()),
        ("min=0.999", PostprocessRule(0.999)),
    ],
)
def test_steps_are_parsed_in_any_order(text: str, rule: PostprocessRule) -> None:
    assert parse_postprocess_rule(text) == rule


@pytest.mark.parametrize("text", ["min=1", "min=-0.1", "largest=2"])
def test_a_share_outside_its_range_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--post"):
        parse_postprocess_rule(text)


def test_a_rule_is_written_as_it_is_parsed() -> None:
    assert str(PostprocessRule()) == "none"
    assert str(PostprocessRule(0.001, True, True)) == "min=0.001,largest,fill"


def test_a_class_without_a_rule_stays_as_it_is() -> None:
    labels = _ring_and_dot().astype(np.uint8)
    labels[15, 15], labels[18, 18] = 2, 1
    cleaned = postprocess_labels(labels, {1: PostprocessRule(largest=True)})
    assert (cleaned[15, 15], cleaned[18, 18], (cleaned == 1).sum()) == (2, 0, 24)
