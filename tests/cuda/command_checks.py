"""Checks for `worker.py`: commands on the pretended device, each through the real command line."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from accelerate.state import AcceleratorState, GradientState
from PIL import Image
from run_checks import BACKBONE, GUIDE, GUIDE_LOSS, make_data

from guidino_cli.cli import main
from guidino_cli.commands import train
from guidino_cli.engine.pretraining.folder import PretrainFolder
from guidino_cli.engine.pretraining.loop import Pretrainer
from guidino_cli.engine.pretraining.student import build_objective, build_student
from guidino_cli.pretrain_config import PretrainConfig, override_pretrain_config

CHECKS: dict[str, Callable[[Any, Path], Any]] = {}

# Curves come from numbers that are in main memory.
train.draw_curve = lambda *_: None  # type: ignore[assignment]
train.curve_callback = lambda *_: None  # type: ignore[assignment]

_SETTINGS = ["data.image_size=32", "train.batch_size=2", "train.epochs=1", "predict.overlap=0", "predict.mirror=false"]
_UNET = "model.segmenter={name: unet, options: {width: 4}}"


def call(*words: object) -> int:
    """The exit code of a command line."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    sys.argv = ["guidino", *map(str, words)]
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def train_run(folder: Path, *settings: str, device: str = "cuda", validation: int = 2) -> tuple[Path, Path, int]:
    """A data folder, a run trained on it, and the exit code."""
    data = make_data(folder / "data", validation=validation)
    (folder / "empty.yaml").write_text("{}\n")
    words = [word for setting in (*_SETTINGS, *settings) for word in ("--set", setting)]
    words += ["--device", device, "--offline"]
    code = call("train", "-p", folder / "empty.yaml", "-d", data, "-o", folder / "run", *words)
    return data, folder / "run", code


def _use_a_run(watch: Any, folder: Path) -> dict[str, Any]:
    """Train with a guide, then predict whole images, in strips, an ensemble, tune, and draw the guide."""
    data, run, trained = train_run(folder, _UNET, BACKBONE, GUIDE.format(at="bottleneck"), GUIDE_LOSS)
    images, codes = data / "images", {"train": trained}
    with watch.recording() as record:
        codes["predict"] = call("predict", run, images, "-o", folder / "masks", "--offline")
    numbers = ("--save-probabilities", "--save-guide", "--offline")
    codes["predict probabilities"] = call("predict", run, images, "-o", folder / "cuda", *numbers)
    codes["predict on the cpu"] = call("predict", run, images, "-o", folder / "cpu", *numbers, "--device", "cpu")
    strips = ("--set", "predict.memory_gb=1e-6")
    codes["strips"] = call("predict", run, images, "-o", folder / "strips", "--offline", *strips)
    other = train_run(folder / "other", _UNET)[1]
    extra = ("--ensemble", other, "--save-probabilities", "--save-guide")
    codes["ensemble"] = call("predict", run, images, "-o", folder / "both", "--offline", *extra)
    codes["tune-post"] = call("tune-post", run, "--offline")
    guide = ("--run", run, "-o", folder / "guide", "--offline")
    codes["visualize-guide"] = call("visualize-guide", images / "0.png", *guide)
    tokens = ("--backbone", "random", "-o", folder / "tokens", "--offline")
    codes["visualize-guide of a backbone"] = call("visualize-guide", images / "0.png", *tokens)
    return {
        "codes": codes,
        "predict": record.as_json(),
        "precision": json.loads((run / "run.json").read_text())["precision"],
        "benchmark": json.loads((run / "run.json").read_text())["torch"]["cudnn_benchmark"],
        "files": sorted(path.name for path in run.iterdir()),
        "unlike the cpu": _difference(folder / "cuda", folder / "cpu"),
        "strips like the whole": _agreement(folder / "masks", folder / "strips"),
        "result": json.loads((run / "result.json").read_text()),
    }


def _agreement(one: Path, other: Path) -> float:
    """Share of equal pixels of the masks of two folders."""
    equal = [np.asarray(Image.open(path)) == np.asarray(Image.open(other / path.name)) for path in one.glob("*.png")]
    return float(np.mean([item.mean() for item in equal]))


def _difference(one: Path, other: Path) -> float:
    """Largest difference of the probabilities in two folders."""
    found = []
    for path in (one / "probabilities").glob("*.npz"):
        ours, theirs = (np.load(place)["probabilities"] for place in (path, other / "probabilities" / path.name))
        found.append(np.abs(ours.astype(np.float32) - theirs).max())
    return float(max(found))


def _train_with_adapters(watch: Any, folder: Path) -> int:
    guided = (_UNET, BACKBONE, GUIDE.format(at="bottleneck"), GUIDE_LOSS)
    return train_run(folder, *guided, "model.lora={rank: 2, alpha: 4}")[2]


def _train_on_a_numbered_card(watch: Any, folder: Path) -> int:
    return train_run(folder, _UNET, device="cuda:0")[2]


CHECKS["commands"] = _use_a_run
CHECKS["train on cuda:0"] = _train_on_a_numbered_card
CHECKS["train command with LoRA"] = _train_with_adapters

_PRETRAIN = """
student: {name: random, options: {hidden_size: 32, depth: 2, heads: 2}}
data: {side: 48, workers: 0}
train: {batch_size: 4, log_every: 2, picture_every: 0, save_minutes: 0}
dino: {prototypes: 16, patch_prototypes: 16, hidden: 16, bottleneck: 8, local_count: 1, freeze_last: 1, gram_step: 2}
stages:
  - {name: one, steps: 2, lr: 1e-3, momentum: 0.5, crops: [{global_size: 32, local_size: 16}]}
  - {name: two, steps: 2, lr: 1e-3, momentum: 0.5, gram: 2, side: 64, crops: [{global_size: 32, local_size: 32}]}
"""
_DISTILL = """
student: {name: random, options: {hidden_size: 16, depth: 1, heads: 2}}
data: {side: 48, workers: 0}
train: {batch_size: 4, log_every: 2, picture_every: 0, save_minutes: 0}
distill: {teacher: {name: random, options: {hidden_size: 32, depth: 1, heads: 2, seed: 3}}, views: 2}
stages: [{name: one, steps: 4, lr: 1e-3, gram: 1.0, crops: [{global_size: 32, local_size: 32}]}]
"""


def _images(folder: Path) -> list[Path]:
    folder.mkdir()
    generator, paths = np.random.default_rng(0), [folder / f"{number}.png" for number in range(6)]
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (40, 52, 3)).astype(np.uint8)).save(path)
    return paths


def _pretrain(text: str, precision: str) -> Callable[[Any, Path], Any]:
    """Steps of pretraining, the last of them recorded."""

    def check(watch: Any, folder: Path) -> dict[str, Any]:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        (folder / "preset.yaml").write_text(text)
        settings = [f"{key}={json.dumps(value)}" for key, value in yaml.safe_load(text).items()]
        config = override_pretrain_config(PretrainConfig(), [*settings, f"train.precision={precision}"])
        paths = _images(folder / "images")
        student = build_student(config, offline=True)
        objective = build_objective(student, config, paths=paths, features=folder / "teacher")
        place = PretrainFolder(folder / "run")
        place.create(config, {})
        trainer = Pretrainer(objective, config, place, paths=paths)
        trainer.objective.train()
        for _ in range(3):
            trainer._step(trainer._load_batches())
        with watch.recording() as record:
            trainer._step(trainer._load_batches())
        return {"device": str(trainer.accelerator.device), "step": record.as_json()}

    return check


CHECKS |= {
    f"pretrain {kind}, {precision}": _pretrain(text, precision)
    for kind, text in {"self-distillation": _PRETRAIN, "distillation": _DISTILL}.items()
    for precision in ("bf16", "no")
}
