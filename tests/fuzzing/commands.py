"""Which commands read which kind of file: the targets of `tests/fuzz.py`, and the valid files that they start from."""

import json
import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzing import mutators
from fuzzing.mutators import Mutator
from fuzzing.specimens import Specimen, draw_image, draw_mask, image_specimens, mask_specimens, scan_specimens

_PRESET = """
description: a tiny guided network
model:
  segmenter: {name: unet, options: {width: 4}}
  backbone: {name: random, options: {hidden_size: 32, depth: 1, heads: 2}}
  guide: {at: bottleneck, options: {prototypes: 4, aggregate: softmax}}
data: {image_size: 32}
train: {epochs: 1, batch_size: 2, lr: 1e-2, loss: {dice: 1, cross_entropy: 1, guide: 0.1}}
predict: {overlap: 0, mirror: false}
"""

Prepare = Callable[[Path, Path, random.Random], Path]
Command = Callable[[Path, Path], list[str]]


@dataclass(frozen=True)
class Target:
    """A command on a damaged file.

    Attributes:
        reader: Kind of the file.
        name: Of the command.
        prepare: Fills a folder with valid files, given the workspace, and returns the one to damage.
        command: Arguments, given that folder and file.
        mutators: What damages the file.
        is_binary: Whether a third of the file is certainly not enough.
        may_ignore: Whether the command may do without the file.
        names_file: Whether a refusal must name the file.
    """

    reader: str
    name: str
    prepare: Prepare
    command: Command
    mutators: Sequence[Mutator]
    is_binary: bool = False
    may_ignore: bool = False
    names_file: bool = True


def make_workspace(folder: Path, run: Callable[[list[str], Path], Any]) -> Path:
    """Import the commands, and make data, a trained run, a report, tables and weights in a folder, once."""
    _import_commands()
    if folder.exists():
        return folder
    folder.mkdir(parents=True)
    _write_files(folder)

    def guidino(*argv: object) -> None:
        outcome = run([str(word) for word in argv], folder / "log.txt")
        assert outcome.code == 0, outcome.output

    guidino("prepare", folder / "raw", "-o", folder / "data", "--classes", "background,square")
    guidino("train", "--preset", folder / "p.yaml", "--data", folder / "data", "-o", folder / "run", "--device", "cpu")
    guidino("predict", folder / "run", folder / "raw" / "images", "-o", folder / "masks")
    guidino("tune-post", folder / "run")
    guidino("evaluate", folder / "masks", folder / "raw" / "masks", "--metrics", "dice,hd95", "-o", folder / "report")
    # A run with another epoch to go.
    shutil.copytree(folder / "run", folder / "half")
    settings = folder / "half" / "config.yaml"
    settings.write_text(settings.read_text().replace("epochs: 1\n", "epochs: 2\n"))
    (folder / "half" / "result.json").unlink()
    return folder


def _import_commands() -> None:
    import importlib

    os.environ["HF_HUB_OFFLINE"] = "1"
    names = (
        "compare evaluate predict prepare plan pretrain report slices train tune_post visualize_guide weights "
        "weights_verify"
    )
    for name in names.split():
        importlib.import_module(f"guidino_cli.commands.{name}")
    importlib.import_module("torch._dynamo")
    for name in ("accelerate", "transformers.models.dinov3_vit", "nibabel", "tifffile", "matplotlib.figure"):
        importlib.import_module(name)


def _write_files(folder: Path) -> None:
    import numpy as np
    import torch
    from PIL import Image
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    for kind in ("images", "masks"):
        (folder / "raw" / kind).mkdir(parents=True)
    names = [f"case{number}" for number in range(8)]
    for number, name in enumerate(names):
        for kind, pixels in (("images", draw_image()), ("masks", draw_mask())):
            Image.fromarray(np.roll(pixels, 2 * number, axis=0)).save(folder / "raw" / kind / f"{name}.png")
    (folder / "p.yaml").write_text(_PRESET)
    rows = [f"{name},{'ab'[number % 2]},{number}" for number, name in enumerate(names)]
    (folder / "sites.csv").write_text("\n".join(["case,site,patient", *rows]) + "\n")
    rows = [f"masks/{name}.png,raw/masks/{name}.png,{name}" for name in names]
    (folder / "pairs.csv").write_text("\n".join(["prediction,truth,case", *rows]) + "\n")
    rows = [f"raw/images/{name}.png,raw/masks/{name}.png" for name in names]
    (folder / "list.csv").write_text("\n".join(["image,mask", *rows]) + "\n")
    (folder / "nnunet.json").write_text(
        json.dumps({"channel_names": {"0": "R"}, "labels": {"background": 0, "square": 1}, "file_ending": ".png"})
    )
    torch.manual_seed(0)
    config = DINOv3ViTConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=1, intermediate_size=64)
    DINOv3ViTModel(config).save_pretrained(folder / "vit")
    statistics = {"do_normalize": True, "image_mean": [0.4, 0.4, 0.4], "image_std": [0.2, 0.2, 0.2]}
    (folder / "vit" / "preprocessor_config.json").write_text(json.dumps(statistics))


# --- What is prepared


def _copied(name: str, *others: str) -> Prepare:
    """Copy folders or files of the workspace; the first is to be damaged, or a file in it."""

    def prepare(workspace: Path, folder: Path, rng: random.Random) -> Path:
        folder.mkdir(parents=True)
        wanted = {Path(item).parts[0] for item in (name, *others)}
        for path in wanted | ({"raw"} if "data" in wanted else set()):
            source = workspace / path
            if source.is_dir():
                shutil.copytree(source, folder / path)
            else:
                shutil.copy(source, folder / path)
        return folder / name

    return prepare


def _beside(place: str, make: Callable[[], list[Specimen]], *others: str) -> Prepare:
    """Copy folders of the workspace, and put one of the specimens into the folder `place`, to be damaged."""
    specimens: list[Specimen] = []

    def prepare(workspace: Path, folder: Path, rng: random.Random) -> Path:
        specimens.extend([] if specimens else make())
        _copied(others[0], *others)(workspace, folder, rng) if others else folder.mkdir(parents=True)
        chosen = rng.choice(specimens)
        (folder / place).mkdir(parents=True, exist_ok=True)
        path = folder / place / f"bad{chosen.name[chosen.name.index('.') :]}"
        path.write_bytes(chosen.content)
        return path

    return prepare


def _pair(side: str) -> Prepare:
    """A prediction and a truth of the same format, of which one is to be damaged."""

    def prepare(workspace: Path, folder: Path, rng: random.Random) -> Path:
        chosen = rng.choice(mask_specimens())
        for name in ("masks", "truth"):
            (folder / name).mkdir(parents=True)
            (folder / name / f"bad{chosen.name[chosen.name.index('.') :]}").write_bytes(chosen.content)
        return next((folder / side).iterdir())

    return prepare


def _pair_to_prepare(side: str) -> Prepare:
    """A folder of image-mask pairs, with another one of which the image or the mask is to be damaged."""

    def prepare(workspace: Path, folder: Path, rng: random.Random) -> Path:
        _copied("raw")(workspace, folder, rng)
        for kind in ("images", "masks"):
            shutil.copy(folder / "raw" / kind / "case0.png", folder / "raw" / kind / "bad.png")
        if side == "images":
            (folder / "raw" / "images" / "bad.png").unlink()
            specimens = [item for item in image_specimens() if item.name != "alpha.png"]
            chosen = rng.choice(specimens)
            path = folder / "raw" / "images" / f"bad{chosen.name[chosen.name.index('.') :]}"
            path.write_bytes(chosen.content)
            return path
        return folder / "raw" / "masks" / "bad.png"

    return prepare


def _nnunet(workspace: Path, folder: Path, rng: random.Random) -> Path:
    for kind, part, suffix in (("images", "imagesTr", "_0000"), ("masks", "labelsTr", "")):
        (folder / "set" / part).mkdir(parents=True)
        for path in (workspace / "raw" / kind).iterdir():
            shutil.copy(path, folder / "set" / part / f"{path.stem}{suffix}.png")
    shutil.copy(workspace / "nnunet.json", folder / "set" / "dataset.json")
    folds = [{"train": [f"case{n}" for n in range(4)], "val": [f"case{n}" for n in range(4, 8)]}]
    (folder / "set" / "splits_final.json").write_text(json.dumps(folds))
    return folder / "set" / rng.choice(["dataset.json", "splits_final.json"])


def _listed(workspace: Path, folder: Path, rng: random.Random) -> Path:
    """A list of images, with a run."""
    _copied("run", "raw")(workspace, folder, rng)
    path = folder / "names.txt"
    path.write_text("\n".join(str(image) for image in sorted((folder / "raw" / "images").iterdir())) + "\n")
    return path


# --- What is run


def _train(folder: Path, file: Path) -> list[str]:
    data = str(folder / "data")
    return ["train", "--preset", str(file), "--data", data, "-o", str(folder / "out"), "--dry-run", "--device", "cpu"]


def _predict(run: str, images: str, *options: str) -> Command:
    def command(folder: Path, _: Path) -> list[str]:
        words = ["predict", str(folder / run), str(folder / images), "-o", str(folder / "out"), "--device", "cpu"]
        return [*words, *options]

    return command


def _evaluate(*options: str) -> Command:
    def command(folder: Path, file: Path) -> list[str]:
        chosen = [option.format(file=file) for option in options]
        words = ["evaluate", str(folder / "masks"), str(folder / "raw" / "masks"), "--metrics", "dice,hd95"]
        return [*words, "-o", str(folder / "out"), *chosen]

    return command


def _words(*words: str) -> Command:
    return lambda folder, file: [word.format(folder=folder, file=file) for word in words]


_RESUME = _words("train", "--resume", "-o", "{folder}/half", "--device", "cpu")
_COMPARE = ("compare", "{folder}/masks", "{folder}/raw/masks", "--truth", "{folder}/raw/masks", "-o", "{folder}/out")
_TRAIN_ON = ("train", "--preset", "{folder}/p.yaml", "--data", "{folder}/data", "-o", "{folder}/out", "--dry-run")

TARGETS = [
    Target("yaml", "train", _copied("p.yaml", "data"), _train, mutators.YAML, names_file=False),
    Target("yaml", "predict", _copied("run/config.yaml", "raw"), _predict("run", "raw/images"), mutators.YAML),
    Target(
        "manifest", "train", _copied("data/cases.json", "p.yaml"), _words(*_TRAIN_ON), mutators.JSON, names_file=False
    ),
    Target(
        "manifest", "plan", _copied("data/cases.json"), _words("plan", "{folder}/data"), mutators.JSON, names_file=False
    ),
    Target(
        "manifest",
        "evaluate",
        _copied("data/cases.json", "masks"),
        _words("evaluate", "{folder}/masks", "{folder}/data", "--split", "all", "-o", "{folder}/out"),
        mutators.JSON,
        names_file=False,
    ),
    Target("run.json", "predict", _copied("run/run.json", "raw"), _predict("run", "raw/images"), mutators.JSON),
    Target("run.json", "train", _copied("half/run.json", "data"), _RESUME, mutators.JSON),
    Target(
        "post.json",
        "predict",
        _copied("run/post.json", "raw"),
        _predict("run", "raw/images", "--post", "auto"),
        mutators.JSON,
    ),
    Target(
        "summary",
        "predict",
        _copied("masks/predictions.json", "run", "raw"),
        _words("predict", "{folder}/run", "{folder}/raw/images", "-o", "{folder}/masks", "--skip-existing"),
        mutators.JSON,
        may_ignore=True,
        names_file=False,
    ),
    Target(
        "result",
        "train",
        _copied("run/result.json", "data"),
        _words("train", "--resume", "-o", "{folder}/run", "--device", "cpu"),
        mutators.JSON,
    ),
    Target("history", "train", _copied("half/history.jsonl", "data"), _RESUME, mutators.TEXT, may_ignore=True),
    Target("state", "train", _copied("half/last/state.pt", "data"), _RESUME, mutators.ZIP, may_ignore=True),
    Target(
        "report",
        "evaluate",
        _copied("report/report.json", "masks", "raw"),
        _evaluate("--baseline", "{file}"),
        mutators.JSON,
    ),
    Target(
        "report",
        "report",
        _copied("report/report.json", "run"),
        _words("report", "{folder}/run", "{folder}/report", "-o", "{folder}/out.html"),
        mutators.JSON,
    ),
    Target(
        "page",
        "report",
        _copied("report/report.html", "run"),
        _words("report", "{folder}/run", "{folder}/report", "-o", "{folder}/out.html"),
        mutators.TEXT,
        may_ignore=True,
    ),
    Target(
        "run.json",
        "report",
        _copied("run/run.json", "report"),
        _words("report", "{folder}/run", "{folder}/report", "-o", "{folder}/out.html"),
        mutators.JSON,
        names_file=False,
    ),
    Target(
        "list",
        "predict --list",
        _listed,
        _words("predict", "{folder}/run", "--list", "{file}", "-o", "{folder}/out", "--device", "cpu"),
        mutators.TEXT,
        names_file=False,
    ),
    Target(
        "csv", "evaluate --by", _copied("sites.csv", "masks", "raw"), _evaluate("--by", "{file}:site"), mutators.TEXT
    ),
    Target(
        "csv",
        "evaluate --group",
        _copied("sites.csv", "masks", "raw"),
        _evaluate("--group", "{file}:patient"),
        mutators.TEXT,
    ),
    Target(
        "csv", "evaluate --pairs", _copied("pairs.csv", "masks", "raw"), _evaluate("--pairs", "{file}"), mutators.TEXT
    ),
    Target(
        "csv",
        "compare",
        _copied("sites.csv", "masks", "raw"),
        _words(*_COMPARE, "--group", "{file}:site"),
        mutators.TEXT,
    ),
    Target(
        "csv",
        "prepare",
        _copied("list.csv", "raw"),
        _words("prepare", "{file}", "-o", "{folder}/out"),
        mutators.TEXT,
        names_file=False,
    ),
    Target(
        "nnunet",
        "prepare",
        _nnunet,
        _words("prepare", "{folder}/set", "-o", "{folder}/out"),
        mutators.JSON,
        may_ignore=True,
        names_file=False,
    ),
    Target(
        "image",
        "predict",
        _beside("raw/images", image_specimens, "run", "raw"),
        _predict("run", "raw/images"),
        mutators.IMAGE,
        is_binary=True,
        may_ignore=True,
    ),
    Target(
        "image",
        "predict one",
        _beside("one", image_specimens, "run"),
        _predict("run", "one"),
        mutators.IMAGE,
        is_binary=True,
    ),
    Target(
        "image",
        "prepare",
        _pair_to_prepare("images"),
        _words("prepare", "{folder}/raw", "-o", "{folder}/out"),
        mutators.IMAGE,
        may_ignore=True,
    ),
    Target(
        "image",
        "visualize",
        _beside("one", image_specimens, "run"),
        _words("visualize-guide", "--run", "{folder}/run", "{folder}/one", "-o", "{folder}/out"),
        mutators.IMAGE,
        is_binary=True,
    ),
    Target(
        "mask",
        "prepare",
        _pair_to_prepare("masks"),
        _words("prepare", "{folder}/raw", "-o", "{folder}/out"),
        mutators.IMAGE,
        may_ignore=True,
    ),
    Target(
        "mask",
        "evaluate",
        _pair("masks"),
        _words("evaluate", "{folder}/masks", "{folder}/truth", "-o", "{folder}/out"),
        mutators.IMAGE,
        is_binary=True,
    ),
    Target(
        "mask",
        "evaluate truth",
        _pair("truth"),
        _words("evaluate", "{folder}/masks", "{folder}/truth", "-o", "{folder}/out"),
        mutators.IMAGE,
        is_binary=True,
    ),
    Target(
        "scan",
        "slices",
        _beside("scans", scan_specimens),
        _words("slices", "{folder}/scans", "-o", "{folder}/out", "--size", "64"),
        mutators.IMAGE,
        is_binary=True,
    ),
    Target(
        "weights",
        "import",
        _copied("vit/model.safetensors"),
        _words("weights", "import", "{folder}/vit", "-o", "{folder}/out"),
        mutators.SAFETENSORS,
        is_binary=True,
    ),
    Target("weights", "verify", _copied("vit/config.json"), _words("weights", "verify", "{folder}/vit"), mutators.JSON),
    Target(
        "weights",
        "verify",
        _copied("vit/preprocessor_config.json"),
        _words("weights", "verify", "{folder}/vit"),
        mutators.JSON,
    ),
    Target(
        "weights",
        "predict",
        _copied("run/best/model.safetensors", "raw"),
        _predict("run", "raw/images"),
        mutators.SAFETENSORS,
        is_binary=True,
    ),
]
