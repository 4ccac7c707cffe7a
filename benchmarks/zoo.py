"""Check that every network learns: one short training each, with the same settings.

    python benchmarks/zoo.py run DATA OUT [--networks unet nnwnet ...] [--seed 0]
    python benchmarks/zoo.py table OUT
    python benchmarks/zoo.py floor DATA
    python benchmarks/zoo.py show NETWORK

DATA is a folder made by `guidino prepare`. `run` does what `guidino train` does with the settings that `show` prints,
in one process and without figures. Optimiser, learning rates, augmentation, losses and images are the same for all; the
rest of a network's own recipe is left out, so the scores show that it learns, not how good it is. Training never uses
the held-out cases: the only validation is after the last epoch, so it selects nothing.
OUT/rows.jsonl gets one line per network; existing ones are skipped. `table` prints Markdown.
"""

import argparse
import contextlib
import io
import json
import os
import shlex
import shutil
import time
from pathlib import Path
from typing import Any

SIDE = 64
COMMON = [
    f"data.image_size={SIDE}",
    "data.resize=stretch",
    "data.augment=light",
    "train.epochs=4",
    "train.batch_size=8",
    "train.optimizer=adamw",
    "train.lr=5e-4",
    "train.weight_decay=1e-4",
    "train.schedule=cosine",
    "train.warmup_epochs=0.5",
    "train.accumulate=1",
    "train.precision=no",
    "train.loss={dice: 1, cross_entropy: 1}",
    # After the last epoch only: no epoch is selected by its score.
    "train.validate_every=1000",
    "predict.mirror=false",
]
_EMBEDDED = "model.backbone={name: embedded, options: {layers: [3, 6, 9, 12]}}"
# Networks that read a backbone other than a frozen ViT, or that are reduced in size.
SPECIAL: dict[str, list[str]] = {
    # A third of the width and of the blocks, a quarter of the states: the scan is slow on a CPU.
    "swin-umamba": ["model.segmenter.options={width: 32, depths: [1, 1, 3, 1], rising: 1, states: 4}"],
    # Half the width: its first windows are at half the size of the image.
    "h2former": ["model.segmenter.options={width: 32}"],
    # Its paper trains the ViT too.
    "meddinov3": [_EMBEDDED, "model.finetune={drop_path: 0.2}", "train.backbone_lr=5e-5"],
    # SAM 2's weights were not available: its smallest encoder with random weights, frozen, and trainable adapters.
    "sam2-unet": ["model.backbone={name: sam2, options: {random: true, size: tiny}}"],
}


def settings(network: str) -> list[str]:
    """All settings that differ from the defaults."""
    from guidino_cli.models.segmenters.registry import SEGMENTER_INFO

    backbone = [_EMBEDDED] if SEGMENTER_INFO[network].backbone is not None else []
    return [f"model.segmenter.name={network}", *SPECIAL.get(network, backbone), *COMMON]


def show(network: str) -> str:
    """The `guidino train` command that a row stands for."""
    words = ["guidino", "train", "--data", "DATA", "-o", "RUN"]
    return shlex.join([*words, *(word for setting in settings(network) for word in ("--set", setting))])


def run(networks: list[str], data: Path, out: Path, seed: int) -> None:
    """Train the networks that have no row yet."""
    out.mkdir(parents=True, exist_ok=True)
    for network in networks:
        # Read again: another process may share the work.
        if (network, seed) in {(row["network"], row["seed"]) for row in rows_of(out)}:
            continue
        row = measure(network, data, out / f"{network}-s{seed}", seed)
        with (out / "rows.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{network}: loss {row['first_loss']} -> {row['last_loss']}, Dice {row['dice']}", flush=True)


def measure(network: str, data: Path, folder: Path, seed: int) -> dict[str, Any]:
    """Train one network; return its first and last mean loss and its Dice on the held-out cases."""
    import torch
    from accelerate.utils import set_seed

    from guidino_cli.config import RunConfig, override
    from guidino_cli.data.manifest import load_manifest
    from guidino_cli.engine.runs.folder import RunFolder, run_facts, with_data_root
    from guidino_cli.engine.training.trainer import Trainer
    from guidino_cli.models import build_model

    config = with_data_root(override(RunConfig(), [*settings(network), f"seed={seed}"]), data.resolve())
    manifest = load_manifest(data)
    set_seed(seed)
    model = build_model(config.model, num_classes=len(manifest.classes), offline=True)
    held_out = [*manifest.select("val"), *manifest.select("test")]
    began, load = time.process_time(), os.getloadavg()[0]
    run_folder = RunFolder(folder)
    trainer = Trainer(
        model,
        config,
        run_folder,
        num_classes=len(manifest.classes),
        training=manifest.select("train"),
        validation=held_out,
        device="cpu",
    )
    facts = run_facts(model, classes=manifest.classes, data=data)
    run_folder.create(config, facts)
    with contextlib.redirect_stderr(io.StringIO()):
        trainer.fit()
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    shutil.rmtree(folder)
    return {
        "network": network,
        "seed": seed,
        "trainable": facts["parameters"][0],
        "first_loss": round(history[0]["loss"], 4),
        "last_loss": round(history[-1]["loss"], 4),
        "dice": round(history[-1]["val_dice"], 4),
        "images_shown": trainer.batches.shown * config.train.epochs,
        "held_out": len(held_out),
        "cpu_seconds": round(time.process_time() - began),
        "load": round(load, 1),
        "commit": facts["git"],
        "torch": torch.__version__,
    }


def rows_of(out: Path) -> list[dict[str, Any]]:
    """All finished rows."""
    path = out / "rows.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def table(out: Path) -> str:
    """A Markdown table, in the order of the list of networks."""
    from guidino_cli.models.segmenters.registry import SEGMENTER_INFO

    rows = sorted(rows_of(out), key=lambda row: (list(SEGMENTER_INFO).index(row["network"]), row["seed"]))
    lines = [
        "| network | trainable, M | loss, epoch 1 | loss, epoch 4 | held-out Dice | CPU s |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            SEGMENTER_INFO[row["network"]].title,
            f"{row['trainable'] / 1e6:.1f}",
            f"{row['first_loss']:.3f}",
            f"{row['last_loss']:.3f}",
            f"{row['dice']:.3f}",
            str(row["cpu_seconds"]),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def everything(data: Path) -> float:
    """Mean Dice of the held-out cases if every pixel is predicted as foreground: the floor that learning must beat."""
    import numpy as np

    from guidino_cli.data.cases import read_label_map
    from guidino_cli.data.manifest import load_manifest

    manifest = load_manifest(data)
    cases = [*manifest.select("val"), *manifest.select("test")]
    shares = [float((read_label_map(case.mask) > 0).mean()) for case in cases if case.mask is not None]
    return float(np.mean([2 * share / (1 + share) for share in shares]))


def main() -> None:
    """Parse the command line and run."""
    from guidino_cli.models.segmenters.registry import SEGMENTER_INFO

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("data", type=Path)
    running.add_argument("out", type=Path)
    running.add_argument("--networks", nargs="+", choices=list(SEGMENTER_INFO), default=list(SEGMENTER_INFO))
    running.add_argument("--seed", type=int, default=0)
    tabling = commands.add_parser("table")
    tabling.add_argument("out", type=Path)
    floor = commands.add_parser("floor")
    floor.add_argument("data", type=Path)
    showing = commands.add_parser("show")
    showing.add_argument("network", choices=list(SEGMENTER_INFO))
    options = parser.parse_args()
    if options.command == "run":
        run(options.networks, options.data, options.out, options.seed)
    elif options.command == "table":
        print(table(options.out))
    elif options.command == "floor":
        print(f"{everything(options.data):.4f}")
    else:
        print(show(options.network))


if __name__ == "__main__":
    main()
