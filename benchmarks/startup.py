"""CPU seconds of one small prediction with the built-in guide, as multiples of `import torch`; prints JSON.

    python benchmarks/startup.py [--rounds 5]

A run of the preset `demo` with random weights predicts one image of 128 px, and draws its guide. Each command runs in
a process of its own, in alternation; the values are medians over rounds, user and system time together.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from guidino_cli.config import dump_config, load_preset
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.files import write_text
from guidino_cli.models import build_model

_GUIDINO = [sys.executable, "-m", "guidino_cli"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        commands = _commands(Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        # One round more: the first fills the file cache.
        for _ in range(rounds + 1):
            for name, command in commands.items():
                seconds[name].append(_cpu_seconds(command))
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    unit = medians["import torch"]
    content = {
        name: {"cpu_seconds": round(v, 2), "times_import_torch": round(v / unit, 2)} for name, v in medians.items()
    }
    print(json.dumps({"torch": torch.__version__, "rounds": rounds, "commands": content}, indent=2))


def _commands(folder: Path) -> dict[str, list[str]]:
    run, image = folder / "run", folder / "a.png"
    _write_run(run)
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128), dtype=np.uint8)
    Image.fromarray(pixels).save(image)
    masks, guides = str(folder / "masks"), str(folder / "guides")
    return {
        "import torch": [sys.executable, "-c", "import torch"],
        "predict": [*_GUIDINO, "predict", str(run), str(image), "-o", masks, "--overwrite"],
        "visualize-guide": [*_GUIDINO, "visualize-guide", str(image), "--run", str(run), "-o", guides, "--overwrite"],
    }


def _write_run(path: Path) -> None:
    """The files of a run folder that commands read."""
    config = load_preset("demo")
    model = build_model(config.model, num_classes=2)
    assert model.backbone is not None
    facts = {"format": 1, "classes": ["background", "nucleus"], "backbone": model.backbone.identity}
    path.mkdir()
    write_text(path / "config.yaml", dump_config(config))
    write_text(path / "run.json", json.dumps(facts))
    RunFolder(path).save_weights(model)


def _cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
