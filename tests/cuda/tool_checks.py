"""Checks for `worker.py`: commands that train no segmentation network, and instances."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from command_checks import call, train_run
from PIL import Image
from run_checks import make_data

from guidino_cli.engine.drift import descriptors

CHECKS: dict[str, Callable[[Any, Path], Any]] = {}

# 49 times fewer tokens of an image.
descriptors.SIDE = 32

_RANDOM = "model.backbone={name: random, options: {hidden_size: 32, depth: 1, heads: 2}}"
_FEWSHOT = ("--set", _RANDOM, "--set", "data.image_size=48", "--set", "model.segmenter.options.radius=1")
_REGISTER = ("--features", "both", "--backbone", "random", "--px", 32, "--components", 4)
_LEARN = ("--steps", 3, "--learning-rate", 0.03)
_UNSEEN = ("--no-figures", "--offline")
_QUICK = ("--grid", 4, "--steps", 3, "--no-figures", "--offline")
_INSTANCES = """
model: {target: affinities, segmenter: {name: unet, options: {width: 4}}}
data: {dims: 2, image_size: 32, resize: none, augment: none}
train: {epochs: 1, steps: 2, batch_size: 2, lr: 1e-2, loss: {affinities: 1}}
predict: {mirror: false, overlap: 0}
"""
_RECIPE = """
backbones: [guidino-tiny]
tasks:
  chest: {{kind: linear, data: chest.csv, px: 28, solver: exact}}
  pairs: {{kind: registration, data: pairs.csv, grid: 4, steps: 3, px: 28, figures: false}}
  nuclei:
    kind: decoder
    data: {data}
    preset: kvasir-light2d
    split: val
    controls: false
    set: {{data.image_size: 32, train.epochs: 1, train.batch_size: 2}}
"""


def _features(watch: Any, folder: Path) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    for number in range(6):
        path = folder / "images" / ("dark", "light")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (30, 40), dtype=np.uint8)).save(path)
    words = ("features", folder / "images", "--px", 28, "--no-controls", "--batch", 2, "--offline")
    with watch.recording() as record:
        code = call(*words, "-o", folder / "cuda")
    codes = {"features": code, "features on the cpu": call(*words, "-o", folder / "cpu", "--device", "cpu")}
    ours, theirs = (np.load(next((folder / name).rglob("backbone*.npy"))) for name in ("cuda", "cpu"))
    return {"codes": codes, "unlike the cpu": _largest_difference(ours, theirs), "record": record.as_json()}


def _largest_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.abs(ours.astype(np.float64) - theirs.astype(np.float64)).max())


def _register(watch: Any, folder: Path) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    moving = generator.integers(0, 256, (12, 14)).astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    for name, pixels in {"moving": moving, "fixed": np.roll(moving, 3, axis=1)}.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    words = ("register", folder / "fixed.png", folder / "moving.png", *_REGISTER, *_QUICK)
    with watch.recording() as record:
        code = call(*words, "-o", folder / "cuda")
    codes = {"register": code, "register on the cpu": call(*words, "-o", folder / "cpu", "--device", "cpu")}
    warped = [np.asarray(Image.open(next((folder / name).rglob("warped*.png")))) for name in ("cuda", "cpu")]
    return {"codes": codes, "unlike the cpu": _largest_difference(*warped), "record": record.as_json()}


def _many_images(folder: Path) -> Path:
    """Sixty, of which drift learns what is usual."""
    folder.mkdir()
    generator = np.random.default_rng(1)
    for number in range(60):
        Image.fromarray(generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / f"m{number}.png")
    return folder


def _fewshot_and_drift(watch: Any, folder: Path) -> dict[str, Any]:
    data, run = make_data(folder / "data", validation=8), folder / "run"
    with watch.recording() as fewshot:
        codes = {"fewshot": call("fewshot", data, "-o", run, *_FEWSHOT, "--labels", 3, "--offline")}
    codes["drift --fit"] = call("drift", run, "--fit", "--data", _many_images(folder / "many"))
    with watch.recording() as drift:
        codes["drift"] = call("drift", run, data / "images", "-o", folder / "drift")
    codes["predict of fewshot"] = call("predict", run, data / "images", "-o", folder / "masks", "--offline")
    codes["next-to-label"] = call("next-to-label", run, data / "images", "-o", folder / "next.csv", "--offline")
    return {"codes": codes, "fewshot": fewshot.as_json(), "drift": drift.as_json()}


def _tune_risk(watch: Any, folder: Path) -> dict[str, Any]:
    data, run, trained = train_run(folder, "model.segmenter={name: unet, options: {width: 4}}", validation=24)
    codes = {"train": trained}
    with watch.recording() as record:
        codes["tune-risk"] = call("tune-risk", run, "--risk", 0.9, "--offline")
    codes["predict --risk"] = call("predict", run, data / "images", "-o", folder / "masks", "--risk", "--offline")
    return {"codes": codes, "record": record.as_json()}


def _instances(watch: Any, folder: Path) -> dict[str, Any]:
    for number in range(4):
        cells = np.full((40, 40), 255, dtype=np.uint8)
        cells[13 + number], cells[:, 20] = 0, 0
        for kind, values in (("images", cells // 2 + 20), ("masks", cells)):
            path = folder / "source" / kind / f"c{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
    (folder / "p.yaml").write_text(_INSTANCES)
    data, run = folder / "data", folder / "run"
    whole = ("--instances", "components", "--split", "50/25/25")
    codes = {"prepare": call("prepare", folder / "source", "-o", data, *whole)}
    codes["train"] = call("train", "-p", folder / "p.yaml", "-d", data, "-o", run, "--offline")
    with watch.recording() as record:
        codes["predict"] = call("predict", run, folder / "source/images", "-o", folder / "masks", "--offline")
    return {"codes": codes, "record": record.as_json()}


def _register_network(watch: Any, folder: Path) -> dict[str, Any]:
    """Train VoxelMorph's network on features and register with it, on the device and on the CPU."""
    generator, images = np.random.default_rng(0), folder / "images"
    images.mkdir()
    for number in range(3):
        pixels = generator.integers(0, 256, (8, 8)).astype(np.uint8).repeat(4, axis=0).repeat(4, axis=1)
        Image.fromarray(pixels).save(images / f"{number}.png")
    run, pair = folder / "net", (images / "0.png", images / "1.png")
    seen = ("--features", "both", "--backbone", "random", "--px", 32, "--components", 4)
    with watch.recording() as training:
        codes = {"register train": call("register", "train", images, "-o", run, *seen, *_LEARN, "--offline")}
    with watch.recording() as use:
        codes["register --network"] = call("register", *pair, "--network", run, "-o", folder / "cuda", *_UNSEEN)
    words = ("register", *pair, "--network", run, "-o", folder / "cpu", *_UNSEEN, "--device", "cpu")
    codes["register --network on the cpu"] = call(*words)
    warped = [np.asarray(Image.open(next((folder / name).rglob("warped*.png")))) for name in ("cuda", "cpu")]
    records = {"register train": training.as_json(), "register --network": use.as_json()}
    return {"codes": codes, "unlike the cpu": _largest_difference(*warped), **records}


def _probe_and_bench(watch: Any, folder: Path) -> dict[str, Any]:
    """Probes of labelled pictures, and a table of one task of each kind."""
    generator, lines = np.random.default_rng(0), ["image,label,split"]
    (folder / "chest").mkdir()
    for number in range(24):
        pixels = generator.integers(40 + 60 * (number % 2), 160 + 60 * (number % 2), (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "chest" / f"{number}.png")
        lines.append(f"chest/{number}.png,{('no', 'yes')[number % 2]},{'test' if number % 3 == 2 else 'train'}")
    table, vectors = folder / "chest.csv", folder / "vectors"
    table.write_text("\n".join(lines) + "\n")
    codes = {"features": call("features", table, "-o", vectors, "--px", 28, "--no-controls", "--offline")}
    codes["probe linear"] = call("probe", "linear", vectors, "-o", folder / "linear", "--solver", "exact")
    codes["probe knn"] = call("probe", "knn", vectors, "-o", folder / "knn")
    data = make_data(folder / "data")
    (folder / "pairs.csv").write_text("fixed,moving\nchest/0.png,chest/1.png\n")
    (folder / "recipe.yaml").write_text(_RECIPE.format(data=data))
    codes["bench"] = call("bench", folder / "recipe.yaml", "-o", folder / "bench", "--offline")
    return {"codes": codes}


CHECKS["features"] = _features
CHECKS["register"] = _register
CHECKS["fewshot and drift"] = _fewshot_and_drift
CHECKS["tune-risk"] = _tune_risk
CHECKS["instances"] = _instances
CHECKS["register network"] = _register_network
CHECKS["probe and bench"] = _probe_and_bench
