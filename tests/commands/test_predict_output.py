"""`guidino predict`: where masks may go, what is said on the way and at the end."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from guidino_cli import progress
from guidino_cli.config import RunConfig, dump_config, parse_config
from guidino_cli.engine.runs.folder import RunFolder, run_facts, with_data_root
from guidino_cli.models import build_model


@pytest.fixture
def run(make_data: Callable[..., Path], tmp_path: Path) -> Path:
    """A run with the random weights it began with."""
    data, folder = make_data(), RunFolder(tmp_path / "run")
    settings: dict[str, Any] = {
        "model": {"segmenter": {"name": "unet", "options": {"width": 4}}},
        "data": {"image_size": 32},
    }
    config: RunConfig = with_data_root(parse_config(settings), data)
    torch.manual_seed(0)
    model = build_model(config.model, num_classes=2)
    folder.create(config, run_facts(model, classes=["background", "polyp"], data=data))
    folder.save_weights(model)
    return folder.path


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((20, 24, 3), dtype=np.uint8)).save(path)
    return path


def test_one_mask_is_one_mask(guidino: Callable[..., Any], run: Path, tmp_path: Path) -> None:
    image, out = save(tmp_path / "images" / "a.png"), tmp_path / "out"
    outcome = guidino("predict", run, image, "-o", out)
    assert outcome.stdout == f"1 mask in {out} (class indices 0..1); next: guidino evaluate {out} TRUTH -o REPORT\n"


def test_without_a_mask_evaluate_is_not_offered(guidino: Callable[..., Any], run: Path, tmp_path: Path) -> None:
    broken = tmp_path / "images" / "a.png"
    broken.parent.mkdir()
    broken.write_bytes(b"no picture")
    outcome = guidino("predict", run, broken, "-o", tmp_path / "out")
    assert outcome.code == 3
    assert "none of 1 image could be read" in outcome.stderr
    assert outcome.stdout == f"0 masks in {tmp_path / 'out'} (class indices 0..1)\n"


def test_a_missing_image_is_refused_before_anything_is_created(
    guidino: Callable[..., Any], run: Path, tmp_path: Path
) -> None:
    image, out = save(tmp_path / "images" / "a.png"), tmp_path / "out"
    outcome = guidino("predict", run, image, tmp_path / "nope.png", "-o", out)
    assert outcome.code == 3
    assert "nope.png: no such file or folder" in outcome.stderr
    assert not out.exists()


def test_what_a_killed_run_left_is_removed(guidino: Callable[..., Any], run: Path, tmp_path: Path) -> None:
    image, out = save(tmp_path / "images" / "a.png"), tmp_path / "out"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (out / "overlays").mkdir(parents=True)
    left = out / "overlays" / f".a.{dead.pid}.tmp.png"
    left.touch()
    assert guidino("predict", run, image, "-o", out, "--overwrite").code == 0
    assert not left.exists()


def test_masks_that_were_there_already_can_still_be_evaluated(
    guidino: Callable[..., Any], run: Path, tmp_path: Path
) -> None:
    image, out = save(tmp_path / "images" / "a.png"), tmp_path / "out"
    guidino("predict", run, image, "-o", out)
    outcome = guidino("predict", run, image, "-o", out, "--skip-existing")
    assert "0 masks" in outcome.stdout
    assert "next: guidino evaluate" in outcome.stdout


def test_a_folder_inside_the_inputs_is_refused(guidino: Callable[..., Any], run: Path, tmp_path: Path) -> None:
    save(tmp_path / "images" / "a.png")
    outcome = guidino("predict", run, tmp_path / "images", "-o", tmp_path / "images" / "masks" / "new")
    assert outcome.code == 2
    assert "lies inside" in outcome.stderr
    assert not (tmp_path / "images" / "masks").exists()


def test_a_place_below_a_file_is_refused_before_anything_is_loaded(guidino: Callable[..., Any], tmp_path: Path) -> None:
    image = save(tmp_path / "images" / "a.png")
    (tmp_path / "file").write_text("")
    (tmp_path / "config.yaml").write_text(dump_config(RunConfig()))
    outcome = guidino("predict", tmp_path, image, "-o", tmp_path / "file" / "out")
    assert outcome.code == 2
    assert "cannot be written to" in outcome.stderr


def test_without_a_terminal_a_line_now_and_then_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, said = [0.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "log_info", said.append)
    for _ in progress.track(range(5), total=5, description="predict", every_seconds=15):
        now[0] += 10.0
    # Two items take 20 s, so three take 30 more; the last one needs no line.
    assert said == ["predict 2/5, about 30 s left", "predict 4/5, about 10 s left"]
