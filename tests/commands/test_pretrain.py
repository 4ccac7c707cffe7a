"""`guidino pretrain` from images to a backbone that other commands load, and its errors."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from guidino_cli.data.images import read_image
from guidino_cli.engine.run_folders import lock_run_folder
from guidino_cli.models import build_backbone

_PRESET = """
student: {name: random, options: {hidden_size: 32, depth: 2, heads: 2}}
data: {side: 48}
train: {batch_size: 4, log_every: 2, picture_every: 2, save_minutes: 0}
dino: {prototypes: 16, patch_prototypes: 16, hidden: 16, bottleneck: 8, local_count: 1, freeze_last: 1, gram_step: 2}
stages:
  - {name: one, steps: 2, lr: 1e-3, momentum: 0.5, crops: [{global_size: 32, local_size: 16}]}
  - {name: two, steps: 2, lr: 1e-3, momentum: 0.5, gram: 2, side: 64, crops: [{global_size: 32, local_size: 32}]}
"""


def _folder(place: Path, count: int = 6) -> Path:
    (place / "images" / "below").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(count):
        inside = "below" if number % 2 else "."
        pixels = generator.integers(0, 256, (40, 50 + number, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(place / "images" / inside / f"{number}.png")
    return place / "images"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, guidino_once: Callable[..., None]) -> Path:
    """A finished run: `backbone`, beside `images` and `tiny.yaml`."""
    place = tmp_path_factory.mktemp("pretrained")
    (place / "tiny.yaml").write_text(_PRESET)
    guidino_once("pretrain", _folder(place), "-o", place / "backbone", "-p", place / "tiny.yaml", "--device", "cpu")
    return place


@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems lock folders")
def test_a_run_that_another_process_writes_to_is_refused_at_once(made: Path, guidino: Callable[..., Any]) -> None:
    with lock_run_folder(made / "backbone"):
        outcome = guidino("pretrain", "--resume", "-o", made / "backbone")
    assert outcome.code == 2
    assert "another guidino process writes to this run" in outcome.stderr
    assert (outcome.stdout, outcome.stderr.count("\n")) == ("", 1)


@pytest.mark.usefixtures("coarse_figures")
def test_the_result_is_a_backbone_that_other_commands_load(made: Path) -> None:
    backbone = build_backbone("dinov3", {"weights": str(made / "backbone")}, offline=True)
    facts = json.loads((made / "backbone" / "pretraining.json").read_text())
    assert backbone.identity["sha256"] == facts["result"]["sha256"]
    assert facts["images"]["images"] == 6
    assert facts["result"]["steps"] == 4


def test_the_backbone_has_the_features_of_the_final_teacher(made: Path) -> None:
    state = torch.load(made / "backbone" / "last" / "state.pt", weights_only=True)["objective"]
    start = build_backbone("random", {"hidden_size": 32, "depth": 2, "heads": 2})
    image = torch.rand(1, 3, 48, 32)
    before = start(image)[-1]
    own = {name.removeprefix("teacher.network."): value for name, value in state.items() if "teacher.network" in name}
    start.vit.load_state_dict({name: value for name, value in own.items() if not name.startswith("gram")})
    read = build_backbone("dinov3", {"weights": str(made / "backbone")}, offline=True)
    torch.testing.assert_close(read(image)[-1], start(image)[-1])
    assert not torch.allclose(before, start(image)[-1], atol=1e-3)


def test_the_history_has_every_term_of_its_stage(made: Path) -> None:
    rows = [json.loads(line) for line in (made / "backbone" / "history.jsonl").read_text().splitlines()]
    assert [(row["step"], row["stage"]) for row in rows] == [(2, "one"), (4, "two")]
    assert "gram" not in rows[0]
    for row in rows:
        names = [name for name in ("dino", "ibot", "koleo", "gram") if name in row]
        assert row["loss"] == pytest.approx(sum(row[name] for name in names), rel=1e-5)
        assert {"cosine", "target_entropy", "lr", "images_per_second"} <= row.keys()
    assert rows[1]["gram"] > 0


def test_figures_show_the_terms_and_the_tokens_of_fixed_images(made: Path) -> None:
    assert [path.stem for path in sorted((made / "backbone" / "looks").iterdir())] == [
        "00000000",
        "00000002",
        "00000004",
    ]
    for name in ("curve.png", "tokens.png"):
        assert read_image(made / "backbone" / name)[0].std() > 10


def test_a_finished_run_is_not_overwritten_without_the_option(made: Path, guidino: Callable[..., Any]) -> None:
    end = guidino("pretrain", made / "images", "-o", made / "backbone", "-p", made / "tiny.yaml")
    assert end.code == 2
    assert "--overwrite" in end.stderr


def test_resume_refuses_other_settings_and_other_images(
    made: Path, guidino: Callable[..., Any], tmp_path: Path
) -> None:
    other = guidino("pretrain", "--resume", "-o", made / "backbone", "--set", "dino.koleo=1", "--device", "cpu")
    assert other.code == 2
    assert "leave out --set" in other.stderr
    preset = guidino("pretrain", "--resume", "-o", made / "backbone", "--preset", "small", "--device", "cpu")
    assert preset.code == 2
    assert "which differ from preset small; leave out --preset" in preset.stderr
    both = guidino("pretrain", "--resume", "--overwrite", "-o", made / "backbone", "--device", "cpu")
    assert both.code == 2
    assert "--overwrite starts it again" in both.stderr
    end = guidino("pretrain", _folder(tmp_path, count=5), "--resume", "-o", made / "backbone", "--device", "cpu")
    assert end.code == 3
    assert "6 then, 5 now" in end.stderr


def test_a_finished_run_without_its_history_can_be_resumed(
    made: Path, guidino: Callable[..., Any], tmp_path: Path
) -> None:
    run = tmp_path / "again"
    copytree(made / "backbone", run)
    (run / "history.jsonl").unlink()
    end = guidino("pretrain", "--resume", "-o", run, "-p", made / "tiny.yaml", "--device", "cpu")
    assert end.code == 0, end.stderr
    assert (run / "model.safetensors").read_bytes() == (made / "backbone" / "model.safetensors").read_bytes()
    assert json.loads((run / "pretraining.json").read_text())["result"]["steps"] == 4


def test_a_dry_run_prints_the_settings_and_writes_nothing(
    made: Path, guidino: Callable[..., Any], tmp_path: Path
) -> None:
    arguments = ("--set", "stages.1.steps=7", "--dry-run")
    end = guidino("pretrain", made / "images", "-o", tmp_path / "new", "-p", made / "tiny.yaml", *arguments)
    assert end.code == 0
    assert "steps: 7" in end.stdout
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ("stages.0.crops.0.global_size=40", 2, "patches have 16 pixels: use a multiple, such as"),
        ("train.batch_size=7", 2, "6 images do not fill a batch of 7"),
        ("train.batchsize=7", 2, "did you mean 'batch_size'"),
        ("student.name=vit", 2, "backbone vit"),
    ],
)
def test_invalid_settings_are_one_line_with_a_remedy(
    made: Path, guidino: Callable[..., Any], tmp_path: Path, change: str, code: int, message: str
) -> None:
    end = guidino(
        "pretrain",
        made / "images",
        "-o",
        tmp_path / "new",
        "-p",
        made / "tiny.yaml",
        "--set",
        change,
        "--device",
        "cpu",
    )
    assert end.code == code
    assert message in end.stderr
    assert "Traceback" not in end.stderr
    assert not (tmp_path / "new").exists()


def test_a_folder_without_images_is_refused_by_name(made: Path, guidino: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    end = guidino("pretrain", tmp_path / "empty", "-o", tmp_path / "new", "-p", made / "tiny.yaml")
    assert end.code == 3
    assert "no image in it" in end.stderr
