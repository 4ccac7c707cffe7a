"""Images of a folder: in order, without opening anything."""

from pathlib import Path

import pytest

from guidino_cli.data.listing import list_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt", ".hidden.png", "z/c.png", "m/d.tif", "m/deep/e.png", ".git/f.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_images_are_sorted_and_nothing_else_is_listed(folder: Path) -> None:
    assert list(list_images(folder)) == ["a.JPG", "b.png"]


def test_folders_below_come_in_the_order_of_a_printed_tree(folder: Path) -> None:
    assert list(list_images(folder, recursive=True)) == ["a.JPG", "b.png", "m/d.tif", "m/deep/e.png", "z/c.png"]


def test_a_link_that_leads_back_is_not_followed(folder: Path) -> None:
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    assert len(list(list_images(folder, recursive=True))) == 5
