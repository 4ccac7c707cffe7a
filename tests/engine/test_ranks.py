"""How long ranks wait for each other."""

from datetime import timedelta

import pytest

from guidino_cli.engine.ranks import TIMEOUT_VARIABLE, rank_timeout, start_ranks
from guidino_cli.errors import ConfigError


def test_ranks_wait_longer_than_one_of_them_may_work_alone() -> None:
    """Torch's own limit with NCCL is ten minutes."""
    assert rank_timeout() >= timedelta(hours=2)


def test_the_limit_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMEOUT_VARIABLE, "0.5")
    assert rank_timeout() == timedelta(seconds=30)


@pytest.mark.parametrize("text", ["0", "-1", "an hour", "nan", "1e9", ""])
def test_a_limit_that_is_none_is_refused_by_name(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMEOUT_VARIABLE, text)
    with pytest.raises(ConfigError, match=f"{TIMEOUT_VARIABLE} is .*expected a number of minutes"):
        rank_timeout()


def test_the_process_group_is_given_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {}
    monkeypatch.setattr("guidino_cli.engine.ranks.PartialState", lambda **options: given.update(options))
    start_ranks(cpu=True)
    assert given == {"cpu": True, "timeout": rank_timeout()}
