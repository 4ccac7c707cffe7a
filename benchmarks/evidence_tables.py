"""Tables of benchmarks/results/evidence.md from the rows that benchmarks/evidence.py and benchmarks/fewshot.py wrote.

    python benchmarks/evidence_tables.py

An interval is a 95 % bootstrap interval over test cases (10,000 draws) of the mean over seeds; a difference is paired
by case and by seed, for the seeds that both rows have.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
ROWS = {
    "plain": "no guide",
    "plain-longer": "the same, images keep their shape",
    "gate": "guide gates the input",
    "random": "the same, random backbone",
    "new": "guide in logit space",
    "new-embedded": "the same, `embedded`",
    "new-stretch": "guide in logit space, stretched images",
    "new-stretch-embedded": "the same, `embedded`",
}
CANDIDATES = {
    "gate": "tokenbook, trained, at the input; 8 x 8 tokens",
    "gate-fine": "the same, 24 x 24 tokens",
    "gate-fixed": "ridge, closed form, at the input; 24 x 24 tokens",
    "new-channels": "ridge, closed form, as further channels alone",
    "new-coarse": "ridge, closed form, in logit space; 8 x 8 tokens",
    "new-unet": "ridge, closed form, in logit space of the U-Net of `own-plain-unet`, ten epochs",
    "new-stretch": "ridge, closed form, in logit space (`own-unet`, stretched images)",
}
WIDE_PX = 560
"""Width of every training image of ultrasound; twelve test images have half of it."""
SHORT = {
    "plain": "no guide (`own-plain-unet`)",
    "gate": "gated (`own-gated-unet`)",
    "random": "gated, random backbone",
    "new": "in logit space (`own-unet`)",
}
SETS = {"kvasir": "polyps", "isic": "skin lesions", "ddti": "thyroid ultrasound", "dsb2018": "nuclei"}
Run = dict[str, Any]


def load(path: Path = RESULTS / "evidence" / "rows.jsonl") -> list[Run]:
    """All runs."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def select(runs: Sequence[Run], data: str, row: str) -> dict[int, Run]:
    """Runs of a row by seed."""
    return {run["seed"]: run for run in runs if (run["data"], run["row"]) == (data, row)}


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of (n,) values."""
    draws = np.random.default_rng(0).integers(len(values), size=(10_000, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def by_case(runs: dict[int, Run], seeds: Sequence[int], cases: Sequence[str]) -> np.ndarray:
    """Dice (n,) of cases, mean over seeds."""
    return np.array([mean(runs[seed]["cases"][case] for seed in seeds) for case in cases])


def dice(runs: dict[int, Run], cases: Sequence[str] | None = None) -> str:
    """Mean Dice and interval."""
    seeds = sorted(runs)
    values = by_case(runs, seeds, cases or sorted(runs[seeds[0]]["cases"]))
    low, high = interval(values)
    return f"{values.mean():.3f} ({low:.3f} .. {high:.3f})"


def difference(runs: dict[int, Run], plain: dict[int, Run], cases: Sequence[str] | None = None) -> str:
    """Mean Dice minus that of the plain network, and interval."""
    seeds = sorted(runs.keys() & plain.keys())
    if not seeds:
        return "-"
    cases = cases or sorted(runs[seeds[0]]["cases"])
    values = by_case(runs, seeds, cases) - by_case(plain, seeds, cases)
    low, high = interval(values)
    return f"{values.mean():+.3f} ({low:+.3f} .. {high:+.3f})"


def few_shot(task: str) -> str:
    """Mean Dice of fewshot with 20 labels over the draws, and their standard deviation."""
    found = [
        run["dice"]
        for run in load(RESULTS / "fewshot" / "rows.jsonl")
        if (run["task"], run["labels"], run["backbone"]) == (task, 20, "guidino-tiny")
    ]
    return f"{mean(found):.3f} ± {stdev(found):.3f}"


def print_main(runs: Sequence[Run]) -> None:
    """Dice of every row on every set."""
    for data, task in SETS.items():
        plain = select(runs, data, "plain")
        print(f"\n**{task}** ({len(next(iter(plain.values()))['cases'])} test cases)\n")
        print("| network | seeds | Dice (95 % interval) | each seed | minus no guide | CPU s of training |")
        print("|---|---:|---|---|---|---:|")
        for row, name in ROWS.items():
            own = select(runs, data, row)
            if own:
                each = " ".join(f"{own[seed]['dice']:.3f}" for seed in sorted(own))
                seconds = mean(run["train_cpu_seconds"] for run in own.values())
                minus = "-" if row == "plain" else difference(own, plain)
                print(f"| {name} | {len(own)} | {dice(own)} | {each} | {minus} | {seconds:.0f} |")
        print(f"| `fewshot`, 20 labels, five draws | - | {few_shot(task)} | - | - | 5 to 10 |")


def print_short(runs: Sequence[Run]) -> None:
    """The table of the README: mean Dice over seeds, followed by their number in brackets if there are several."""
    print(f"\n| test Dice | {' | '.join(SETS.values())} |\n|---|{'---:|' * len(SETS)}")
    for row, name in SHORT.items():
        cells = []
        for data in SETS:
            own = select(runs, data, row)
            count = f" ({len(own)})" if len(own) > 1 else ""
            cells.append(f"{mean(run['dice'] for run in own.values()):.3f}{count}" if own else "-")
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"| `fewshot`, 20 labels | {' | '.join(few_shot(task).split()[0] for task in SETS.values())} |")


def print_candidates(runs: Sequence[Run]) -> None:
    """Dice of seed 0 of each way to use a guide, images stretched."""
    print("\n| guide | polyps | CPU s | ultrasound: all, wide, narrow | CPU s |\n|---|---:|---:|---|---:|")
    for row, name in CANDIDATES.items():
        polyps, ultrasound = (select(runs, data, row).get(0) for data in ("kvasir", "ddti"))
        left = ["-", "-"] if polyps is None else [f"{polyps['dice']:.3f}", f"{polyps['train_cpu_seconds']}"]
        right = ["-", "-"] if ultrasound is None else [by_width({0: ultrasound}), f"{ultrasound['train_cpu_seconds']}"]
        print(f"| {name} | {' | '.join(left + right)} |")


def print_widths(runs: Sequence[Run]) -> None:
    """Ultrasound apart by the width of the images."""
    print("\n| network | seeds | 60 test images | 48 as wide as in training | 12 of half that width |")
    print("|---|---:|---:|---:|---:|")
    for row, name in ROWS.items():
        own = select(runs, "ddti", row)
        if own:
            print(f"| {name} | {len(own)} | {by_width(own).replace(', ', ' | ')} |")


def by_width(own: dict[int, Run]) -> str:
    """Mean Dice of all, the wide and the narrow test images of ultrasound."""
    widths = json.loads((RESULTS / "evidence" / "ultrasound_widths.json").read_text())
    values = {case: mean(run["cases"][case] for run in own.values()) for case in widths}
    wide = [value for case, value in values.items() if widths[case] == WIDE_PX]
    narrow = [value for case, value in values.items() if widths[case] < WIDE_PX]
    return ", ".join(f"{mean(part):.3f}" for part in (list(values.values()), wide, narrow))


def print_archive() -> None:
    """The runs on skin lesions, tested on another folder."""
    cases = json.loads((RESULTS / "evidence" / "isic_archive_51.json").read_text())
    print("\n| 51 skin lesions of another folder | Dice | minus no guide |\n|---|---|---|")
    runs = {row: {0: {"cases": own}} for row, own in cases.items()}
    for row, own in runs.items():
        minus = "-" if row == "plain" else difference(own, runs["plain"])
        print(f"| {ROWS[row]} | {dice(own)} | {minus} |")


def print_times(runs: Sequence[Run]) -> None:
    """CPU seconds until the validation Dice that the network without a guide ends with, of seed 0."""
    print("\n| set | validation Dice | no guide, last epoch | guide gates the input, first epoch with it |")
    print("|---|---:|---:|---:|")
    for data, task in SETS.items():
        plain, gate = (select(runs, data, row).get(0, {}).get("curve", []) for row in ("plain", "gate"))
        if plain and gate:
            seconds, target = plain[-1]
            reached = [f"{when:.0f} s" for when, value in gate if value >= target]
            best = max(value for _, value in gate)
            print(
                f"| {task} | {target:.3f} | {seconds:.0f} s | {reached[0] if reached else f'never (best {best:.3f})'} |"
            )


def print_stains(runs: Sequence[Run]) -> None:
    """Nuclei, apart by stain."""
    stains = json.loads((RESULTS / "evidence" / "stains.json").read_text())
    print("\n| nuclei | cases | no guide | guide gates the input | difference |\n|---|---:|---|---|---|")
    plain, gate = select(runs, "dsb2018", "plain"), select(runs, "dsb2018", "gate")
    for name in ("grey", "coloured"):
        cases = sorted(case for case in plain[0]["cases"] if stains[case] == name)
        print(
            f"| {name} | {len(cases)} | {dice(plain, cases)} | {dice(gate, cases)} | {difference(gate, plain, cases)} |"
        )


def print_few(runs: Sequence[Run]) -> None:
    """Networks trained on 20 images beside fewshot with the same ones."""
    print("\n| task, draw | own-plain-unet | own-gated-unet | own-unet | fewshot, guidino-tiny | fewshot, embedded |")
    print("|---|---:|---:|---:|---:|---:|")
    known = load(RESULTS / "fewshot" / "rows.jsonl")
    for data, task in SETS.items():
        for draw in (0, 1):
            own = [select(runs, f"{data}-k20-d{draw}", row).get(0) for row in ("few-plain", "few-gate", "few-new")]
            if any(own):
                cells = ["-" if run is None else f"{run['dice_112']:.3f}" for run in own]
                key = (task, 20, draw)
                other = {r["backbone"]: r["dice"] for r in known if (r["task"], r["labels"], r["draw"]) == key}
                cells += [f"{other[name]:.3f}" for name in ("guidino-tiny", "embedded")]
                print(f"| {task}, {draw} | {' | '.join(cells)} |")


def main() -> None:
    """Print all tables."""
    runs = load()
    print_short(runs)
    print_main(runs)
    print_widths(runs)
    print_candidates(runs)
    print_archive()
    print_times(runs)
    print_stains(runs)
    print_few(runs)
    hours = sum(run.get("cpu_seconds", run["train_cpu_seconds"] + run["predict_cpu_seconds"]) for run in runs) / 3600
    print(f"\n{len(runs)} runs, {hours:.2f} CPU hours")


if __name__ == "__main__":
    main()
