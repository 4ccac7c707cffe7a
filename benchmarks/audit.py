"""How many spoiled masks `guidino audit` finds: rows of JSON per experiment and seed.

    python benchmarks/audit.py DATA [--backbone guidino-tiny] [--tokens FILE] [--side 96]

DATA is a folder made by `guidino prepare` with two classes; its masks are spoiled in memory. Two experiments:

* `tenth`: a tenth of the training masks is spoiled, by turns inverted, replaced by the mask of the next case, eroded to
  half their area, emptied, or replaced by an ellipse of another case's area at a random place. Seeds 0 to 3.
* `ten`: ten of all masks are spoiled, by turns inverted, emptied, replaced by an ellipse, or by the mask of a random
  other case. Seeds 0 to 7.

The regressions are fitted on the spoiled masks. `precision` is the share of spoiled masks in the first tenth of the
list, `found` the share of the spoiled masks that is in it (the same where a tenth is spoiled),
`auroc` that of the rank for spoiled against other masks, `ranks` the places of the spoiled ones.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from guidino_cli.data.cases import read_label_map
from guidino_cli.data.images import read_image
from guidino_cli.data.manifest import load_manifest
from guidino_cli.data.masks.statistics import region_statistics
from guidino_cli.engine.guides.agreement import agreement, assign_folds, cell_shares, grid_tokens, held_out_scores
from guidino_cli.metrics.overlap import auroc
from guidino_cli.models import build_backbone
from guidino_cli.preparation.mask_ranking import rank_masks
from guidino_cli.types import Case

KINDS = {
    "tenth": ["inverted", "next", "eroded", "empty", "ellipse"],
    "ten": ["inverted", "empty", "ellipse", "other"],
}
SEEDS = {"tenth": range(4), "ten": range(8)}


def main() -> None:
    """Measure and print a line of JSON per experiment and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--backbone", default="guidino-tiny")
    parser.add_argument("--tokens", type=Path, help="cache of the tokens, written if it does not exist")
    parser.add_argument("--side", type=int, default=96, help="side of the masks that are spoiled")
    arguments = parser.parse_args()
    cases = [case for case in load_manifest(arguments.data).cases if case.mask is not None]
    tokens = load_tokens(cases, arguments.backbone, arguments.tokens)
    masks = [read_mask(case, arguments.side) for case in cases]
    for name in KINDS:
        chosen = [index for index, case in enumerate(cases) if name == "ten" or case.split == "train"]
        own_tokens, own_masks = [tokens[cases[index].id].float() for index in chosen], [masks[i] for i in chosen]
        groups = [cases[index].group for index in chosen]
        for seed in SEEDS[name]:
            row = measure(name, own_tokens, own_masks, groups, seed)
            print(json.dumps({"experiment": name, "backbone": arguments.backbone, "seed": seed, **row}), flush=True)


def load_tokens(cases: Sequence[Case], backbone_name: str, cache: Path | None) -> dict[str, Tensor]:
    """Tokens (N, D) float16 by case id."""
    if cache is not None and cache.is_file():
        return dict(torch.load(cache))
    backbone = build_backbone(backbone_name, {}, frozen=True)
    backbone.freeze()
    tokens = {case.id: grid_tokens(backbone, read_image(case.image)[0]).half() for case in cases}
    if cache is not None:
        torch.save(tokens, cache)
    return tokens


def read_mask(case: Case, side: int) -> np.ndarray:
    """The foreground (side, side) by nearest neighbour."""
    assert case.mask is not None
    foreground = (read_label_map(case.mask) > 0).astype(np.uint8)
    return np.asarray(Image.fromarray(foreground).resize((side, side), Image.Resampling.NEAREST))


def measure(
    name: str, tokens: Sequence[Tensor], masks: Sequence[np.ndarray], groups: Sequence[str], seed: int
) -> dict[str, object]:
    """Spoil masks, rank all of them, and count the spoiled ones in the first tenth."""
    count = len(masks)
    spoiled = np.random.default_rng(seed).permutation(count)[: 10 if name == "ten" else count // 10].tolist()
    kinds = {case: KINDS[name][turn % len(KINDS[name])] for turn, case in enumerate(spoiled)}
    generator = np.random.default_rng(1000 + seed)
    folds = assign_folds(groups) if name == "ten" else generator.permutation(count) % 5
    changed = [spoil(masks, case, kinds[case], generator) if case in kinds else masks[case] for case in range(count)]
    started = time.process_time()
    shares = np.stack([cell_shares(mask > 0) for mask in changed])[:, None]
    scores = held_out_scores(tokens, shares, folds)
    fits = {str(case): (agreement(scores[case, 0], shares[case, 0]), "object") for case in range(count)}
    fits = {case: fit for case, fit in fits.items() if not np.isnan(fit[0])}
    statistics = {str(case): region_statistics(mask, 2) for case, mask in enumerate(changed)}
    ranking = rank_masks(statistics, ["background", "object"], fits)
    place = {int(item.case): rank for rank, item in enumerate(ranking)}
    first = round(count / 10) if name == "ten" else len(spoiled)
    found = [case for case in spoiled if place[case] < first]
    is_spoiled = np.array([case in kinds for case in range(count)])
    return {
        "masks": count,
        "spoiled": len(spoiled),
        "precision": round(len(found) / first, 4),
        "found": round(len(found) / len(spoiled), 4),
        "auroc": round(auroc(np.array([-place[case] for case in range(count)]), is_spoiled), 4),
        "by_kind": {
            kind: round(float(np.mean([place[case] < first for case in spoiled if kinds[case] == kind])), 4)
            for kind in KINDS[name]
        },
        "ranks": sorted((place[case] + 1, kinds[case]) for case in spoiled) if name == "ten" else None,
        "certain": sum(item.is_certain for item in ranking),
        "cpu_seconds": round(time.process_time() - started, 2),
    }


def spoil(masks: Sequence[np.ndarray], case: int, kind: str, generator: np.random.Generator) -> np.ndarray:
    """A wrong mask in place of the one of a case."""
    mask, count = masks[case], len(masks)
    if kind == "inverted":
        return 1 - mask
    if kind == "empty":
        return np.zeros_like(mask)
    if kind == "next":
        return masks[(case + 1) % count]
    if kind == "other":
        return masks[(case + 1 + int(generator.integers(count - 1))) % count]
    if kind == "eroded":
        # The half of the pixels that lies deepest inside.
        depth = ndimage.distance_transform_edt(mask)
        return (depth >= np.sort(depth[mask > 0])[-(int(mask.sum()) // 2)]).astype(np.uint8)
    return _ellipse(mask.shape[0], int(masks[int(generator.integers(count))].sum()), generator)


def _ellipse(side: int, area: int, generator: np.random.Generator) -> np.ndarray:
    ratio, angle = np.exp(generator.uniform(-0.5, 0.5)), generator.uniform(0, np.pi)
    row, column = generator.uniform(0.2 * side, 0.8 * side, 2)
    rows, columns = np.indices((side, side))
    along = (columns - column) * np.cos(angle) + (rows - row) * np.sin(angle)
    across = (rows - row) * np.cos(angle) - (columns - column) * np.sin(angle)
    return ((along**2 * ratio + across**2 / ratio) < area / np.pi).astype(np.uint8)


if __name__ == "__main__":
    main()
