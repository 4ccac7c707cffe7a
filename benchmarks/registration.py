"""Register pairs of hippocampi of different people by several features; prints JSON.

    python benchmarks/registration.py DATA -o FOLDER [--rows mind,dino:guidino-tiny] [--pairs 12]
    python benchmarks/registration.py DATA -o FOLDER --rows mind,dino:guidino-tiny --compare    # of rows that are there

DATA holds `images` and `labels` of the Medical Segmentation Decathlon's Task04 (cropped MR volumes of 1 mm, labels
anterior and posterior). The pairs are twelve times `random.sample(names, 2)` after `random.seed(0)`, over the first 40
names in order; the first of a pair is the fixed one. The crops have no place in common, so each is set in the middle of
48 x 64 x 48 voxels. A row is FEATURES, FEATURES:BACKBONE or, with random weights in its shape,
FEATURES:BACKBONE:SEED. Times are CPU seconds of the whole command with one thread,
by pair, loading included. Differences of Dice between any two rows have 95 % bootstrap intervals over the pairs.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from guidino_cli.evaluation.statistics import bootstrap_means, percentile_interval
from guidino_cli.tables import to_csv

CANVAS, COUNT = (48, 64, 48), 40
ROWS = (
    "mind,dino:guidino-tiny,both:guidino-tiny,dino:embedded,both:embedded,"
    "dino:guidino-tiny:0,dino:guidino-tiny:1,both:guidino-tiny:0"
)


def main() -> None:
    """Measure and print one JSON document a row, and one of their differences."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--rows", default=ROWS, help="what to compare")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--compare", action="store_true", help="register nothing, print the differences only")
    options = parser.parse_args()
    folders = {row: options.out / row.replace(":", "-") for row in options.rows.split(",")}
    if not options.compare:
        table = write_pairs(options.data, options.out / "pairs", options.pairs)
        for row, folder in folders.items():
            print(json.dumps({row: measure(row, table, folder)}), flush=True)
    print(json.dumps({"differences": compare(folders)}))


def write_pairs(data: Path, out: Path, count: int) -> Path:
    """Write the volumes on their canvas, and the table of pairs."""
    names = sorted(path.name for path in (data / "images").glob("*.nii.gz"))[:COUNT]
    random.seed(0)
    pairs = [random.sample(names, 2) for _ in range(12)][:count]
    for kind in ("images", "labels"):
        (out / kind).mkdir(parents=True, exist_ok=True)
        for name in sorted({name for pair in pairs for name in pair}):
            values = center(np.asarray(nibabel.load(data / kind / name).dataobj))
            nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), out / kind / name)
    rows = [
        [f"{number:02d}", f"images/{fixed}", f"images/{moving}", f"labels/{fixed}", f"labels/{moving}"]
        for number, (fixed, moving) in enumerate(pairs, start=1)
    ]
    (out / "pairs.csv").write_text(to_csv(["name", "fixed", "moving", "fixed_mask", "moving_mask"], rows))
    return out / "pairs.csv"


def center(values: np.ndarray) -> np.ndarray:
    """A volume in the middle of the canvas."""
    canvas = np.zeros(CANVAS, values.dtype)
    places = [(size - length) // 2 for size, length in zip(CANVAS, values.shape, strict=True)]
    canvas[tuple(slice(start, start + size) for start, size in zip(places, values.shape, strict=True))] = values
    return canvas


def measure(row: str, table: Path, out: Path) -> dict[str, Any]:
    """Mean scores of all pairs and of the first eight, and CPU seconds a pair."""
    features, backbone, seed = (*row.split(":"), "", "")[:3]
    command = [sys.executable, "-m", "guidino_cli", "register", table, "-o", out, "--grid", "4", "--features", features]
    command += ["--backbone", backbone] if backbone else []
    command += ["--random-weights", seed] if seed else []
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*map(str, command), "--overwrite", "--no-figures"], check=True, stdout=sys.stderr, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads((out / "report.json").read_text())
    scores = [item["scores"] for item in report["results"]]
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "dice": report["summary"]["dice"],
        "dice_first_eight": float(np.mean([item["dice_after"] for item in scores[:8]])),
        "hd95": [float(np.mean([item[f"hd95_{when}"] for item in scores])) for when in ("before", "after")],
        "asd": [float(np.mean([item[f"asd_{when}"] for item in scores])) for when in ("before", "after")],
        "folding_percent": 100 * float(np.mean([item["folding"] for item in scores])),
        "std_log_jacobian": float(np.mean([item["std_log_jacobian"] for item in scores])),
        "cpu_seconds_per_pair": round(seconds / len(scores), 1),
        "load_average": os.getloadavg()[0],
    }


def compare(folders: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Dice of the second row minus that of the first, of any two rows, on the same pairs."""
    dice = {}
    for row, folder in folders.items():
        results = json.loads((folder / "report.json").read_text())["results"]
        dice[row] = {item["name"]: item["scores"]["dice_after"] for item in results}
    found = {}
    for first, second in combinations(dice, 2):
        if dice[first].keys() != dice[second].keys():
            sys.exit(f"{first} and {second} hold different pairs; measure both again")
        values = np.array([[dice[second][name] - dice[first][name]] for name in sorted(dice[first])])
        found[f"{second} minus {first}"] = {
            "pairs": len(values),
            "mean": float(values.mean()),
            "ci95": percentile_interval(bootstrap_means(values)[:, 0]),
            "better_on": int((values > 0).sum()),
        }
    return found


if __name__ == "__main__":
    main()
