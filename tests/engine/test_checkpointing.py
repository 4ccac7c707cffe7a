"""Checkpoints: captured state, and two files of which one is always intact."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from guidino_cli.engine.checkpointing import (
    RunState,
    capture_run,
    has_state,
    read_state,
    remove_states,
    restore_run,
    write_state,
)
from guidino_cli.errors import DataError


def test_a_place_comes_back_as_it_was() -> None:
    accelerator = Accelerator(cpu=True)
    state = capture_run(RunState({"loss": torch.tensor(1.5)}), accelerator, version=7)
    assert restore_run(state, accelerator, RunState).sums == {"loss": torch.tensor(1.5)}


@pytest.mark.parametrize(("process", "loss"), [(0, 0.25), (1, 4.0)])
def test_each_process_goes_on_with_its_own_sums(process: int, loss: float) -> None:
    state = capture_run(RunState(), Accelerator(cpu=True), version=7)
    state |= {"processes": 2, "random": 2 * state["random"], "sums": {"loss": torch.tensor([0.25, 4.0])}}
    accelerator: Any = SimpleNamespace(process_index=process, device=torch.device("cpu"))
    assert restore_run(state, accelerator, RunState).sums == {"loss": torch.tensor(loss)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the states of step 2 and, before, step 1; that of step 0 is gone."""
    for step in range(3):
        write_state(tmp_path, {"step": step, "weights": torch.full((1000,), float(step))})
    return tmp_path


def _damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "bit":
        # In the middle of the weights, which fill most of the file.
        content[len(content) // 2] ^= 1
    path.write_bytes(content[: {"empty": 0, "cut": -100, "bit": len(content)}[how]])


def test_the_two_newest_are_kept(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == ["previous.pt", "state.pt"]
    assert read_state(folder)["step"] == 2
    assert torch.load(folder / "previous.pt", weights_only=True)["step"] == 1


@pytest.mark.parametrize("how", ["empty", "cut", "bit"])
def test_where_the_newest_is_damaged_the_one_before_is_read_and_named(
    how: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _damage(folder / "state.pt", how)
    assert read_state(folder)["step"] == 1
    warning = capsys.readouterr().err.replace("\n", "")
    assert "guidino: warning" in warning
    assert f"{folder / 'state.pt'}: is damaged" in warning
    assert f"going on from the state before, {folder / 'previous.pt'}" in warning


def test_a_kill_between_two_renames_loses_one_save_only(folder: Path) -> None:
    (folder / "state.pt").unlink()
    assert has_state(folder)
    assert read_state(folder)["step"] == 1


def test_where_both_are_damaged_one_line_says_so(folder: Path) -> None:
    for path in folder.iterdir():
        _damage(path, "cut")
    with pytest.raises(DataError, match=r"state\.pt: is damaged .*and so is .*previous\.pt.*--overwrite") as caught:
        read_state(folder)
    assert "\n" not in str(caught.value)


def test_removed_states_leave_nothing(folder: Path) -> None:
    remove_states(folder)
    assert not has_state(folder)
    assert list(folder.iterdir()) == []
