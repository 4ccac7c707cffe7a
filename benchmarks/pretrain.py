"""Measure backbones as guides with the same probes, on images that none was pretrained on.

    python benchmarks/pretrain.py probe DATA OUT NAME BACKBONE
    python benchmarks/pretrain.py dice DATA OUT NAME BACKBONE [--seed 0]
    python benchmarks/pretrain.py table OUT

DATA is a folder made by `guidino prepare`, or a part of one made by `guide.py subset`. BACKBONE is a value of
`model.backbone`, such as "{name: embedded, options: {layers: [8]}}", or "none" for a network without a guide (`dice`
only). NAME is its name in the tables. A row that OUT already holds is skipped.

* `probe`: a logistic regression on the tokens of the training images at 112 px (the target is the share of foreground
  in a patch), scored on the test images: AUROC, and Dice at a probability of 0.5, after enlarging to 112 px. Also
  the guide alone: a TokenBook trained by the guide's loss, as in `guide.py heads`.
* `dice`: the U-Net of `guide.py` with the backbone as its guide (its row input-mean), scored by `guidino evaluate`.
"""

import argparse
import hashlib
import json
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parent))
import guide

_DECAY = 1e-3


def of_backbone(backbone: str) -> list[str]:
    """The overrides that select a backbone."""
    own = yaml.safe_load(backbone)
    return [f"model.backbone.name={own['name']}", f"model.backbone.options={json.dumps(own.get('options', {}))}"]


def probe(data: Path, out: Path, backbone: str) -> dict[str, Any]:
    """Run both probes of a backbone."""
    own = of_backbone(backbone)
    # The cache key holds only settings, but the weights in a folder may have changed.
    shutil.rmtree(out / "maps", ignore_errors=True)
    started = time.process_time()
    train, test = (guide._maps_and_masks(data, split, own, out) for split in ("train", "test"))
    seconds = time.process_time() - started
    pixels = _regression(train, test)
    truth = test[1].numpy() > 0
    alone = [guide._head([], seed, train, test) for seed in range(3)]
    return {
        "grid": list(train[0].shape[-2:]),
        "width": train[0].shape[1],
        "images": [len(train[0]), len(test[0])],
        "linear_auroc": round(guide.auroc(pixels.ravel(), truth.ravel()), 4),
        "linear_dice": round(mean(guide._dice(p > 0.5, t) for p, t in zip(pixels, truth, strict=True)), 4),
        "guide_auroc": [head["auroc"] for head in alone],
        "guide_dice": [head["dice"] for head in alone],
        "ms_an_image": round(1000 * seconds / (len(train[0]) + len(test[0])), 1),
    }


def _regression(train: tuple[Any, Any], test: tuple[Any, Any]) -> np.ndarray:
    """Probabilities (N, H, W) on the test images: standardised tokens, L-BFGS, weights decayed."""
    import torch
    import torch.nn.functional as F

    tokens = train[0].permute(0, 2, 3, 1).flatten(0, 2)
    centre, spread = tokens.mean(dim=0), tokens.std(dim=0) + 1e-6
    tokens = (tokens - centre) / spread
    share = F.adaptive_avg_pool2d(train[1][:, None].float(), train[0].shape[-2:]).flatten()
    weights = torch.zeros(tokens.shape[1] + 1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        fit = F.binary_cross_entropy_with_logits(tokens @ weights[:-1] + weights[-1], share)
        total = fit + _DECAY * weights[:-1].square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    with torch.no_grad():
        logits = ((test[0].permute(0, 2, 3, 1) - centre) / spread) @ weights[:-1] + weights[-1]
        size = test[1].shape[-2:]
        return F.interpolate(logits[:, None], size=size, mode="bilinear", align_corners=False)[:, 0].sigmoid().numpy()


def dice(data: Path, out: Path, backbone: str, seed: int) -> dict[str, Any]:
    """Train, predict and evaluate a guided U-Net."""
    name = hashlib.sha256(f"{data}{backbone}{seed}".encode()).hexdigest()[:12]
    run, cpu = out / f"run-{name}", time.process_time()
    plain = backbone == "none"
    preset, own = ("kvasir-plain-unet", []) if plain else ("kvasir-unet", [*of_backbone(backbone), *_AT_INPUT])
    shutil.rmtree(run, ignore_errors=True)
    parameters = guide.train(preset, [*guide.COMMON, *own, f"seed={seed}"], data, run)
    alone = guide.predict(run, data)
    facts = json.loads((run / "run.json").read_text())
    scores = guide.evaluate(run / "masks", data)
    shutil.rmtree(run)
    spent = round(time.process_time() - cpu)
    return {**scores, **alone, "parameters": parameters, "cpu_seconds": spent, "commit": facts["git"]}


_AT_INPUT = guide.WORDS["input"]


def rows_of(out: Path) -> list[dict[str, Any]]:
    """All measured rows."""
    path = out / "rows.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def measure(options: argparse.Namespace) -> None:
    """Append a row unless it exists."""
    seed = options.seed if options.verb == "dice" else 0
    facts = {"measure": options.verb, "data": options.data.name, "name": options.name, "seed": seed}
    if any(all(row[key] == value for key, value in facts.items()) for row in rows_of(options.out)):
        print(f"{facts}: exists already")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    if options.verb == "probe":
        found = probe(options.data, options.out, options.backbone)
    else:
        found = dice(options.data, options.out, options.backbone, seed)
    with (options.out / "rows.jsonl").open("a") as file:
        file.write(json.dumps({**facts, "backbone": options.backbone, **found}) + "\n")
    print({**facts, **{key: value for key, value in found.items() if key != "cases"}}, flush=True)


def tables(out: Path) -> Iterator[str]:
    """The probes, then the U-Nets, one data set at a time."""
    rows: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in rows_of(out):
        rows[row["measure"], row["data"]][row["name"]].append(row)
    for (verb, data), by_name in sorted(rows.items(), reverse=True):
        lines = [(_probe_line if verb == "probe" else _dice_line)(name, found) for name, found in by_name.items()]
        if verb == "dice":
            _add_gains(lines, by_name)
        yield f"**{verb}: {data}**\n\n{guide._markdown(lines)}"


def _probe_line(name: str, found: list[dict[str, Any]]) -> dict[str, str]:
    (row,) = found
    return {
        "backbone": name,
        "grid": "x".join(str(side) for side in row["grid"]),
        "width": str(row["width"]),
        "linear AUROC": f"{row['linear_auroc']:.3f}",
        "linear Dice": f"{row['linear_dice']:.3f}",
        "guide alone AUROC": guide._spread_of(row["guide_auroc"]),
        "guide alone Dice": guide._spread_of(row["guide_dice"]),
        "CPU ms an image": f"{row['ms_an_image']:.0f}",
    }


def _dice_line(name: str, found: list[dict[str, Any]]) -> dict[str, str]:
    found = sorted(found, key=lambda row: row["seed"])
    guided = found[0]["guide_auroc"] is not None
    return {
        "guide": name,
        "seeds": " ".join(str(row["seed"]) for row in found),
        "Dice": f"{mean(row['dice'] for row in found):.3f}",
        "each seed": " ".join(f"{row['dice']:.3f}" for row in found),
        "IoU": f"{mean(row['iou'] for row in found):.3f}",
        "HD95 px": f"{mean(row['hd95'] for row in found):.0f}",
        "guide AUROC": f"{mean(row['guide_auroc'] for row in found):.3f}" if guided else "-",
    }


def _add_gains(lines: list[dict[str, str]], by_name: dict[str, list[dict[str, Any]]]) -> None:
    """Share of the teacher's gain over no guide, over the seeds that all three have."""
    scores = {name: {row["seed"]: row["dice"] for row in found} for name, found in by_name.items()}
    for line in lines:
        own, plain, teacher = (scores.get(name, {}) for name in (line["guide"], "no guide", "teacher"))
        seeds = own.keys() & plain.keys() & teacher.keys()
        gain = sum(teacher[seed] - plain[seed] for seed in seeds)
        line["share of the teacher's gain"] = f"{sum(own[s] - plain[s] for s in seeds) / gain:.0%}" if gain else "-"


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("probe", "dice"):
        part = verbs.add_parser(verb)
        part.add_argument("data", type=Path)
        part.add_argument("out", type=Path)
        part.add_argument("name")
        part.add_argument("backbone")
        part.add_argument("--seed", type=int, default=0)
    verbs.add_parser("table").add_argument("out", type=Path)
    options = parser.parse_args()
    if options.verb == "table":
        print("\n\n".join(tables(options.out)))
    else:
        measure(options)


if __name__ == "__main__":
    main()
