"""Measure `guidino features` and `guidino probe`: frozen features beside a random network and raw pixels.

    python benchmarks/probes.py data ROOT WORK          # the parts of the public sets that are used, into WORK
    python benchmarks/probes.py run WORK                # features and probes; what is there is not computed again
    python benchmarks/probes.py run WORK --only pneumonia --probe knn       # some of them
    python benchmarks/probes.py bags WORK               # bags with known positive instances
    python benchmarks/probes.py table WORK              # Markdown

ROOT holds class_pneumonia_28/train_val.npz (PneumoniaMNIST), class_adrenal_3d_64/train_val.npz (AdrenalMNIST3D) and
class_blood_cells/labels.csv (BCCD). The official test parts of the first two are not used: their val parts are what is
tested, and choose nothing. Training parts are drawn by numpy's `default_rng(0)`: 388 of each class of chest X-rays, 150
of each class of adrenal volumes. The backbone `embedded` needs `guidino weights download embedded`.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from guidino_cli.data.feature_folder import read_feature_folder
from guidino_cli.evaluation.probes.attention import mean_attention, run_bags
from guidino_cli.evaluation.probes.exact import solve_exact
from guidino_cli.evaluation.probes.parts import Partition
from guidino_cli.evaluation.probes.rows import ProbeRow, list_sources, run_solvers
from guidino_cli.evaluation.probes.samples import ProbeSample, ProbeSamples, collect_samples
from guidino_cli.evaluation.probes.scores import MACRO, ProbeScorer

FEATURES = {
    "pneumonia": ("pneumonia.npz", ["--px", "112", "--classes", "normal,pneumonia"], ["guidino-tiny", "embedded"]),
    "adrenal": ("adrenal.npz", ["--px", "56", "--every", "8", "--classes", "normal,mass"], ["guidino-tiny"]),
    "blood": ("blood.csv", ["--px", "112", "--label", "RBC,WBC,Platelets"], ["guidino-tiny"]),
}
PROBES = {
    "pneumonia": [["linear"], ["knn"]],
    "adrenal": [["linear", "--solver", "exact"], ["abmil", "--seeds", "3", "--epochs", "20", "--sheets", "4"]],
    "blood": [["linear", "--solver", "exact"], ["linear", "--solver", "exact", "--folds", "5"]],
}
BAGS, BAG_EPOCHS, BAG_SEEDS = 200, 20, 3


def prepare(root: Path, work: Path) -> None:
    """Write the archives that are used, and a table of the blood cells with absolute paths."""
    generator = np.random.default_rng(0)
    for name, folder, count in (("pneumonia", "class_pneumonia_28", 388), ("adrenal", "class_adrenal_3d_64", 150)):
        with np.load(root / folder / "train_val.npz") as content:
            arrays = dict(content)
        labels = arrays["train_labels"].ravel()
        drawn = [generator.permutation(np.flatnonzero(labels == number))[:count] for number in (0, 1)]
        kept = np.sort(np.concatenate(drawn))
        np.savez_compressed(
            work / f"{name}.npz",
            train_images=arrays["train_images"][kept],
            train_labels=arrays["train_labels"][kept],
            test_images=arrays["val_images"],
            test_labels=arrays["val_labels"],
        )
    source = (root / "class_blood_cells").resolve()
    heading, *rows = (source / "labels.csv").read_text().splitlines()
    (work / "blood.csv").write_text("\n".join([heading, *(f"{source}/{row}" for row in rows)]) + "\n")


def run(work: Path, only: Sequence[str], probes: Sequence[str]) -> None:
    """Compute what is missing, of some sets and probes or of all: features are resumed, reports stay."""
    for name, (data, words, backbones) in FEATURES.items():
        if only and name not in only:
            continue
        folders = [work / f"{name}-{backbone}" for backbone in backbones]
        for folder, backbone in zip(folders, backbones, strict=True):
            call("features", work / data, "-o", folder, "--backbone", backbone, *words)
        for number, probe in enumerate(PROBES[name]):
            out = work / f"{name}-report-{number}"
            if (not probes or probe[0] in probes) and not (out / "report.json").is_file():
                call("probe", *probe, *folders, "-o", out)


def call(*words: object) -> None:
    """Run a command of guidino and show it."""
    print("guidino", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "guidino_cli", *map(str, words)])
    if done.returncode not in {0, 6}:
        sys.exit(done.returncode)


def make_bags(data: ProbeSamples, split: str, generator: np.random.Generator) -> tuple[list[ProbeSample], list]:
    """Bags of 8 to 12 X-rays; a positive one holds one or two of pneumonia; and which instances those are."""
    own = [sample for sample in data.samples if sample.split == split]
    negatives, positives = ([sample for sample in own if sample.labels == (label,)] for label in (0, 1))
    bags, truths = [], []
    for number in range(BAGS):
        count, hits = int(generator.integers(8, 13)), int(generator.integers(1, 3)) if number % 2 else 0
        chosen = [negatives[place] for place in generator.choice(len(negatives), count - hits, replace=False)]
        chosen += [positives[place] for place in generator.choice(len(positives), hits, replace=False)]
        order = generator.permutation(count)
        members = tuple(chosen[place].members[0] for place in order)
        name = f"{split} bag {number}"
        bags.append(ProbeSample(name, members, (number % 2,), name, split, None))
        truths.append(order >= count - hits)
    return bags, truths


def run_bag_study(work: Path) -> None:
    """ABMIL on bags whose positive instances are known: AUC, and how often the largest attention falls on one."""
    folder = read_feature_folder(work / "pneumonia-guidino-tiny")
    images = collect_samples(folder)
    generator = np.random.default_rng(0)
    train, _ = make_bags(images, "train", generator)
    test, truths = make_bags(images, "test", generator)
    data = ProbeSamples((*train, *test), ("negative", "positive"), False)
    places = np.arange(BAGS)
    # A quarter of the training bags, of both kinds, chooses the epoch.
    chooses = places // 2 % 4 == 0
    parts = [Partition("test", seed, places[~chooses], places[chooses], places + BAGS) for seed in range(BAG_SEEDS)]
    scorer = ProbeScorer(data, parts)
    settings = {"scorer": scorer, "threshold": "0.5"}
    sources = list_sources([folder])
    rows = run_bags(sources, data, parts, epochs=BAG_EPOCHS, on_epoch=lambda: None, **settings)
    rows += run_solvers(
        sources, data, parts[:1], [("mean, exact", solve_exact)], pool="mean", on_run=lambda: None, **settings
    )
    found = [describe_bags(row, truths) for row in rows]
    (work / "bags.json").write_text(json.dumps(found, indent=1) + "\n")


def describe_bags(row: ProbeRow, truths: Sequence[np.ndarray]) -> dict[str, object]:
    """AUC of a row, and the share of positive bags whose largest attention falls on a positive instance."""
    score = row.scores[MACRO, "auc"]
    entry: dict[str, object] = {"features": row.source.name, "solver": row.solver}
    entry |= {"auc": score.mean, "low": score.low, "high": score.high, "std": score.deviation}
    if row.attention:
        attention = mean_attention(row)
        hits = [bool(truths[place - BAGS][weights.argmax()]) for place, weights in attention.items() if place % 2]
        chance = [float(truth.mean()) for truth in truths if truth.any()]
        entry |= {"first": float(np.mean(hits)), "chance": float(np.mean(chance))}
    return entry


def table(work: Path) -> None:
    """Print all reports as Markdown."""
    for name, probes in PROBES.items():
        for number, words in enumerate(probes):
            path = work / f"{name}-report-{number}" / "report.json"
            if not path.is_file():
                continue
            content = json.loads(path.read_text())
            print(f"\n### {name}, `probe {' '.join(words)}`\n\n{content['parts']}\n")
            print("| features | solver | AUC (95 %) | AP | balanced accuracy | F1 | solved |")
            print("|---|---|---|---|---|---|---|")
            for row in content["rows"]:
                macro = {item["metric"]: item for item in row["scores"] if item["target"] == MACRO}
                auc = macro["auc"]
                numbers = " | ".join(f"{macro[key]['mean']:.3f}" for key in ("ap", "balanced_accuracy", "f1"))
                shown = f"{auc['mean']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})"
                print(f"| {row['features']} | {row['solver']} | {shown} | {numbers} | {row['ending']} |")
            for item in content["differences"]:
                interval = f"{item['low']:+.3f} to {item['high']:+.3f}"
                print(f"\n{item['of']} minus {item['minus']}: {item['mean']:+.3f} ({interval})")
    if (work / "bags.json").is_file():
        print("\n### bags\n\n| features | solver | AUC (95 %) | largest attention on a positive |\n|---|---|---|---|")
        for row in json.loads((work / "bags.json").read_text()):
            first = f"{row['first']:.2f} (chance {row['chance']:.2f})" if "first" in row else "-"
            shown = f"{row['auc']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
            print(f"| {row['features']} | {row['solver']} | {shown} | {first} |")


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["data", "run", "bags", "table"])
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--only", nargs="*", default=[], choices=list(FEATURES))
    parser.add_argument("--probe", nargs="*", default=[], choices=["linear", "knn", "abmil"])
    options = parser.parse_args()
    *root, work = options.paths
    work.mkdir(parents=True, exist_ok=True)
    if options.step == "data":
        prepare(root[0], work)
    elif options.step == "run":
        run(work, options.only, options.probe)
    else:
        {"bags": run_bag_study, "table": table}[options.step](work)


if __name__ == "__main__":
    main()
