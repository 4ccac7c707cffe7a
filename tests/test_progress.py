"""Times in words."""

import pytest

from guidino_cli.progress import spoken


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (172_800, "2.0 days")],
)
def test_a_time_is_said_in_one_number(seconds: float, words: str) -> None:
    assert spoken(seconds) == words
