"""guidino weights: the ways out that commands tell, through the real command line."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("words", "way"),
    [
        (("weights", "download", "no such id/at all"), "guidino weights import FILE"),
        (("weights", "where", "./no/such/folder"), "guidino weights import FILE"),
        (("weights", "verify", "facebook/dinov2-small", "--offline"), "guidino weights import FILE"),
    ],
)
def test_commands_without_set_do_not_advise_it(guidino: Callable[..., Any], words: tuple[str, ...], way: str) -> None:
    outcome = guidino(*words)
    assert outcome.code == 4
    assert "--set" not in outcome.stderr
    assert way in " ".join(outcome.stderr.split())
