"""A command in a process of its own: signals reach it, and the caller ends as the signal says."""

import os
import signal

import pytest

from guidino_cli.commands.runs import child
from guidino_cli.errors import StoppedError


class _Process:
    """A child during which this process gets a signal."""

    def __init__(self, number: signal.Signals) -> None:
        self.number, self.received = number, []

    def send_signal(self, number: int) -> None:
        self.received.append(number)

    def wait(self) -> int:
        os.kill(os.getpid(), self.number)
        return 128 + self.number


@pytest.mark.parametrize(("number", "error"), [(signal.SIGTERM, StoppedError), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_is_handed_on_and_ends_the_caller_in_its_way(
    number: signal.Signals, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, before = _Process(number), signal.getsignal(number)
    monkeypatch.setattr(child.subprocess, "Popen", lambda *_, **__: process)
    with pytest.raises(error) as caught:
        child.call(["train"])
    assert process.received == [number]
    assert getattr(caught.value, "exit_code", 130) == 128 + number
    assert signal.getsignal(number) is before
