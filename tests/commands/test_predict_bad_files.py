"""`guidino predict` among damaged, oversized and colliding files: the others are predicted, and nothing is replaced."""

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

RUN = Path(__file__).parents[1] / "compatibility" / "run_45086b3" / "guided"


def picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def bomb(path: Path, side: int = 44_000) -> None:
    """A PNG whose header claims a square of this side."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    content = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(content))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return picture(tmp_path / "images" / "good.png").parent


def test_a_bomb_costs_one_image_and_is_met_once(guidino: Callable[..., Any], images: Path, tmp_path: Path) -> None:
    bomb(images / "a.png")
    out = tmp_path / "out"
    outcome = guidino("predict", RUN, images, "-o", out)
    assert outcome.code == 6
    assert "a.png: claims 44000 x 44000 pixels" in outcome.stderr
    assert (out / "good.png").is_file()
    again = guidino("predict", RUN, images, "-o", out, "--skip-existing")
    assert again.code == 6
    assert "not tried again" in again.stderr
    assert [Path(item["image"]).name for item in lines(out / "failed.jsonl")] == ["a.png"]
    assert len(lines(out / "predictions.jsonl")) == 2


def test_a_failed_image_is_tried_again_if_its_file_or_the_limit_has_changed(
    guidino: Callable[..., Any], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, words = tmp_path / "out", ["predict", RUN, images, "-o", tmp_path / "out"]
    monkeypatch.setenv("GUIDINO_MAX_PIXELS", "1024")
    Image.new("RGB", (33, 32)).save(images / "a.png")
    assert guidino(*words).code == 6
    monkeypatch.setenv("GUIDINO_MAX_PIXELS", "1056")
    assert guidino(*words, "--skip-existing").code == 0
    assert (out / "a.png").is_file()


def test_a_failed_image_leaves_no_mask_of_the_image_that_had_its_name(
    guidino: Callable[..., Any], images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    picture(images / "a.png")
    assert guidino("predict", RUN, images, "-o", out, "--overlay").code == 0
    (images / "a.png").write_bytes(b"damaged")
    assert guidino("predict", RUN, images, "-o", out, "--overlay", "--overwrite").code == 6
    assert sorted(path.name for path in out.rglob("*.png")) == ["good.png", "good.png"]


@pytest.mark.parametrize("offset", [2, 10, 18, 26, 50, 66, 82, 98, 114])
def test_a_damaged_tiff_does_not_stop_the_others(
    offset: int, guidino: Callable[..., Any], images: Path, tmp_path: Path
) -> None:
    path = images / "a.tif"
    tifffile.imwrite(path, np.zeros((32, 32), np.uint8), photometric="minisblack", compression="zlib")
    content = bytearray(path.read_bytes())
    content[offset : offset + 8] = b"\x7f\x01\xff\xfe\xa1\xce\x00\x7f"
    path.write_bytes(content)
    outcome = guidino("predict", RUN, images, "-o", tmp_path / "out", "--set", "predict.mirror=false")
    assert outcome.code in {0, 6}
    assert (tmp_path / "out" / "good.png").is_file()
    assert len(lines(tmp_path / "out" / "predictions.jsonl")) == 2


@pytest.mark.parametrize(
    ("names", "options", "path"),
    [
        (["a.png", "overlays/a.png"], ["--overlay"], "overlays/a.png"),
        (["a.png", "guides/a.png"], ["--save-guide"], "guides/a.png"),
        (["a.png", "a.jpg"], [], "a.png"),
        (["a.png", "A.png"], [], "a.png"),
        (["e\u0301.png", "\u00e9.png"], [], "\u00e9.png"),
        (["x.jpg", "x.png/a.jpg"], [], "x.png would be a file and a folder"),
        (["a.png", "predictions.json/b.png"], [], "predictions.json would be a file and a folder"),
    ],
)
def test_outputs_that_would_replace_each_other_are_refused_before_anything_is_written(
    names: list[str], options: list[str], path: str, guidino: Callable[..., Any], tmp_path: Path
) -> None:
    for seed, name in enumerate(names):
        picture(tmp_path / "images" / name, seed)
    outcome = guidino("predict", RUN, tmp_path / "images", "-o", tmp_path / "out", "--recursive", *options)
    assert outcome.code == 3
    assert path.casefold() in outcome.stderr.casefold()
    assert len(outcome.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", [["a.png", "overlays/a.png"], ["a.png", "guides/a.png"], ["a.png", "x/a.png"]])
def test_folders_that_no_output_needs_are_no_collision(
    names: list[str], guidino: Callable[..., Any], tmp_path: Path
) -> None:
    for seed, name in enumerate(names):
        picture(tmp_path / "images" / name, seed)
    assert guidino("predict", RUN, tmp_path / "images", "-o", tmp_path / "out", "--recursive").code == 0
    assert all((tmp_path / "out" / name).is_file() for name in names)


def test_an_output_never_replaces_an_input(guidino: Callable[..., Any], tmp_path: Path) -> None:
    image = picture(tmp_path / "out" / "overlays" / "a.png")
    before = image.read_bytes()
    outcome = guidino("predict", RUN, image, "-o", tmp_path / "out", "--overlay", "--overwrite")
    assert outcome.code == 3
    assert "is an input and would be replaced" in outcome.stderr
    assert image.read_bytes() == before


def test_a_full_disk_ends_with_7(guidino: Callable[..., Any], images: Path, tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "predictions.jsonl").symlink_to("/dev/full")
    outcome = guidino("predict", RUN, images, "-o", tmp_path / "out", "--skip-existing")
    assert outcome.code == 7
    assert "predictions.jsonl: cannot be written (No space left on device)" in outcome.stderr


def test_a_folder_of_volumes_is_answered_with_how_to_cut_slices(guidino: Callable[..., Any], tmp_path: Path) -> None:
    volumes = tmp_path / "volumes"
    volumes.mkdir()
    content = np.random.default_rng(0).integers(0, 1000, (24, 24, 4)).astype(np.int16)
    nibabel.Nifti1Image(content, np.diag([1, 1, 5, 1])).to_filename(volumes / "a.nii.gz")
    for place in (volumes, volumes / "a.nii.gz"):
        outcome = guidino("predict", RUN, place, "-o", tmp_path / "out")
        assert outcome.code == 3
        assert f"`guidino slices {volumes} -o SLICES`, for MR with `--window auto`" in outcome.stderr
        assert "--recursive" in outcome.stderr
    # The advice works.
    slices = tmp_path / "slices"
    assert guidino("slices", volumes, "-o", slices, "--window", "auto", "--size", "32").code == 0
    assert guidino("predict", RUN, slices, "-o", tmp_path / "out", "--recursive").code == 0
    assert len(list((tmp_path / "out").rglob("*.png"))) == 4


@pytest.mark.parametrize("name", ["x.dcm", "IM_0001"])
def test_a_dicom_file_is_called_one(name: str, guidino: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    outcome = guidino("predict", RUN, tmp_path / name, "-o", tmp_path / "out")
    assert outcome.code == 3
    assert f"{name}: is a DICOM file; volumes need a run that was trained on volumes" in outcome.stderr
    assert "convert them to NIfTI first (dcm2niix)" in outcome.stderr


@pytest.mark.parametrize("part", ["best", "best/model.safetensors", "config.yaml"])
def test_a_part_of_a_run_is_answered_with_the_run(
    part: str, guidino: Callable[..., Any], images: Path, tmp_path: Path
) -> None:
    outcome = guidino("predict", RUN / part, images, "-o", tmp_path / "out")
    assert outcome.code == 3
    assert f"a part of a run; did you mean {RUN}?" in outcome.stderr


def test_an_overlay_names_its_classes_below_the_image(
    guidino: Callable[..., Any], images: Path, tmp_path: Path
) -> None:
    assert guidino("predict", RUN, images, "-o", tmp_path / "out", "--overlay").code == 0
    overlay = np.asarray(Image.open(tmp_path / "out" / "overlays" / "good.png"))
    assert overlay.shape[0] > 32
    assert overlay.shape[1] == 32
    # The first colour of Okabe and Ito, of the class nucleus.
    assert (overlay[32:] == (0x56, 0xB4, 0xE9)).all(axis=2).any()


@pytest.mark.parametrize("name", ["a" * 250, "é" * 101, "NUL", "a\x1b[31mb"])
def test_an_image_whose_name_no_mask_can_have_is_named_and_the_others_are_predicted(
    guidino: Callable[..., Any], images: Path, tmp_path: Path, name: str
) -> None:
    picture(images / f"{name}.png")
    out = tmp_path / "out"
    for more in ((), ("--skip-existing",)):
        outcome = guidino("predict", RUN, images, "-o", out, "--overlay", *more)
        assert outcome.code == 6
        assert name[:5] in outcome.stderr.replace("\\x1b", "\x1b")
        assert "its mask cannot be named" in outcome.stderr
        assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png")) == [
            "good.png",
            "overlays/good.png",
        ]
        assert [Path(item["image"]).stem for item in lines(out / "failed.jsonl")] == [name]


def test_a_name_of_200_bytes_leaves_room_for_every_output(
    guidino: Callable[..., Any], images: Path, tmp_path: Path
) -> None:
    picture(images / f"{'é' * 100}.png")
    outcome = guidino(
        "predict", RUN, images, "-o", tmp_path / "out", "--overlay", "--save-guide", "--save-probabilities"
    )
    assert outcome.code == 0
