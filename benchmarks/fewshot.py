"""Measure `guidino fewshot` and `guidino next-to-label`: Dice against the number of labels, over draws of the labels.

    python benchmarks/fewshot.py fit ROOT --cache CACHE [--backbone embedded] >> benchmarks/results/fewshot/rows.jsonl
    python benchmarks/fewshot.py next ROOT --cache CACHE >> benchmarks/results/fewshot/next.jsonl
    python benchmarks/fewshot.py shapes ROOT >> benchmarks/results/fewshot/shapes.jsonl
    python benchmarks/fewshot.py table

ROOT holds a folder for each of `TASKS`, with images/, masks/ and, but for drishti_gs, the lists train.txt and test.txt.
Everything is drawn by numpy's `default_rng`: with seed 0 a pool of 40 images of train.txt, then 50 of test.txt
(drishti_gs: all stems, 25 and the rest); with seed 100 + d the labels of draw d. Images are stretched to 336 px, masks
by nearest neighbour. Dice is that of a test image's mask at 112 px; "+-" is the standard deviation over the draws of
the mean over images. Tokens are kept in CACHE.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from guidino_cli.config import load_preset
from guidino_cli.data.preprocess import restore_to_source
from guidino_cli.engine.fewshot.candidates import Committee, rank_candidates
from guidino_cli.engine.fewshot.fitting import FewShotFit, fit_few_labels, maps, parts
from guidino_cli.engine.fewshot.images import LabelledImage, SeenImage, see
from guidino_cli.models import build_model
from guidino_cli.models.composed import Model
from guidino_cli.types import Geometry

SIDE, GRID = 336, (112, 112)
DRAWS, LABELS, UNLABELLED = 5, (1, 5, 20), 20
FIRST, MORE = 5, (5, 10)
"""Labels before `next-to-label` is asked, and labels added by its list."""
TASKS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "polyps": ("kvasir_seg", lambda mask: mask > 127),
    "skin lesions": ("isic_merged_256", lambda mask: mask > 127),
    "thyroid ultrasound": ("ddti", lambda mask: mask > 127),
    "nuclei": ("dsb2018", lambda mask: mask > 127),
    "optic disc": ("drishti_gs", lambda mask: mask >= 1),
    "optic cup": ("drishti_gs", lambda mask: mask == 2),
}
RESULTS = Path(__file__).parent / "results" / "fewshot"


class Task:
    """Images of one task with tokens and masks, and their pool and test part."""

    def __init__(self, root: Path, name: str, model: Model, cache: Path, backbone: str) -> None:
        folder, find_region = TASKS[name]
        self.pool, self.test = split(root / folder)
        data = load_preset("fewshot").data
        path = cache / f"{backbone}-{folder}.pt"
        known = torch.load(path) if path.is_file() else {}
        self.items: dict[str, LabelledImage] = {}
        for stem in [*self.pool, *self.test]:
            image = Image.open(find(root / folder / "images", stem)).convert("RGB")
            pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
            known[stem] = see(model, pixels, data).dense if stem not in known else known[stem]
            mask = Image.open(find(root / folder / "masks", stem)).convert("L")
            region = find_region(np.asarray(mask.resize((SIDE, SIDE), Image.Resampling.NEAREST)))
            self.items[stem] = LabelledImage(SeenImage(pixels, known[stem]), region.astype(np.uint8))
        torch.save(known, path)
        self.truth = {stem: self.items[stem].shares(1, GRID).reshape(GRID) > 0.5 for stem in self.test}

    def draw(self, number: int) -> list[str]:
        """The pool in the order of a draw, whose first images are labelled."""
        return [self.pool[place] for place in np.random.default_rng(100 + number).permutation(len(self.pool))]

    def fit(self, model: Model, labelled: Sequence[str]) -> FewShotFit:
        """Fit the model to labelled images of the pool, and to the first of the others."""
        others = [stem for stem in self.pool if stem not in labelled][:UNLABELLED]
        return fit_few_labels(
            model, [self.items[stem] for stem in labelled], [self.items[stem].seen for stem in others]
        )

    @torch.no_grad()
    def dice(self, model: Model) -> list[float]:
        """Dice of every test image."""
        guide, segmenter = parts(model)
        scores = []
        for stem in self.test:
            logits = segmenter.decode([maps(model, self.items[stem].seen, guide)[None]], GRID)[0]
            found, truth = (logits[0, 1] > 0).numpy(), self.truth[stem]
            total = int(found.sum()) + int(truth.sum())
            scores.append(2 * int((found & truth).sum()) / total if total else 1.0)
        return scores


def split(folder: Path) -> tuple[list[str], list[str]]:
    """Stems of the pool and of the test part."""
    random = np.random.default_rng(0)
    if not (folder / "train.txt").is_file():
        stems = [str(stem) for stem in random.permutation(sorted(path.stem for path in (folder / "images").iterdir()))]
        return stems[:25], stems[25:]
    lists = [(folder / f"{part}.txt").read_text().split() for part in ("train", "test")]
    pool = [str(stem) for stem in random.permutation(lists[0])[:40]]
    return pool, [str(stem) for stem in random.permutation(lists[1])[:50]]


def find(folder: Path, stem: str) -> Path:
    """The file with a stem."""
    return next(path for suffix in (".jpg", ".png") if (path := folder / f"{stem}{suffix}").is_file())


def make_model(backbone: str) -> Model:
    """The model of the preset with another backbone."""
    config = load_preset("fewshot", [f"model.backbone={{name: {backbone}}}"])
    return build_model(config.model, num_classes=2, offline=True).eval()


def measure_fits(arguments: argparse.Namespace) -> None:
    """Print a row for every task, number of labels and draw."""
    model = make_model(arguments.backbone)
    for name in TASKS:
        task = Task(arguments.root, name, model, arguments.cache, arguments.backbone)
        for count in arguments.labels:
            for number in range(DRAWS):
                began = time.process_time()
                fit = task.fit(model, task.draw(number)[:count])
                seconds = time.process_time() - began
                row = {
                    "task": name,
                    "backbone": arguments.backbone,
                    "labels": count,
                    "draw": number,
                    "dice": round(float(np.mean(task.dice(model))), 4),
                    "threshold": round(fit.thresholds[0].threshold, 4),
                    "fit_cpu_seconds": round(seconds, 2),
                }
                print(json.dumps(row), flush=True)


def measure_lists(arguments: argparse.Namespace) -> None:
    """Print Dice after labels are added in the order of `next-to-label`, and in the order of the draw."""
    model = make_model(arguments.backbone)
    for name in list(TASKS)[:4]:
        task = Task(arguments.root, name, model, arguments.cache, arguments.backbone)
        for number in range(DRAWS):
            order = task.draw(number)
            first, rest = order[:FIRST], order[FIRST:]
            fit = task.fit(model, first)
            start = float(np.mean(task.dice(model)))
            committee = Committee(model, [task.items[stem] for stem in first], alpha=fit.alpha)
            found = [committee.judge(task.items[stem].seen) for stem in rest]
            known = [task.items[stem].seen for stem in first]
            ranked = [rest[place] for place in rank_candidates(found, known)]
            for more in MORE:
                for how, names in (("next-to-label", ranked), ("random", rest)):
                    task.fit(model, [*first, *names[:more]])
                    row = {
                        "task": name,
                        "draw": number,
                        "labels": FIRST + more,
                        "how": how,
                        "before": round(start, 4),
                        "dice": round(float(np.mean(task.dice(model))), 4),
                    }
                    print(json.dumps(row), flush=True)


def measure_shapes(arguments: argparse.Namespace) -> None:
    """Print Dice on thyroid ultrasound, in the grid of the files, with each way to resize: narrow images and others."""
    folder, find_region = TASKS["thyroid ultrasound"]
    pool, _ = split(arguments.root / folder)
    test = (arguments.root / folder / "test.txt").read_text().split()
    model, count = make_model(arguments.backbone), max(LABELS)
    pixels = {stem: np.asarray(Image.open(find(arguments.root / folder / "images", stem)).convert("RGB"))
              for stem in [*pool, *test]}  # fmt: skip
    masks = {stem: find_region(np.asarray(Image.open(find(arguments.root / folder / "masks", stem)).convert("L")))
             for stem in [*pool, *test]}  # fmt: skip
    narrowest = min(pixels[stem].shape[1] / pixels[stem].shape[0] for stem in pool)
    narrow = [pixels[stem].shape[1] / pixels[stem].shape[0] < narrowest / 1.25 for stem in test]
    for resize in ("stretch", "longer"):
        began, data = time.process_time(), load_preset("fewshot", [f"data.resize={resize}"]).data
        items = {stem: LabelledImage(see(model, pixels[stem], data), masks[stem].astype(np.uint8)) for stem in pixels}
        for number in range(DRAWS):
            order = [pool[place] for place in np.random.default_rng(100 + number).permutation(len(pool))]
            others = [stem for stem in pool if stem not in order[:count]][:UNLABELLED]
            fit_few_labels(model, [items[stem] for stem in order[:count]], [items[stem].seen for stem in others])
            scores = np.array([_full_size_dice(model, items[stem]) for stem in test])
            row = {
                "task": "thyroid ultrasound",
                "backbone": arguments.backbone,
                "labels": count,
                "draw": number,
                "resize": resize,
                "narrow": round(float(scores[np.array(narrow)].mean()), 4),
                "others": round(float(scores[~np.array(narrow)].mean()), 4),
                "all": round(float(scores.mean()), 4),
                "images": [sum(narrow), len(test) - sum(narrow)],
            }
            print(json.dumps(row), flush=True)
        print(f"{resize}: {time.process_time() - began:.0f} CPU seconds", file=sys.stderr)


@torch.no_grad()
def _full_size_dice(model: Model, item: LabelledImage) -> float:
    """Dice in the grid of an image's file, of its mask as `predict` makes it."""
    guide, segmenter = parts(model)
    height, width = item.seen.pixels.shape[:2]
    padded = tuple(-(-side // segmenter.reduction) * segmenter.reduction for side in (height, width))
    logits = segmenter.decode([maps(model, item.seen, guide)[None]], padded)[0][0, :, :height, :width]
    restored = restore_to_source(logits.softmax(dim=0), Geometry.of_pixels("", item.labels.shape))
    found, truth = restored.argmax(dim=0).numpy() > 0, item.labels > 0
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


def print_table(_: argparse.Namespace) -> None:
    """Print the tables of benchmarks/results/fewshot.md."""
    rows = [json.loads(line) for line in (RESULTS / "rows.jsonl").read_text().splitlines()]
    for backbone in dict.fromkeys(row["backbone"] for row in rows):
        print(f"\n| {backbone} | {' | '.join(TASKS)} |\n|---:|{'---|' * len(TASKS)}")
        for count in LABELS:
            cells = [
                _cell(
                    [
                        row["dice"]
                        for row in rows
                        if (row["task"], row["backbone"], row["labels"]) == (name, backbone, count)
                    ]
                )
                for name in TASKS
            ]
            print(f"| {count} | {' | '.join(cells)} |")
    own = [json.loads(line) for line in (RESULTS / "next.jsonl").read_text().splitlines()]
    print("\n| task | labels | random | next-to-label | difference of each draw |\n|---|---:|---|---|---|")
    for name in dict.fromkeys(row["task"] for row in own):
        for count in sorted({row["labels"] for row in own}):
            chosen, random = (
                [row["dice"] for row in own if (row["task"], row["labels"], row["how"]) == (name, count, how)]
                for how in ("next-to-label", "random")
            )
            each = " ".join(f"{a - b:+.3f}" for a, b in zip(chosen, random, strict=True))
            print(f"| {name} | {FIRST} + {count - FIRST} | {_cell(random)} | {_cell(chosen)} | {each} |")

    own = [json.loads(line) for line in (RESULTS / "shapes.jsonl").read_text().splitlines()]
    print("\n| backbone | data.resize | narrow images | others | all |\n|---|---|---|---|---|")
    for backbone, resize in dict.fromkeys((row["backbone"], row["resize"]) for row in own):
        rows = [row for row in own if (row["backbone"], row["resize"]) == (backbone, resize)]
        cells = [_cell([row[part] for row in rows]) for part in ("narrow", "others", "all")]
        print(f"| {backbone} | {resize} | {' | '.join(cells)} |")


def _cell(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else "-"


def main() -> None:
    """Parse the command line."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    actions = {"fit": measure_fits, "next": measure_lists, "shapes": measure_shapes, "table": print_table}
    for name, action in actions.items():
        command = commands.add_parser(name)
        command.set_defaults(action=action)
        if name != "table":
            command.add_argument("root", type=Path)
            command.add_argument("--cache", type=Path, required=name != "shapes", help="Not of `shapes`.")
            command.add_argument("--backbone", default="embedded")
            command.add_argument("--labels", type=int, nargs="+", default=LABELS, help="Of `fit`.")
    arguments = parser.parse_args()
    arguments.action(arguments)


if __name__ == "__main__":
    main()
