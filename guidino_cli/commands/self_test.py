"""Self-test of an installation: training, prediction and evaluation on synthetic images in a temporary folder."""

import io
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from guidino_cli.data.image_writing import write_label_map
from guidino_cli.data.manifest import Manifest, save_manifest
from guidino_cli.files import write_text
from guidino_cli.options.evaluation import EvaluateOptions
from guidino_cli.options.prediction import PredictOptions
from guidino_cli.options.training import TrainCommandOptions
from guidino_cli.types import Case

_SIDE = 32
_PRESET = """
description: self-test
model:
  segmenter: {name: unet, options: {width: 4}}
  backbone: {name: random, options: {hidden_size: 32, depth: 1, heads: 2}}
  guide: {at: bottleneck, options: {prototypes: 4, aggregate: softmax}}
data: {image_size: 32, augment: light}
train: {epochs: 2, batch_size: 2, lr: 1e-2, loss: {dice: 1, cross_entropy: 1, guide: 0.1}}
predict: {overlap: 0, mirror: false}
"""


@dataclass(frozen=True)
class SelfTest:
    """Seconds of each part, without imports."""

    train: float
    predict: float
    evaluate: float


def self_test() -> SelfTest:
    """Train a guided network for four steps, predict two images and evaluate them; their output is discarded.

    Raises:
        Exception: Any error of these commands.
        GateError: Masks compared with themselves do not have a Dice of 1.
    """
    from guidino_cli.commands import evaluate, predict, train

    output = io.StringIO()
    with (
        tempfile.TemporaryDirectory(prefix="guidino-") as folder,
        redirect_stdout(output),
        redirect_stderr(output),
    ):
        data, out = _make_data(Path(folder) / "data"), Path(folder)
        write_text(out / "preset.yaml", _PRESET)
        started = time.perf_counter()
        train.run(TrainCommandOptions(preset=str(out / "preset.yaml"), data=data, out=out / "run", offline=True))
        trained = time.perf_counter()
        predict.run(out / "run", [data], out / "masks", PredictOptions(offline=True))
        predicted = time.perf_counter()
        evaluate.run(out / "masks", data, EvaluateOptions(out=out / "report"))
        evaluate.run(data / "masks", data, EvaluateOptions(split="all", min_dice=["1.0"]))
        ended = time.perf_counter()
    return SelfTest(round(trained - started, 2), round(predicted - trained, 2), round(ended - predicted, 2))


def _make_data(folder: Path) -> Path:
    """Bright squares on a dark texture: four for training, two for validation, two for prediction."""
    generator, cases = np.random.default_rng(0), []
    (folder / "images").mkdir(parents=True)
    for number, split in enumerate(["train"] * 4 + ["val"] * 2 + ["test"] * 2):
        pixels = generator.integers(0, 60, (_SIDE, _SIDE, 3)).astype(np.uint8)
        labels = np.zeros((_SIDE, _SIDE), dtype=np.uint8)
        y, x = generator.integers(0, _SIDE // 2, 2)
        labels[y : y + 12, x : x + 12] = 1
        pixels[labels == 1] += 150
        image, mask = folder / "images" / f"{number}.png", folder / "masks" / f"{number}.png"
        Image.fromarray(pixels).save(image)
        write_label_map(mask, labels)
        share = float(labels.mean())
        cases.append(Case(str(number), image, mask, split, None, str(number), (_SIDE, _SIDE), share))
    save_manifest(Manifest("synthetic squares", ["background", "square"], cases), folder)
    return folder
