"""Errors and interruptions in the middle of a step, with the hints that they get."""

import errno
from pathlib import Path

import pytest

from guidino_cli.commands.runs.messages import add_resume_hints
from guidino_cli.errors import DataError, ResourceError


def _end_with(error: BaseException, *, can_resume: bool = True) -> None:
    hints = add_resume_hints(
        Path("run"), resume_command="guidino x --resume", can_resume=lambda: can_resume, memory_hint="lower the batch"
    )
    with hints:
        raise error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            RuntimeError("CUDA out of memory.\nmore"),
            r"out of memory \(CUDA out of memory\.\); lower the batch; or guidino x",
        ),
        (MemoryError(), r"out of memory \(MemoryError\)"),
        (OSError(errno.ENOSPC, "No space left"), "run: disk full; free some space, then guidino x --resume"),
        (ResourceError("state.pt: cannot be written"), "cannot be written; then guidino x --resume"),
    ],
)
def test_a_lack_of_memory_or_disk_is_reported_with_how_to_resume(error: BaseException, message: str) -> None:
    with pytest.raises(ResourceError, match=message):
        _end_with(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), DataError("a.png: is damaged")])
def test_other_errors_are_not_changed(error: BaseException) -> None:
    with pytest.raises(type(error)) as found:
        _end_with(error)
    assert found.value is error


def test_ctrl_c_prints_whether_the_run_can_be_resumed(capsys: pytest.CaptureFixture[str]) -> None:
    for can_resume, message in ((True, "resume with: guidino x --resume"), (False, "nothing was saved yet")):
        with pytest.raises(KeyboardInterrupt):
            _end_with(KeyboardInterrupt(), can_resume=can_resume)
        assert message in capsys.readouterr().err
