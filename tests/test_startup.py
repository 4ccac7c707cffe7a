"""What commands import: prediction with the built-in guide, and answers to mistyped runs and settings."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.config import dump_config, load_preset
from guidino_cli.engine.runs.folder import RunFolder, run_facts
from guidino_cli.models import build_model

HEAVY = {"transformers", "peft", "accelerate", "torch._dynamo", "sympy", "scipy", "skimage", "matplotlib"}


def _main(*words: object, before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
    code = f"""
import sys
{before}
sys.argv = {["guidino", *map(str, words)]}
from guidino_cli.cli import main
try:
    main()
except SystemExit as stop:
    status = stop.code
{after}
sys.exit(status)
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.fixture
def tiny_run(make_data: Callable[..., Path], tmp_path: Path) -> Path:
    """A run of the demo preset, whose backbone is guidino-tiny, with the weights it started with."""
    config = load_preset("demo")
    model = build_model(config.model, num_classes=2)
    folder = RunFolder(tmp_path / "run")
    folder.create(config, run_facts(model, classes=["background", "polyp"], data=make_data()))
    folder.save_weights(model)
    return folder.path


def test_predicting_with_the_built_in_guide_imports_torch_and_little_else(tiny_run: Path, tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 50), 128, dtype=np.uint8)).save(tmp_path / "a.png")
    report = f"print(*sorted({HEAVY} & set(sys.modules)))"
    done = _main("predict", tiny_run, tmp_path / "a.png", "-o", tmp_path / "masks", after=report)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "masks" / "a.png").is_file()
    assert done.stdout.splitlines()[-1] == ""


@pytest.mark.parametrize("command", ["predict IMAGE -o OUT", "tune-post", "export -o OUT.pt2"])
def test_a_mistyped_run_is_answered_without_torch(command: str, tmp_path: Path) -> None:
    name, *words = command.split()
    done = _main(name, tmp_path / "gone", *words, before="sys.modules['torch'] = None")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "gone: no such folder" in done.stderr


@pytest.mark.parametrize("command", ["predict IMAGE -o OUT", "tune-post"])
def test_a_mistyped_setting_is_answered_without_torch(command: str, tmp_path: Path) -> None:
    name, *words = command.split()
    (tmp_path / "config.yaml").write_text(dump_config(load_preset("demo")))
    done = _main(name, tmp_path, *words, "--set", "predict.miror=false", before="sys.modules['torch'] = None")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "predict.miror" in done.stderr
