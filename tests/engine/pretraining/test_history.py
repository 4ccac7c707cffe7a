"""Rows of the history, and when features that are nearly equal count as a collapse."""

import pytest
import torch

from guidino_cli.engine.pretraining.history import _feature_statistics, detect_collapse, format_row


@pytest.mark.parametrize(
    ("rows", "is_collapse"),
    [
        ([{"cosine": 0.9995}] * 3, True),
        ([{"cosine": 0.9995}] * 2, False),
        ([{"cosine": 0.5}, *[{"cosine": 0.9995}] * 3], True),
        ([{"cosine": 0.9995}] * 3 + [{"cosine": 0.5}], False),
        ([{"cosine": 0.999}] * 3, False),
        ([{"rank": 1.4, "cosine": 0.2}] * 3, True),
        ([{"rank": 1.5}] * 3, False),
        ([{"loss": 1.0}] * 3, False),
        ([], False),
    ],
)
def test_three_rows_of_nearly_equal_features_are_a_collapse(rows: list[dict[str, float]], is_collapse: bool) -> None:
    assert (detect_collapse(rows) is not None) == is_collapse


def test_a_collapse_is_described_with_its_last_values() -> None:
    message = detect_collapse([{"cosine": 0.9995, "rank": 2.0}] * 2 + [{"cosine": 0.99987, "rank": 1.25}])
    assert message is not None
    assert "(cosine 0.9999, rank 1.25)" in message


def test_a_row_is_one_line_with_the_time_that_is_left() -> None:
    """40 s for 10 of 40 steps leave 120 s."""
    row = {"step": 10, "stage": "one", "lr": 0.1, "loss": 1.23456, "dino": 1.0, "koleo": 0.5, "teacher_entropy": 2.345,
           "rank": 7.77, "cosine": 0.12345, "images_per_second": 12.345, "seconds": 40.0}  # fmt: skip
    assert format_row(row, steps=40) == (
        "step 10/40: loss 1.2346 (dino 1.000, koleo 0.500), teacher entropy 2.35, rank 7.8, cosine 0.123, "
        "12.3 images/s, 2 min left"
    )


def test_statistics_need_two_images_and_the_rank_needs_more() -> None:
    assert _feature_statistics(None) == {}
    assert _feature_statistics(torch.eye(1)) == {}
    assert _feature_statistics(torch.eye(2)) == pytest.approx({"cosine": 0.0}, abs=1e-6)
    many = _feature_statistics(torch.eye(64))
    assert set(many) == {"rank", "cosine"}
