"""`guidino predict --list`: names of a file or of standard input; nothing that they name is left out silently."""

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

RUN = Path(__file__).parents[1] / "compatibility" / "run_45086b3" / "guided"
Guidino = Callable[..., Any]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("one", "two", "three"):
        pixels = np.random.default_rng(len(name)).integers(0, 255, (32, 32, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def masks(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.png"))


def failures(folder: Path) -> list[str]:
    path = folder / "failed.jsonl"
    return [json.loads(line)["image"] for line in path.read_text().splitlines()] if path.is_file() else []


def give_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes, *, is_terminal: bool = False) -> None:
    stream = io.TextIOWrapper(io.BytesIO(content))
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr("sys.stdin", stream)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\n\n", "\0"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_names_are_separated_by_lines_or_zero_bytes(
    guidino: Guidino, images: Path, out: Path, tmp_path: Path, ending: str, encoding: str
) -> None:
    listed = tmp_path / "files.txt"
    listed.write_bytes(ending.join([f"{images}/one.png", f"{images}/two.png", ""]).encode(encoding))
    outcome = guidino("predict", RUN, "--list", listed, "-o", out)
    assert outcome.code == 0, outcome.stderr
    assert masks(out) == ["one", "two"]


def test_a_list_of_utf_16_is_read(guidino: Guidino, images: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "files.txt").write_text(f"{images}/one.png\n", encoding="utf-16")
    assert guidino("predict", RUN, "--list", tmp_path / "files.txt", "-o", out).code == 0
    assert masks(out) == ["one"]


def test_names_come_from_standard_input_relative_to_the_working_folder(
    guidino: Guidino, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images)
    give_stdin(monkeypatch, b"two.png\n")
    assert guidino("predict", RUN, "--list", "-", "-o", out).code == 0
    assert masks(out) == ["two"]


def test_a_name_that_is_no_utf_8_names_its_file(
    guidino: Guidino, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        os.rename(images / "one.png", os.fsencode(images) + b"/\xe9.png")
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    give_stdin(monkeypatch, os.fsencode(images) + b"/\xe9.png\n")
    outcome = guidino("predict", RUN, "--list", "-", "-o", out)
    # Masks cannot be named so, which is said; the file is not missing.
    assert outcome.code == 3
    assert "cannot be named" in outcome.stderr


def test_what_is_listed_is_added_to_images(guidino: Guidino, images: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "files.txt").write_text(f"{images}/one.png\n{images}/two.png\n")
    assert guidino("predict", RUN, images / "two.png", images / "three.png", "--list", tmp_path / "files.txt",
                   "-o", out).code == 0  # fmt: skip
    assert masks(out) == ["one", "three", "two"]
    assert json.loads((out / "predictions.json").read_text())["made"] == 3


def test_a_missing_file_is_a_failure_and_the_others_are_predicted(
    guidino: Guidino, images: Path, out: Path, tmp_path: Path
) -> None:
    names = [images / "gone.png", images / "one.png", tmp_path / "notes.txt", "x" * 300 + ".png"]
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "files.txt").write_text("\n".join(map(str, names)))
    outcome = guidino("predict", RUN, "--list", tmp_path / "files.txt", "-o", out)
    assert outcome.code == 6
    assert "gone.png: no such file or folder" in outcome.stderr
    assert "3 of 4 images could not be read" in outcome.stderr
    assert masks(out) == ["one"]
    assert failures(out) == [str(names[0]), str(names[2]), names[3]]
    summary = json.loads((out / "predictions.json").read_text())
    assert (summary["images"], summary["made"], summary["failed"]) == (4, 1, 3)


def test_nothing_but_missing_files_is_an_error(guidino: Guidino, out: Path, tmp_path: Path) -> None:
    (tmp_path / "files.txt").write_text("gone.png\n")
    outcome = guidino("predict", RUN, "--list", tmp_path / "files.txt", "-o", out)
    assert outcome.code == 3
    assert "none of 1 image could be read" in outcome.stderr


def test_a_missing_file_leaves_no_mask_of_an_earlier_call(
    guidino: Guidino, images: Path, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "files.txt").write_text(f"{images}/one.png\n{images}/two.png\n")
    words = ["predict", RUN, "--list", tmp_path / "files.txt", "-o", out]
    assert guidino(*words).code == 0
    (images / "one.png").unlink()
    assert guidino(*words, "--overwrite").code == 6
    assert masks(out) == ["two"]


def test_a_missing_file_named_as_another_image_keeps_that_ones_mask(
    guidino: Guidino, images: Path, out: Path, tmp_path: Path
) -> None:
    (tmp_path / "files.txt").write_text(
        f"{images}/one.png\n{tmp_path}/elsewhere/one.png\n{tmp_path}/elsewhere/one.png\n"
    )
    assert guidino("predict", RUN, "--list", tmp_path / "files.txt", "-o", out).code == 6
    assert masks(out) == ["one"]
    # Named twice, it failed once.
    assert failures(out) == [f"{tmp_path}/elsewhere/one.png"]


def test_two_listed_images_of_one_name_are_refused(guidino: Guidino, images: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "one.png").write_bytes((images / "one.png").read_bytes())
    (tmp_path / "files.txt").write_text(f"{images}/one.png\n{tmp_path}/other/one.png\n")
    outcome = guidino("predict", RUN, "--list", tmp_path / "files.txt", "-o", out)
    assert outcome.code == 3
    assert "both would be written as one.png" in outcome.stderr


def test_masks_do_not_go_into_the_folder_of_a_listed_image(guidino: Guidino, images: Path, tmp_path: Path) -> None:
    (tmp_path / "files.txt").write_text(f"{images}/one.png\n")
    outcome = guidino("predict", RUN, "--list", tmp_path / "files.txt", "-o", images, "--overwrite")
    assert outcome.code == 2
    assert "holds the input" in outcome.stderr


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (None, 3, "cannot be read (No such file or directory)"),
        (b"", 3, "holds no name, expected one image per line"),
        (b"\n \n", 3, "holds no name"),
        (b"\0\0", 3, "holds no name"),
    ],
)
def test_a_list_without_names_is_refused(
    guidino: Guidino, out: Path, tmp_path: Path, content: bytes | None, code: int, message: str
) -> None:
    if content is not None:
        (tmp_path / "files.txt").write_bytes(content)
    outcome = guidino("predict", RUN, "--list", tmp_path / "files.txt", "-o", out)
    assert outcome.code == code
    assert message in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert not out.exists()


def test_a_list_from_a_terminal_or_closed_input_is_refused(
    guidino: Guidino, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_stdin(monkeypatch, b"", is_terminal=True)
    outcome = guidino("predict", RUN, "--list", "-", "-o", out)
    assert outcome.code == 2
    assert "standard input is a terminal" in outcome.stderr
    monkeypatch.setattr("sys.stdin", None)
    assert "standard input is closed" in guidino("predict", RUN, "--list", "-", "-o", out).stderr
