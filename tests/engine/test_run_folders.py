"""Locks and metadata of run folders."""

import os
import sys
from pathlib import Path

import pytest

from guidino_cli.engine.run_folders import lock_run_folder, read_facts, read_history, require_unlocked_run_folder
from guidino_cli.errors import ConfigError, DataError

posix_only = pytest.mark.skipif(os.name != "posix", reason="only POSIX systems lock folders")


@posix_only
def test_a_second_lock_of_a_run_is_refused_until_the_first_is_released(tmp_path: Path) -> None:
    run = tmp_path / "run"
    refused = pytest.raises(ConfigError, match="another guidino process writes to this run")
    with lock_run_folder(run), refused, lock_run_folder(run):
        pass
    with lock_run_folder(run):
        pass


@posix_only
def test_asking_for_the_lock_is_refused_while_it_is_held_and_hinders_nobody(tmp_path: Path) -> None:
    run = tmp_path / "run"
    require_unlocked_run_folder(run)
    with lock_run_folder(run), pytest.raises(ConfigError, match="another guidino process writes to this run"):
        require_unlocked_run_folder(run)
    require_unlocked_run_folder(run)
    with lock_run_folder(run):
        pass


@posix_only
def test_a_file_system_without_locks_is_warned_of_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import fcntl

    def refuse(handle: int, operation: int) -> None:
        raise OSError(77, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock_run_folder(tmp_path / "run"):
        entered = True
    assert entered
    assert "cannot be locked (No locks available)" in " ".join(capsys.readouterr().err.split())


def test_metadata_nested_beyond_the_recursion_limit_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    depth = 10 * sys.getrecursionlimit()
    (tmp_path / "run.json").write_text("[" * depth + "]" * depth)
    with pytest.raises(DataError, match=r"run\.json: damaged \(nested too deep\)"):
        read_facts(tmp_path / "run.json", version=1, hint="train again")


@pytest.mark.parametrize(
    "row",
    [
        '{"epoch": 2, "loss": null}',
        '{"epoch": 2, "loss": "x"}',
        '{"epoch": true}',
        '{"epoch": 1}',
        '{"loss": 1}',
        "[2]",
    ],
)
def test_a_row_that_no_run_writes_is_refused_with_its_line(tmp_path: Path, row: str) -> None:
    (tmp_path / "history.jsonl").write_text(f'{{"epoch": 1, "loss": 0.5}}\n{row}\n{{"epoch": 3}}\n')
    with pytest.raises(DataError, match=r"history\.jsonl, line 2: is damaged"):
        read_history(tmp_path / "history.jsonl", counter="epoch")
