"""Files that were replaced after `guidino prepare` are noticed, and copies are not."""

import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from guidino_cli.data import file_records
from guidino_cli.data.file_records import record_file, require_unchanged_files
from guidino_cli.data.manifest import load_manifest, manifest_sha256, save_manifest
from guidino_cli.errors import DataError

Maker = Callable[..., Path]


@pytest.fixture
def data(make_data: Maker) -> Path:
    """A prepared folder with records; all files are older than cases.json by more than a clock tick."""
    folder = make_data()
    manifest = load_manifest(folder)
    cases = [
        replace(
            case,
            image_record=record_file(case.image, with_time=True),
            mask_record=record_file(case.mask, with_time=False) if case.mask else None,
        )
        for case in manifest.cases
    ]
    time.sleep(0.05)
    save_manifest(replace(manifest, cases=cases), folder)
    return folder


def check(data: Path, *, images: bool = True, masks: bool = True) -> None:
    require_unchanged_files(load_manifest(data).cases, data, images=images, masks=masks)


def replace_content(path: Path) -> None:
    """Other content of equal size, at another time."""
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.unlink()
    path.write_bytes(bytes(content))
    os.utime(path, ns=(0, 10**18))


def test_records_are_loaded_as_saved_and_need_no_reading(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = load_manifest(data).cases[0]
    assert case.image_record is not None
    assert case.image_record.size == case.image.stat().st_size
    assert case.image_record.mtime_ns == case.image.stat().st_mtime_ns
    assert case.mask_record is not None
    assert case.mask_record.mtime_ns is None
    monkeypatch.setattr(file_records, "file_sha256", lambda path: pytest.fail(f"{path} was read"))
    check(data, masks=False)


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_a_file_replaced_by_one_of_equal_size_is_named(data: Path, folder: str) -> None:
    replace_content(data / folder / "case2.png")
    with pytest.raises(DataError, match=rf"1 file has changed since `guidino prepare` \(.*{folder}.case2.png\); run"):
        check(data)
    check(data, images=folder != "images", masks=folder != "masks")


def test_a_replacement_with_the_old_time_is_found(data: Path) -> None:
    path = data / "images" / "case2.png"
    old = path.stat()
    replace_content(path)
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (old.st_size, old.st_mtime_ns)
    with pytest.raises(DataError, match=r"case2\.png"):
        check(data)


def test_a_file_of_another_size_is_found_without_reading_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (data / "images" / "case0.png").write_bytes(b"short")
    monkeypatch.setattr(file_records, "file_sha256", lambda path: pytest.fail(f"{path} was read"))
    with pytest.raises(DataError, match=r"case0\.png"):
        check(data, masks=False)


def test_many_changed_files_are_counted_and_three_are_named(data: Path) -> None:
    for number in range(5):
        replace_content(data / "images" / f"case{number}.png")
    with pytest.raises(DataError, match=r"5 files have changed .* and 2 more\)"):
        check(data)


def test_a_file_that_was_only_touched_is_unchanged(data: Path) -> None:
    (data / "images" / "case0.png").touch()
    check(data)


def test_a_copied_folder_is_unchanged(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "copy", copy_function=shutil.copyfile)
    check(tmp_path / "copy")


def test_folders_without_records_are_not_checked(make_data: Maker) -> None:
    folder = make_data()
    assert "sha256" not in (folder / "cases.json").read_text()
    replace_content(folder / "images" / "case0.png")
    check(folder)


def test_missing_files_are_left_to_their_readers(data: Path) -> None:
    (data / "images" / "case0.png").unlink()
    check(data)


def test_a_resumed_run_is_only_warned(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replace_content(data / "masks" / "case1.png")
    require_unchanged_files(load_manifest(data).cases, data, only_warn=True)
    assert "guidino: warning" in capsys.readouterr().err


def test_the_hash_of_a_manifest_ignores_times_and_nothing_else(data: Path) -> None:
    path = data / "cases.json"
    before, text = manifest_sha256(path), path.read_text()
    assert '"mtime_ns": ' in text
    path.write_text(re.sub(r'"mtime_ns": \d+', '"mtime_ns": 12345', text))
    assert manifest_sha256(path) == before
    path.write_text(text.replace('"size": ', '"size": 1', 1))
    assert manifest_sha256(path) != before
