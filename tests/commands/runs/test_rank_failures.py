"""Which rank of a run is blamed, and for what; the exit codes are those that processes were seen to end with."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

from guidino_cli.commands.runs import rank_failures
from guidino_cli.commands.runs.rank_failures import (
    end_stopped_ranks,
    explain_failure,
    first_failure,
    stopped_children,
)
from guidino_cli.errors import LOST_RANK_CODE, ResourceError


@dataclass
class Failure:
    exitcode: int
    timestamp: int = 100
    pid: int = 1


@pytest.mark.parametrize(
    ("failures", "rank"),
    [
        # The survivor of a killed rank fails in a way that is not known, within the same second.
        ({0: Failure(1), 1: Failure(-9)}, 1),
        ({0: Failure(LOST_RANK_CODE), 1: Failure(-9)}, 1),
        # A rank with a bug; torch kills the other after 30 seconds, since it does not listen.
        ({0: Failure(-9, timestamp=130), 1: Failure(1)}, 1),
        # Memory ran out in rank 2; others lose it, are told to end, or are aborted by torch.
        ({0: Failure(-6), 1: Failure(-15), 2: Failure(7), 3: Failure(143)}, 2),
        ({0: Failure(LOST_RANK_CODE, timestamp=90), 1: Failure(3)}, 1),
    ],
)
def test_the_cause_is_blamed_and_not_those_that_lost_it(failures: dict[int, Failure], rank: int) -> None:
    assert first_failure(failures)[0] == rank


def test_a_killed_rank_is_named_with_its_signal() -> None:
    error = explain_failure({0: Failure(1), 1: Failure(-9)}, processes=2, stopped=set())
    assert isinstance(error, ResourceError)
    assert str(error).startswith("rank 1 of 2 (from 0) was killed by signal 9 (SIGKILL), as the system does when")
    assert "--resume" in str(error)


def test_a_stopped_rank_is_not_called_killed() -> None:
    error = explain_failure({1: Failure(-9, pid=77)}, processes=3, stopped={77})
    assert "rank 1 of 3 (from 0) was stopped by a signal (SIGSTOP)" in str(error)


def test_a_rank_that_printed_its_error_gives_the_exit_code() -> None:
    assert explain_failure({0: Failure(LOST_RANK_CODE), 1: Failure(3)}, processes=2, stopped=set()) == 3


def test_ranks_that_only_lost_each_other_say_so() -> None:
    error = explain_failure({0: Failure(LOST_RANK_CODE)}, processes=2, stopped=set())
    assert "lost contact with each other" in str(error)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the state of a process")
def test_a_stopped_child_is_ended_and_a_running_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_failures, "_POLL_SECONDS", 0.02)
    children = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    try:
        with end_stopped_ranks() as ended:
            children[0].send_signal(signal.SIGSTOP)
            assert children[0].wait(timeout=60) == -signal.SIGKILL
            time.sleep(0.1)
            assert children[1].poll() is None
        assert ended == {children[0].pid}
        assert stopped_children(os.getpid()) == set()
    finally:
        for child in children:
            child.kill()
            child.wait()
