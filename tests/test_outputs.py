"""Output folders and files: what is refused before any work."""

import os
from pathlib import Path
from typing import Any

import pytest

from guidino_cli.errors import ConfigError
from guidino_cli.outputs import require_output_file, require_output_folder, require_writable


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A folder with a file in it."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    return tmp_path / "full"


def test_a_missing_and_an_empty_folder_are_accepted_and_left_as_they_are(tmp_path: Path) -> None:
    require_output_folder(tmp_path / "new" / "out", overwrite=False)
    require_output_folder(tmp_path, overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_empty_needs_overwrite(full: Path) -> None:
    with pytest.raises(ConfigError, match="full: is not empty; add --overwrite, or choose another folder"):
        require_output_folder(full, overwrite=False)
    require_output_folder(full, overwrite=True)


def test_content_of_others_is_never_replaced(full: Path) -> None:
    with pytest.raises(ConfigError, match="files that guidino did not write"):
        require_output_folder(full, overwrite=True, recognised=False)
    require_output_folder(full, overwrite=True, recognised=True)


def test_a_file_is_no_output_folder(full: Path) -> None:
    with pytest.raises(ConfigError, match=r"notes\.txt: is a file, expected a folder"):
        require_output_folder(full / "notes.txt", overwrite=True)


@pytest.mark.parametrize("name", [".", "notes.txt"])
def test_the_folder_of_an_input_is_refused(name: str, full: Path) -> None:
    with pytest.raises(ConfigError, match="holds the input"):
        require_output_folder(full, [full / name], overwrite=True)


def test_a_folder_inside_an_input_folder_is_refused_unless_it_may_be_nested(full: Path) -> None:
    with pytest.raises(ConfigError, match="lies inside the input"):
        require_output_folder(full / "out" / "new", [full], overwrite=True)
    require_output_folder(full / "out" / "new", [full], overwrite=True, may_be_nested=True)
    require_output_folder(full / "out", [full / "notes.txt"], overwrite=True)


def test_a_folder_around_an_input_is_refused_if_it_would_be_replaced(full: Path) -> None:
    with pytest.raises(ConfigError, match="holds the input"):
        require_output_folder(full.parent, [full], overwrite=True, recognised=True)
    require_output_folder(full.parent, [full], overwrite=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ConfigError, match="cannot be written to"):
            require_writable(tmp_path / "out")
    finally:
        tmp_path.chmod(0o700)


def test_a_read_only_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", fail)
    with pytest.raises(ConfigError, match=r"cannot be written to \(Read-only file system\)"):
        require_output_folder(tmp_path / "out", overwrite=False)


def test_a_file_that_exists_needs_overwrite_and_a_folder_is_never_replaced(full: Path) -> None:
    require_output_file(full / "new.txt", overwrite=False)
    require_output_file(full / "notes.txt", overwrite=True)
    for path, overwrite in ((full / "notes.txt", False), (full, True)):
        with pytest.raises(ConfigError, match="exists; add --overwrite"):
            require_output_file(path, overwrite=overwrite)
