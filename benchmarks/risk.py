"""Measure scores without truth, expected Dice and bounded masks on the validation and test part of a data set.

    guidino prepare kvasir_seg -o DATA --classes background,polyp
    python benchmarks/risk.py measure DATA RUN [--ensemble RUN2 ...] -o CASES.npz
    python benchmarks/risk.py draws DATA kvasir_seg -o FOLDER [--draw 0 ...]
    python benchmarks/risk.py table CASES.npz ...

`measure` predicts all validation and test cases of DATA once. `draws` first fits models as `guidino fewshot` does
(`embedded`): for draw d = 0..4 with 20 labels (default_rng(100 + d) over the pool of 40 training images that
benchmarks/fewshot.py states, its other 20 unlabelled), and five more with each fifth label left out, which form an
ensemble of six with the first.

`table` prints, of each file: the rank correlation (Spearman) of each score with the true Dice over the test cases; how
many of the worst fifth of the masks lie in the first fifth of the list; the error of the expected Dice, fitted on the
validation cases, on the test cases; and the realised risk over 200 splits of all cases (default_rng(k)), of which as
many as there are validation cases choose the threshold, with the size of the masks.
"""

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from fewshot import DRAWS, split
from scipy.stats import spearmanr
from torch import Tensor, nn

from guidino_cli.commands.tune_risk import measure_case
from guidino_cli.config import load_preset
from guidino_cli.data.cases import read_pair
from guidino_cli.data.manifest import load_manifest
from guidino_cli.engine.fewshot.fitting import fit_few_labels
from guidino_cli.engine.fewshot.images import LabelledImage, see, see_file
from guidino_cli.engine.prediction.ensemble import LoadedEnsemble, load_ensemble
from guidino_cli.engine.prediction.predictor import Member, Predictor
from guidino_cli.engine.prediction.quality import CaseQuality
from guidino_cli.engine.prediction.sliding import Window
from guidino_cli.engine.risk.control import LOSSES, choose_threshold, losses_by_threshold, make_monotone
from guidino_cli.engine.risk.expected_dice import ExpectedDice, fit_expected_dice
from guidino_cli.engine.risk.regions import RegionCurves
from guidino_cli.models import build_model

SPLITS, LEVEL = 200, 0.1
SCORES = [item.name for item in fields(CaseQuality)]


class KnownFeatures(nn.Module):
    """A frozen backbone that several models share, and that computes the features of an image once."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.known = backbone, {}

    def __getattr__(self, name: str) -> object:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("backbone"), name)

    @torch.no_grad()
    def forward(self, images: Tensor) -> list[Tensor]:
        """The deepest features of one image."""
        key = hashlib.sha256(images.numpy().tobytes()).digest()
        if key not in self.known:
            self.known[key] = [item.clone() for item in self.backbone(images)]
        return self.known[key]


def measure_run(data: Path, runs: Sequence[Path], out: Path) -> None:
    """Measure a run, and its average with others."""
    loaded = load_ensemble(runs, device=torch.device("cpu"))
    save_cases(data, loaded.predictor.members, out)


def measure_draws(data: Path, lists: Path, out: Path, numbers: Sequence[int]) -> None:
    """Fit a model to the 20 labels of each draw, and five to four fifths of them, and measure their average, too."""
    config = load_preset("fewshot", ["model.backbone={name: embedded}", "predict.mirror=false"])
    shared = KnownFeatures(build_model(config.model, num_classes=2, offline=True).eval().backbone)
    cases = {case.id: case for case in load_manifest(data).cases}
    pool, _ = split(lists)

    def fit(labels: Sequence[str], others: Sequence[str]) -> Member:
        model = build_model(config.model, num_classes=2, offline=True).eval()
        model.backbone = shared
        pairs = [read_pair(cases[stem], num_classes=2) for stem in labels]
        labelled = [LabelledImage(see(model, pixels, config.data), truth) for pixels, truth in pairs]
        fit_few_labels(model, labelled, [see_file(model, cases[stem].image, config.data) for stem in others])
        return Member(model, config.data, Window.from_config(config))

    for number in numbers:
        order = [pool[place] for place in np.random.default_rng(100 + number).permutation(len(pool))]
        labels, others = order[:20], [stem for stem in pool if stem not in order[:20]]
        parts = [[stem for place, stem in enumerate(labels) if place % 5 != part] for part in range(5)]
        save_cases(data, [fit(part, others) for part in (labels, *parts)], out / f"draw{number}.npz")


def save_cases(data: Path, members: Sequence[Member], out: Path) -> None:
    """Predict all validation and test cases with the first run and, if there are more, with their average."""
    rows = [case for case in load_manifest(data).cases if case.split in {"val", "test"}]
    content: dict[str, object] = {"split": [case.split for case in rows], "id": [case.id for case in rows]}
    for name in ("single", "ensemble")[: 1 + (len(members) > 1)]:
        predictor = Predictor(members if name == "ensemble" else members[:1])
        loaded = LoadedEnsemble(predictor, ["background", "foreground"], [], 1, 4)
        measured = []
        for place, case in enumerate(rows):
            measured.append(measure_case(loaded, case))
            print(f"{out.stem} {name} {place + 1}/{len(rows)}", file=sys.stderr, flush=True)
        content[f"{name}_counts"] = np.stack([item.curves[0].counts for item in measured])
        scores = [asdict(item.quality) for item in measured]
        content |= {f"{name}_{key}": [np.nan if row[key] is None else row[key] for row in scores] for key in SCORES}
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out, **content)


def restore(counts: np.ndarray) -> RegionCurves:
    """Curves of a case from a file."""
    curves = RegionCurves(1)
    curves.counts = counts
    return curves


def show(path: Path) -> None:
    """Print the figures of a file."""
    content = dict(np.load(path))
    is_test = content["split"] == "test"
    for name in ("single", "ensemble"):
        if f"{name}_counts" not in content:
            continue
        curves = [restore(item) for item in content[f"{name}_counts"]]
        dice = np.array([item.dice for item in curves])
        print(f"{path.stem} {name}: mean Dice {dice[is_test].mean():.3f} (validation {dice[~is_test].mean():.3f})")
        values = {key: content[f"{name}_{key}"] for key in SCORES if np.isfinite(content[f"{name}_{key}"]).all()}
        for key, value in values.items():
            rank = spearmanr(value[is_test], dice[is_test]).statistic
            print(f"  {key:17s} Spearman {rank:.3f}  worst fifth found {found(value[is_test], dice[is_test]):.2f}")
        show_expected(values, dice, is_test)
        show_risk(curves, int((~is_test).sum()))


def found(value: np.ndarray, dice: np.ndarray) -> float:
    """Share of the worst fifth by Dice that is in the first fifth by a score."""
    count = round(len(dice) / 5)
    return len(set(np.argsort(value)[:count]) & set(np.argsort(dice)[:count])) / count


def show_expected(values: dict[str, np.ndarray], dice: np.ndarray, is_test: np.ndarray) -> None:
    """Print the error of the expected Dice on the test cases."""
    qualities = [CaseQuality(**{key: float(item[place]) for key, item in values.items()}) for place in range(len(dice))]
    val = np.flatnonzero(~is_test)
    fit = fit_expected_dice([qualities[place] for place in val], list(dice[val]), [str(place) for place in val])
    if not isinstance(fit, ExpectedDice):
        print(f"  no expected Dice: {fit}")
        return
    test = np.flatnonzero(is_test)
    expected = np.array([fit.predict(qualities[place]) for place in test], dtype=float)
    errors = np.abs(expected - dice[test])
    constant = np.abs(fit.mean - dice[test])
    low = expected <= np.quantile(expected, 0.2)
    print(
        f"  expected Dice     Spearman {spearmanr(expected, dice[test]).statistic:.3f}  worst fifth found "
        f"{found(expected, dice[test]):.2f}  error {errors.mean():.3f} (stated {fit.error:.3f}, of a constant "
        f"{constant.mean():.3f}); mean {expected.mean():.3f}; of the lowest fifth {expected[low].mean():.3f}, "
        f"true {dice[test][low].mean():.3f}"
    )


def show_risk(curves: Sequence[RegionCurves], count: int) -> None:
    """Print the realised risk of each loss over splits, and the size of the masks."""
    for loss, (side, _) in LOSSES.items():
        losses = np.stack([losses_by_threshold(item, loss) for item in curves])
        monotone = make_monotone(losses, side)
        areas = np.stack([item.areas(side)[0] for item in curves])
        true = np.array([item.true for item in curves])
        realised, sizes, pooled, thresholds = [], [], [], []
        for number in range(SPLITS):
            order = np.random.default_rng(number).permutation(len(curves))
            place = choose_threshold(monotone[order[:count]], risk=LEVEL, side=side)
            rest = order[count:]
            # Where no threshold holds, the whole image or an empty mask has no loss.
            realised.append(0.0 if place is None else losses[rest, place].mean())
            if place is not None:
                sizes.append(np.median(areas[rest, place] / true[rest]))
                pooled.append(areas[rest, place].sum() / true[rest].sum())
                thresholds.append(place)
        before = losses[:, -1 if side == "outer" else 0].mean()
        values = np.array(realised)
        print(
            f"  {loss} {side}: of the masks {before:.3f}, realised {values.mean():.4f} +- {values.std():.3f}, above "
            f"{LEVEL:g} in {100 * np.mean(values > LEVEL):.0f} %; area / true area {np.mean(sizes):.2f} (median), "
            f"{np.mean(pooled):.2f} (pooled); no threshold in {SPLITS - len(thresholds)} splits"
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("measure")
    one.add_argument("data", type=Path)
    one.add_argument("run", type=Path)
    one.add_argument("--ensemble", type=Path, action="append", default=[])
    one.add_argument("-o", dest="out", type=Path, required=True)
    draws = commands.add_parser("draws")
    draws.add_argument("data", type=Path)
    draws.add_argument("lists", type=Path)
    draws.add_argument("--draw", type=int, action="append", choices=range(DRAWS), help="By default all.")
    draws.add_argument("-o", dest="out", type=Path, required=True)
    table = commands.add_parser("table")
    table.add_argument("files", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "measure":
        measure_run(arguments.data, [arguments.run, *arguments.ensemble], arguments.out)
    elif arguments.command == "draws":
        measure_draws(arguments.data, arguments.lists, arguments.out, arguments.draw or range(DRAWS))
    else:
        for path in arguments.files:
            show(path)


if __name__ == "__main__":
    main()
