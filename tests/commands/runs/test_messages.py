"""What ends a run in the middle of a step is told with the way on."""

import errno
from pathlib import Path

import pytest

from guidino_cli.commands.runs.messages import add_resume_hints
from guidino_cli.errors import DataError, ResourceError


def _end_with(error: BaseException, *, is_begun: bool = True) -> None:
    advice = add_resume_hints(
        Path("run"), go_on="guidino x --resume", is_begun=lambda: is_begun, less_memory="lower the batch"
    )
    with advice:
        raise error


@pytest.mark.parametrize(
    ("error", "words"),
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
def test_what_the_machine_lacks_is_told_with_the_way_on(error: BaseException, words: str) -> None:
    with pytest.raises(ResourceError, match=words):
        _end_with(error)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), DataError("a.png: is damaged")])
def test_other_errors_pass_as_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as found:
        _end_with(error)
    assert found.value is error


def test_ctrl_c_says_whether_there_is_something_to_go_on_from(capsys: pytest.CaptureFixture[str]) -> None:
    for is_begun, words in ((True, "go on with: guidino x --resume"), (False, "nothing was done yet")):
        with pytest.raises(KeyboardInterrupt):
            _end_with(KeyboardInterrupt(), is_begun=is_begun)
        assert words in capsys.readouterr().err
