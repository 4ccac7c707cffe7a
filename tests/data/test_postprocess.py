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
