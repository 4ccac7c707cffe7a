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
