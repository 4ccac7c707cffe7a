"""Checkpoints: captured state, and two files of which one is always intact."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from guidino_cli.engine.checkpointing import CheckpointManager, RunState, StateFolder
from guidino_cli.errors import ConfigError, DataError


class _Counter:
    """A part of a checkpoint."""

    def __init__(self, count: int = 0) -> None:
        self.count = count

    def state_dict(self) -> dict[str, int]:
        return {"count": self.count}

    def load_state_dict(self, state_dict: dict[str, int], /) -> None:
        self.count = state_dict["count"]


@pytest.fixture
def make_manager(tmp_path: Path) -> Callable[..., CheckpointManager[RunState]]:
    """A manager of one counter: `make_manager(part, accelerator)`."""

    def make(part: _Counter, accelerator: Any = None, version: int = 7) -> CheckpointManager[RunState]:
        return CheckpointManager(
            StateFolder(tmp_path),
            accelerator or Accelerator(cpu=True),
            {"counter": part},
            state_type=RunState,
            version=version,
            save_minutes=0,
            describe=lambda _: "all of it",
        )

    return make


def test_a_restored_run_has_its_parts_sums_and_random_numbers(
    make_manager: Callable[..., CheckpointManager[RunState]],
) -> None:
    make_manager(_Counter(3)).save(RunState({"loss": torch.tensor(1.5)}))
    expected = torch.rand(3)
    part = _Counter()
    manager = make_manager(part)
    assert manager.restore().sums == {"loss": torch.tensor(1.5)}
    assert part.count == 3
    assert manager.saved == "all of it"
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("process", "loss"), [(0, 0.25), (1, 4.0)])
def test_each_process_resumes_with_its_own_sums(
    process: int, loss: float, make_manager: Callable[..., CheckpointManager[RunState]]
) -> None:
    first = make_manager(_Counter())
    content = first.capture(RunState())
    content |= {"processes": 2, "random": 2 * content["random"], "sums": {"loss": torch.tensor([0.25, 4.0])}}
    first.folder.save_state(content)
    accelerator = SimpleNamespace(process_index=process, num_processes=2, device=torch.device("cpu"))
    assert make_manager(_Counter(), accelerator).restore().sums == {"loss": torch.tensor(loss)}


def test_states_of_other_formats_numbers_of_processes_or_parts_are_refused(
    make_manager: Callable[..., CheckpointManager[RunState]],
) -> None:
    manager = make_manager(_Counter())
    content = manager.capture(RunState())
    for change, kind, message in (
        ({"format": 6}, DataError, r"state\.pt: written by another version"),
        ({"processes": 3}, ConfigError, r"state\.pt: saved by 3 processes, but now there are 1"),
        ({"counter": {}}, DataError, r"state\.pt: does not fit the run's settings"),
    ):
        manager.folder.save_state({**content, **change})
        with pytest.raises(kind, match=message):
            manager.restore()


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    """A folder with the states of step 2 and, before, step 1; that of step 0 is gone."""
    folder = StateFolder(tmp_path)
    for step in range(3):
        folder.save_state({"step": step, "weights": torch.full((1000,), float(step))})
    return folder


def _damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "bit":
        # In the middle of the weights, which fill most of the file.
        content[len(content) // 2] ^= 1
    path.write_bytes(content[: {"empty": 0, "cut": -100, "bit": len(content)}[how]])


def test_the_two_newest_states_are_kept(folder: StateFolder) -> None:
    assert sorted(path.name for path in folder.state.parent.iterdir()) == ["previous.pt", "state.pt"]
    assert folder.load_state()["step"] == 2
    assert torch.load(folder.previous_state, weights_only=True)["step"] == 1


@pytest.mark.parametrize("how", ["empty", "cut", "bit"])
def test_if_the_newest_state_is_damaged_the_previous_one_is_read_with_a_warning(
    how: str, folder: StateFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    _damage(folder.state, how)
    assert folder.load_state()["step"] == 1
    warning = capsys.readouterr().err.replace("\n", "")
    assert "guidino: warning" in warning
    assert f"{folder.state}: is damaged" in warning
    assert f"resuming from the state before, {folder.previous_state}" in warning


def test_a_kill_between_two_renames_loses_one_save_only(folder: StateFolder) -> None:
    folder.state.unlink()
    assert folder.has_state()
    assert folder.load_state()["step"] == 1


def test_two_damaged_states_are_reported_in_one_line(folder: StateFolder) -> None:
    for path in (folder.state, folder.previous_state):
        _damage(path, "cut")
    with pytest.raises(DataError, match=r"state\.pt: is damaged .*and so is .*previous\.pt.*--overwrite") as caught:
        folder.load_state()
    assert "\n" not in str(caught.value)


def test_removed_states_leave_nothing(folder: StateFolder) -> None:
    folder.remove_states()
    assert not folder.has_state()
    assert list(folder.state.parent.iterdir()) == []
