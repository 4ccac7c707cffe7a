"""Atomic writes of files and folders, and hashes of files."""

import os
from pathlib import Path

import pytest

from guidino_cli.errors import ResourceError
from guidino_cli.files import atomic_folder, file_sha256, lines_sha256, write_atomically, write_text


def test_a_failed_write_leaves_only_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")

    def half(temporary: Path) -> None:
        temporary.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(ResourceError, match=r"a\.txt: cannot be written \(No space left on device\)"):
        write_atomically(tmp_path / "a.txt", half)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_an_interrupted_write_leaves_only_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")

    def interrupted(temporary: Path) -> None:
        temporary.write_text("ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.txt", interrupted)
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_parent_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "new")


def test_text_has_unix_line_endings(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "é\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\n"


def test_an_atomic_folder_replaces_an_older_one_completely(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "old.txt", "old")
    with atomic_folder(tmp_path / "a") as temporary:
        (temporary / "new.txt").write_text("new")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["new.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failed_atomic_folder_leaves_only_the_old_one(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "old.txt", "old")
    with pytest.raises(ResourceError, match=r"a: cannot be written \(No space left on device\)"):
        _fill_half(tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["old.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def _fill_half(folder: Path) -> None:
    with atomic_folder(folder) as temporary:
        (temporary / "new.txt").write_text("new")
        raise OSError(28, "No space left on device")


def test_a_failed_move_restores_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a" / "old.txt", "old")
    replace = os.replace

    def fail_for_temporary(source: Path, target: Path) -> None:
        if source.suffix == ".tmp":
            raise OSError(5, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_for_temporary)
    with pytest.raises(ResourceError, match="Input/output error"), atomic_folder(tmp_path / "a"):
        pass
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["old.txt"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_hashes_are_those_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc\n")
    expected = "edeaaff3f1774ad2888673770c6d64097e391bc362d7d6fb34982ddf0efd18cb"
    assert file_sha256(tmp_path / "a") == lines_sha256(["abc"]) == expected


# --- Leftovers of killed processes


@pytest.fixture
def dead_process() -> int:
    """Number of a process that has ended."""
    import subprocess
    import sys

    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    "name", ["last/.state.{}.tmp.pt", "overlays/.a.b.{}.tmp.png", "guides/class_1/.x.{}.tmp.png", ".history.{}.tmp"]
)
def test_a_temporary_file_of_a_dead_process_is_removed(tmp_path: Path, dead_process: int, name: str) -> None:
    from guidino_cli.files import remove_leftovers

    dead, alive = (tmp_path / name.format(process) for process in (dead_process, os.getpid()))
    dead.parent.mkdir(parents=True, exist_ok=True)
    dead.touch()
    alive.touch()
    assert remove_leftovers(tmp_path) == [dead]
    assert alive.is_file()
    assert not dead.exists()


def test_only_temporary_folders_of_the_same_output_are_removed(tmp_path: Path, dead_process: int) -> None:
    from guidino_cli.files import remove_leftovers

    own, other = (tmp_path / f".{name}.{dead_process}.tmp" for name in ("out", "another"))
    for folder in (own, other):
        (folder / "masks").mkdir(parents=True)
    assert remove_leftovers(tmp_path / "out") == [own]
    assert other.is_dir()


def test_the_only_copy_of_an_output_folder_stays(tmp_path: Path, dead_process: int) -> None:
    from guidino_cli.files import remove_leftovers

    old = tmp_path / f".out.{dead_process}.old"
    old.mkdir()
    assert remove_leftovers(tmp_path / "out") == []
    (tmp_path / "out").mkdir()
    assert remove_leftovers(tmp_path / "out") == [old]


@pytest.mark.parametrize("name", [".hidden.tmp.png", "a.12.tmp.png", ".tmp", ".a.x.tmp", ".a.0.tmp.png"])
def test_other_hidden_files_stay(tmp_path: Path, name: str) -> None:
    from guidino_cli.files import remove_leftovers

    (tmp_path / name).touch()
    assert remove_leftovers(tmp_path) == []


def test_young_leftovers_can_be_kept(tmp_path: Path, dead_process: int) -> None:
    from guidino_cli.files import remove_leftovers

    path = tmp_path / f".a.{dead_process}.tmp.png"
    path.touch()
    assert remove_leftovers(tmp_path, older_than=60) == []
    os.utime(path, (0, 0))
    assert remove_leftovers(tmp_path, older_than=60) == [path]
