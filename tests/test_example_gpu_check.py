"""examples/gpu_check.sh on the CPU: its table, and its exit code."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from guidino_cli import __version__

SCRIPT = Path(__file__).parent.parent / "examples" / "gpu_check.sh"
_SMALL = (
    "data.image_size=48",
    "train.epochs=2",
    "train.workers=0",
    "model.segmenter={name: unet, options: {width: 4}}",
    "predict.mirror=false",
)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_check_of_a_gpu_passes_on_a_cpu_and_prints_its_table(tmp_path: Path) -> None:
    """A resumed run equals one that was not interrupted, and the masks of the device are those of the CPU."""
    settings = [word for setting in _SMALL for word in ("--set", setting)]
    python = str(Path(sys.executable).parent)
    environment = os.environ | {
        "GUIDINO": f"{sys.executable} -m guidino_cli",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{python}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(SCRIPT.parent.parent), os.environ.get("PYTHONPATH", "")])),
    }
    line = ["bash", str(SCRIPT), str(tmp_path / "check"), "cpu", *settings]
    outcome = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=1800)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    rows = dict(row.strip("| ").split(" | ", 1) for row in outcome.stdout.splitlines() if row.startswith("| "))
    assert rows["device"].startswith("cpu: ")
    assert rows["precision"] == "training full, validation full"
    codes = "prepare 0, train 0, predict 0, predict-cpu 0, compare 0, whole 0, interrupt 143, resume 0"
    assert rows["exit codes"] in {codes, codes.replace("143", "0")}
    assert rows["guidino"].startswith(__version__)
    assert float(rows["minutes in all"]) < 30
    assert rows["seconds a step"].endswith("(batch 4, last epoch)")
    assert rows["Dice of masks, device against CPU"].startswith("lowest 1.0000 of ")
    assert rows["resumed run equals the whole one"].startswith("yes")
    assert rows["out of memory"] == "not tried on cpu"
    assert "all checks passed" in outcome.stdout


def test_the_check_says_what_failed(tmp_path: Path) -> None:
    """Without a guidino to call."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"GUIDINO": "false", "PATH": path}
    line = ["bash", str(SCRIPT), str(tmp_path / "check"), "cpu"]
    outcome = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=600)
    assert outcome.returncode == 1
    steps = "prepare, train, predict, predict-cpu, compare, whole, interrupt, resume"
    assert f"failed: {steps}, resume equality" in outcome.stdout


def test_a_table_to_paste_has_the_reason_of_what_failed(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("#!/bin/sh\necho one line\necho 'guidino: a | reason' >&2\nexit 5\n")
    (tmp_path / "broken").chmod(0o755)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"GUIDINO": str(tmp_path / "broken"), "PATH": path}
    line = ["bash", str(SCRIPT), str(tmp_path / "check"), "cpu"]
    outcome = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=600)
    assert outcome.returncode == 1
    assert "| train failed | guidino: a   reason |" in outcome.stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--help"], 0, "Usage: examples/gpu_check.sh [OUT] [DEVICE]"),
        (["cuda"], 2, "cuda: expected OUT, a folder, as the first argument"),
        (["--device", "cpu"], 2, "--device: expected OUT"),
        (["OUT", "gpu"], 2, "gpu: cannot be used ("),
        (["OUT", "cpu:7:7"], 2, "expected cuda, cuda:0, mps or cpu as the second argument"),
    ],
)
def test_a_mistyped_call_says_what_is_expected(words: list[str], code: int, said: str, tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    line = ["bash", str(SCRIPT), *(str(tmp_path / "out") if word == "OUT" else word for word in words)]
    outcome = subprocess.run(line, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=600)
    assert outcome.returncode == code
    assert said in outcome.stdout + outcome.stderr
    assert not (tmp_path / "out").exists()


def test_the_check_deletes_no_folder_of_others(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").touch()
    outcome = subprocess.run(["bash", str(SCRIPT), str(tmp_path), "cpu"], capture_output=True, text=True, timeout=600)
    assert outcome.returncode == 2
    assert "is not the folder of an earlier check" in outcome.stderr
    assert (tmp_path / "kept.txt").is_file()
