"""Errors and interruptions in the middle of a step, with the hints that they get."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from guidino_cli.commands.runs import messages
from guidino_cli.commands.runs.messages import add_resume_hints
from guidino_cli.commands.runs.result import RunResult
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


@pytest.mark.parametrize(
    ("size", "accumulate", "processes", "text"),
    [
        (8, 1, 1, "batch 8"),
        (8, 1, 2, "batch 16 (8 on each of 2 processes)"),
        (8, 4, 1, "batch 32 (8, 4 times)"),
        (8, 4, 2, "batch 64 (8 on each of 2 processes, 4 times)"),
    ],
)
def test_a_batch_is_that_of_all_processes_together(
    monkeypatch: pytest.MonkeyPatch, size: int, accumulate: int, processes: int, text: str
) -> None:
    monkeypatch.setattr(messages, "PartialState", lambda: SimpleNamespace(num_processes=processes))
    assert messages.describe_batch(size, accumulate) == text


def test_a_run_without_any_overlap_has_no_best_score() -> None:
    assert RunResult(0.0, 1, 3, 1.0).score.startswith("val Dice 0.0000 in every epoch: no prediction overlaps")
    assert RunResult(0.5, 2, 3, 1.0).score == "best val Dice 0.5000 in epoch 2"
