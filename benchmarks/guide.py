"""Does the guide help? Train plain and guided networks alike on one data set, score them, print one table.

    python benchmarks/guide.py DATA OUT [--epochs 10] [--only NAME ...]

DATA is a folder made by `guidino prepare`. Every step is a `guidino` command, printed before it runs. A variant whose
run folder is complete is not trained again, so the script can be stopped and called again.
"""

import argparse
import csv
import json
import shlex
import subprocess
from pathlib import Path

_OFFLINE = ["--set", "model.backbone.name=embedded", "--set", "model.backbone.options={}"]
_SOFTMAX = ["--set", "model.guide.options.aggregate=softmax", "--set", "model.guide.options.prototypes=32"]
_RANDOM = ["--set", "model.backbone.name=random", "--set", "model.backbone.options={}"]
VARIANTS: dict[str, tuple[str, list[str]]] = {
    "w_plain": ("kvasir-plain-nnwnet", []),
    "w_mean": ("kvasir-nnwnet", _OFFLINE),
    "w_softmax": ("kvasir-nnwnet", [*_OFFLINE, *_SOFTMAX]),
    "w_random": ("kvasir-nnwnet", [*_RANDOM, *_SOFTMAX]),
    "u_plain": ("kvasir-plain-unet", []),
    "u_mean": ("kvasir-unet", _OFFLINE),
}
NAMES = {
    "w_plain": "nnWNet",
    "w_mean": "nnWNet, guide at the input, `mean` TokenBook (faithful)",
    "w_softmax": "nnWNet, guide at the input, `softmax` TokenBook",
    "w_random": "nnWNet, guide from a random-weight backbone (control)",
    "u_plain": "U-Net",
    "u_mean": "U-Net, guide at the bottleneck, `mean` TokenBook (faithful)",
}


def main() -> None:
    """Train, predict, evaluate and tabulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--only", nargs="*", default=[name for name in VARIANTS if name != "w_random"])
    options = parser.parse_args()
    common = [
        f"data.image_size={options.image_size}",
        "train.batch_size=8",
        "train.lr=1e-3",
        f"train.epochs={options.epochs}",
        "train.warmup_epochs=1",
        "train.validate_every=2",
    ]
    rows = [measure(name, options.data, options.out / name, common, options.epochs) for name in options.only]
    print(table(rows))


def measure(name: str, data: Path, run: Path, settings: list[str], epochs: int) -> dict[str, str]:
    """Run one variant's three commands and gather its figures."""
    preset, own = VARIANTS[name]
    if len(history(run)) < epochs:
        shared = [word for setting in settings for word in ("--set", setting)]
        guidino("train", "--preset", preset, "--data", data, "-o", run, *own, *shared, "--seed", "0", "--overwrite")
    if not (run / "report" / "report.json").is_file():
        guidino("predict", run, data, "-o", run / "masks", "--overwrite")
        guidino("evaluate", run / "masks", data, "-o", run / "report", "--overwrite")
    report = json.loads((run / "report" / "report.json").read_text())
    score = {item["metric"]: item for item in report["summary"]}
    facts = json.loads((run / "run.json").read_text())
    seconds = sum(float(row["train_seconds"]) for row in history(run)) / len(history(run))
    return {
        "network": NAMES[name],
        "test Dice": f"{score['dice']['mean']:.4f} ({score['dice']['ci_low']:.3f} .. {score['dice']['ci_high']:.3f})",
        "test IoU": f"{score['iou']['mean']:.4f}",
        "HD95 px": f"{score['hd95']['mean']:.1f}",
        "parameters trained / all": "{:,} / {:,}".format(*facts["parameters"]),
        "s / epoch": f"{seconds:.0f}",
    }


def history(run: Path) -> list[dict[str, str]]:
    """The epochs a run has finished."""
    path = run / "history.csv"
    return list(csv.DictReader(path.open())) if path.is_file() else []


def guidino(*words: object) -> None:
    """Print a command, then run it."""
    command = ["guidino", *map(str, words)]
    print("$", shlex.join(command), flush=True)
    subprocess.run(command, check=True)


def table(rows: list[dict[str, str]]) -> str:
    """Rows as Markdown."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([row[name] for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    main()
