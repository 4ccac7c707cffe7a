"""Train the rows of the evidence table: networks with and without a guide, on all images of a set and on 20 of them.

    python benchmarks/evidence.py few DATA SMALL --images 20 --draw 0
    python benchmarks/evidence.py run QUEUE OUT

DATA is a folder made by `guidino prepare` with the official parts; `few` writes another one, SMALL, with the images of
a draw of benchmarks/fewshot.py and its test images. QUEUE is a text file with one run per line, "DATA ROW SEED", read
again before every run; a row is one of `ROWS`. `run` does what `guidino train`, `predict` and `evaluate` do with these
settings, in one process and without their figures, and appends a line to OUT/rows.jsonl.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from fewshot import split
from guide import COMMON, evaluate, work

# 112 px are enlarged to 128, so that patches of 16 make the 8 x 8 grid of guidino-tiny.
_RANDOM = ["model.backbone={name: random, options: {depth: 6, scale: 1.142858}}"]
_FEW = [
    *("model.segmenter.options.width=16", "data.image_size=112", "train.epochs=30", "train.batch_size=8"),
    "train.validate_every=1000",
]
# Features of several seeds are the same; they are computed once.
_NEW = ["predict.mirror=false", "train.validate_every=1000", "train.dense_cache=disk"]
# What own-unet was until images kept their shape; the candidates beside it were compared with that.
_STRETCH = [*_NEW, "data.resize=stretch"]
_EMBEDDED = "model.backbone={name: embedded, options: {layers: [8]}}"
_UNET = [
    *("model.segmenter={name: unet, options: {width: 8}}", "train.epochs=10", "train.min_steps=0"),
    *("train.batch_size=8", "train.lr=2e-3", "train.warmup_epochs=1", "train.weight_decay=1e-4"),
]
# The backbone sees 336 px and makes 24 x 24 tokens, the network 112 px.
_FINE = [*COMMON, "data.image_size=336", "model.reduction=3", "data.augment=mirror", "train.dense_cache=disk"]
_FIXED = [
    "model.guide={name: ridge, at: input, per_class: true, fit: closed-form}",
    "train.loss={dice: 1, cross_entropy: 1}",
]
ROWS: dict[str, tuple[str, list[str]]] = {
    "plain": ("own-plain-unet", COMMON),
    "gate": ("own-gated-unet", COMMON),
    "random": ("own-gated-unet", [*COMMON, *_RANDOM]),
    "new": ("own-unet", _NEW),
    "new-embedded": ("own-unet", [*_NEW, _EMBEDDED]),
    "plain-longer": ("own-plain-unet", [*COMMON, "data.resize=longer"]),
    "new-stretch": ("own-unet", _STRETCH),
    "new-stretch-embedded": ("own-unet", [*_STRETCH, _EMBEDDED]),
    "new-unet": ("own-unet", [*_STRETCH, *_UNET]),
    "new-coarse": ("own-unet", [*_STRETCH, "data.image_size=112", "model.reduction=1"]),
    "new-channels": ("own-unet", [*_STRETCH, "model.guide.at=channels"]),
    "gate-fine": ("own-gated-unet", _FINE),
    "gate-fixed": ("own-gated-unet", [*_FINE, *_FIXED]),
    "few-plain": ("own-plain-unet", _FEW),
    "few-gate": ("own-gated-unet", _FEW),
    "few-new": ("own-unet", _NEW),
}
GRID, SIDE = (112, 112), 336


def few(data: Path, small: Path, *, images: int, draw: int, source: Path) -> None:
    """Write a prepared folder with the labelled and the test images of a draw, and four validation images.

    These are outside the labelled ones, and choose nothing: they are looked at once, after the last epoch.
    """
    from guidino_cli.data.manifest import Manifest, load_manifest, save_manifest

    whole = load_manifest(data)
    pool, test = split(source)
    chosen = [pool[place] for place in np.random.default_rng(100 + draw).permutation(len(pool))[:images]]
    wanted = {"train": set(chosen), "test": set(test), "val": {case.id for case in whole.select("val")[:4]}}
    cases = [case for name, stems in wanted.items() for case in whole.select(name) if case.id in stems]
    if len(cases) != images + len(test) + 4:
        raise SystemExit(f"{data}: lacks cases of the draw")
    save_manifest(Manifest(whole.name, whole.classes, cases, {"draw": draw, "labels": images}), small)


def measure(data: Path, row: str, seed: int, run: Path) -> dict[str, Any]:
    """Train, predict and evaluate one run."""
    import torch

    preset, own = ROWS[row]
    load = os.getloadavg()[0]
    began = time.process_time()
    curve, seconds = train(preset, [*own, f"seed={seed}"], data, run, is_timed=seed == 0 and not row.startswith("few"))
    predicting = time.process_time()
    predict(run, data)
    predicted = time.process_time() - predicting
    facts = json.loads((run / "run.json").read_text())
    shutil.rmtree(run / "last")
    return {
        "data": data.name,
        "row": row,
        "seed": seed,
        **evaluate(run / "masks", data),
        **({"dice_112": dice_112(run / "masks", data)} if row.startswith("few") else {}),
        "curve": curve,
        "parameters": facts["parameters"],
        "train_cpu_seconds": round(seconds),
        "predict_cpu_seconds": round(predicted),
        "cpu_seconds": round(time.process_time() - began),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "commit": facts["git"].removesuffix("-dirty"),
        "torch": torch.__version__,
    }


def train(
    preset: str, overrides: list[str], data: Path, run: Path, *, is_timed: bool
) -> tuple[list[tuple[float, float]], float]:
    """Do what `guidino train` does, without figures.

    Returns:
        CPU seconds of training and validation Dice after each epoch, if it is timed; and CPU seconds of training, the
        loading of the model included and these validations left out.
    """
    from accelerate.utils import set_seed

    from guidino_cli.config import load_preset
    from guidino_cli.data.manifest import load_manifest
    from guidino_cli.engine.runs.folder import RunFolder, run_facts, with_data_root
    from guidino_cli.engine.training.length import with_enough_epochs
    from guidino_cli.engine.training.trainer import Trainer
    from guidino_cli.models import build_model

    began = time.process_time()
    config = with_data_root(load_preset(preset, overrides), data.resolve())
    manifest = load_manifest(data)
    set_seed(config.seed)
    model = build_model(config.model, num_classes=len(manifest.classes), offline=True)
    folder = RunFolder(run)
    training, validation = manifest.select("train"), manifest.select("val")
    config = with_enough_epochs(config, images=len(training), processes=1)
    count = len(manifest.classes)
    trainer = Trainer(model, config, folder, num_classes=count, training=training, validation=validation, device="cpu")
    folder.create(config, run_facts(model, classes=manifest.classes, data=data))
    curve: list[tuple[float, float]] = []
    looking = 0.0

    def look(_: Any) -> None:
        nonlocal looking
        now = time.process_time()
        dice = trainer.validation.mean_dice(trainer.bare_model)
        curve.append((round(now - began - looking, 1), round(dice or 0.0, 4)))
        looking += time.process_time() - now

    with contextlib.redirect_stderr(io.StringIO()):
        trainer.fit(after_guide=folder.add_facts, after_epoch=look if is_timed else None)
    return curve, time.process_time() - began - looking


def predict(run: Path, data: Path) -> None:
    """Do what `guidino predict` does."""
    from guidino_cli.data.image_writing import write_label_map
    from guidino_cli.data.manifest import load_manifest
    from guidino_cli.engine.prediction.predictor import Predictor
    from guidino_cli.engine.runs.loading import load_run

    model, config, _ = load_run(run, offline=True)
    predictor = Predictor.from_config(model, config)
    for case in load_manifest(data).select("test"):
        write_label_map(run / "masks" / f"{case.id}.png", predictor.segment_file(case.image).labels)


def dice_112(masks: Path, data: Path) -> float:
    """Mean Dice of the test images at 112 px, as benchmarks/fewshot.py measures it."""
    from PIL import Image

    from guidino_cli.data.manifest import load_manifest

    def small(path: Path) -> np.ndarray:
        large = np.asarray(Image.open(path).resize((SIDE, SIDE), Image.Resampling.NEAREST)) > 0
        cell = SIDE // GRID[0]
        return np.asarray(large.reshape(GRID[0], cell, GRID[1], cell).mean(axis=(1, 3)) > 0.5)

    scores = []
    for case in load_manifest(data).select("test"):
        assert case.mask is not None
        found, truth = small(masks / f"{case.id}.png"), small(case.mask)
        total = int(found.sum()) + int(truth.sum())
        scores.append(2 * int((found & truth).sum()) / total if total else 1.0)
    return round(float(np.mean(scores)), 4)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    part = verbs.add_parser("few")
    part.add_argument("data", type=Path)
    part.add_argument("small", type=Path)
    part.add_argument("--images", type=int, default=20)
    part.add_argument("--draw", type=int, required=True)
    part.add_argument("--source", type=Path, required=True, help="The folder with train.txt and test.txt.")
    job = verbs.add_parser("run")
    job.add_argument("queue", type=Path)
    job.add_argument("out", type=Path)
    options = parser.parse_args()
    if options.verb == "few":
        few(options.data, options.small, images=options.images, draw=options.draw, source=options.source)
    else:
        work(options.queue, options.out, measure, ("dice", "train_cpu_seconds"))


if __name__ == "__main__":
    main()
