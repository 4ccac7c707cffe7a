"""Compare guides: train small networks with one setting changed at a time, and score them.

    python benchmarks/guide.py subset DATA SMALL [--train 240 --val 20 --test 100]
    python benchmarks/guide.py run QUEUE OUT
    python benchmarks/guide.py heads SMALL OUT
    python benchmarks/guide.py table OUT
    python benchmarks/guide.py show ROW

DATA is a folder made by `guidino prepare`; SMALL holds a part of its cases. QUEUE is a text file with one run per line,
"SMALL ROW SEED", read again before every run; ROW is made of `WORDS`, such as input-mean-w1. `run` does what `guidino
train`, `predict` and `evaluate` do with the settings that `show` prints, to the bit, but in one process and without
their figures. A run that OUT/rows.jsonl already holds, or that another process has claimed, is skipped: several
processes may share a queue. After an interruption, delete OUT/claims. `heads` trains TokenBooks alone, in
seconds.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import shlex
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np

from guidino_cli.files import write_atomically

COMMON = [
    "model.segmenter.options.width=8",
    "data.image_size=112",
    "train.epochs=10",
    "train.batch_size=8",
    "train.lr=2e-3",
    "train.warmup_epochs=1",
    # The last epoch is tested: no epoch is selected on a few validation cases.
    "train.validate_every=1000",
    "predict.mirror=false",
]
_EMBEDDED = ["model.backbone.name=embedded", "model.backbone.options={layers: [8]}"]
_RANDOM = ["model.backbone.name=random", "model.backbone.options={depth: 8}"]
_SOFTMAX = ["model.guide.options.aggregate=softmax", "model.guide.options.prototypes=32"]
_LSE = ["model.guide.options.aggregate=logsumexp", "model.guide.options.prototypes=32"]
_ALPHA = ["model.guide.options.learned_weights=true"]
# A row's name is made of these words, joined by "-".
WORDS: dict[str, list[str]] = {
    "plain": [],
    "input": ["model.guide.at=input"],
    "bottleneck": ["model.guide.at=bottleneck"],
    "features": ["model.guide.at=features"],
    "res": ["model.guide.residual=true"],
    "mean": [],
    "alpha": _ALPHA,
    "softmax": _SOFTMAX,
    "lse": _LSE,
    "random": _RANDOM,
    "w0": ["train.loss.guide=0"],
    "w1": ["train.loss.guide=1"],
    "lora": ["model.lora={targets: [q_proj, k_proj, v_proj, o_proj]}"],
    "x4": ["train.epochs=40"],
    "lr1": ["train.lr=1e-3"],
}
QUESTIONS = {
    "Does it help?": ["plain", "input-mean", "input-mean-w1", "input-random"],
    "What should it gate, and how heavy should its loss be?": [
        *("input-mean", "input-mean-w0", "input-mean-w1", "bottleneck-mean", "features-mean", "features-res-mean"),
    ],
    "How should tokens become a guide?": ["input-mean", "input-softmax", "input-lse"],
    "Is it the learning rate?": ["plain", "plain-lr1", "input-mean"],
    "Does LoRA help?": ["input-mean", "input-mean-lora"],
}
METRICS = ("dice", "iou", "hd95")


def settings(row: str) -> tuple[str, list[str]]:
    """The preset that a row starts from, and its settings."""
    own = [setting for word in row.split("-") for setting in WORDS[word]]
    if row.startswith("plain"):
        return "kvasir-plain-unet", [*COMMON, *own]
    return "kvasir-unet", [*COMMON, *_EMBEDDED, *own]


def command(row: str, data: str, run: str, seed: int) -> str:
    """The `guidino train` command that a row stands for."""
    preset, own = settings(row)
    words = ["guidino", "train", "--preset", preset, "--data", data, "-o", run, "--seed", str(seed)]
    return shlex.join([*words, *(word for setting in own for word in ("--set", setting))])


def subset(data: Path, small: Path, counts: dict[str, int]) -> None:
    """Write a prepared folder with up to so many cases of every split, evenly spread over the sorted ids."""
    from guidino_cli.data.manifest import Manifest, load_manifest, save_manifest

    whole = load_manifest(data)
    cases = [case for split, count in counts.items() for case in _spread(whole.select(split), count)]
    note = {"subset_of": whole.source, "cases_a_split": counts}
    save_manifest(Manifest(whole.name, whole.classes, sorted(cases, key=lambda case: case.id), note), small)


def _spread(items: list[Any], count: int) -> list[Any]:
    return items if len(items) <= count else [items[i * len(items) // count] for i in range(count)]


def work(
    queue: Path, out: Path, measure_run: Callable[[Path, str, int, Path], dict[str, Any]], shown: Sequence[str]
) -> None:
    """Work through the queue: measure every run, append a line to OUT/rows.jsonl and print the values to be shown."""
    while (job := claim(queue, out)) is not None:
        data, row, seed = job
        line = measure_run(Path(data), row, int(seed), out / name_of(job))
        with (out / "rows.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(f"{name_of(job)}: {', '.join(f'{name} {line[name]}' for name in shown)}", flush=True)


def claim(queue: Path, out: Path) -> tuple[str, str, str] | None:
    """The first run of the queue that is neither finished nor claimed; a claim is a folder made by one process only."""
    done = {(row["data"], row["row"], str(row["seed"])) for row in rows_of(out)}
    for line in queue.read_text().splitlines():
        words = line.partition("#")[0].split()
        if len(words) != 3 or (Path(words[0]).name, words[1], words[2]) in done:
            continue
        job = (words[0], words[1], words[2])
        with contextlib.suppress(FileExistsError):
            (out / "claims" / f"{name_of(job)}").mkdir(parents=True)
            return job
    return None


def name_of(job: tuple[str, str, str]) -> str:
    """Folder of a run."""
    return f"{Path(job[0]).name}-{job[1]}-s{job[2]}"


def measure(data: Path, row: str, seed: int, run: Path) -> dict[str, Any]:
    """Train, predict and evaluate one run; everything the tables need."""
    import torch

    preset, own = settings(row)
    started, cpu = time.perf_counter(), time.process_time()
    load = os.getloadavg()[0]
    parameters = train(preset, [*own, f"seed={seed}"], data, run)
    trained, trained_cpu = time.perf_counter() - started, time.process_time() - cpu
    guide = predict(run, data)
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    facts = json.loads((run / "run.json").read_text())
    shutil.rmtree(run / "last")
    return {
        "data": data.name,
        "row": row,
        "seed": seed,
        **evaluate(run / "masks", data),
        **guide,
        "val_dice": round(history[-1]["val_dice"], 4),
        "loss": round(history[-1]["loss"], 4),
        "parameters": parameters,
        "train_seconds": round(trained),
        "train_cpu_seconds": round(trained_cpu),
        "cpu_seconds": round(time.process_time() - cpu),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "commit": facts["git"],
        "torch": torch.__version__,
    }


def train(preset: str, overrides: list[str], data: Path, run: Path) -> list[int]:
    """Do what `guidino train` does, without figures; return trained and all parameters."""
    from accelerate.utils import set_seed

    from guidino_cli.config import load_preset
    from guidino_cli.data.manifest import load_manifest
    from guidino_cli.engine.runs.folder import RunFolder, run_facts, with_data_root
    from guidino_cli.engine.training.length import with_enough_epochs
    from guidino_cli.engine.training.trainer import Trainer
    from guidino_cli.models import build_model

    config = with_data_root(load_preset(preset, overrides), data.resolve())
    manifest = load_manifest(data)
    set_seed(config.seed)
    model = build_model(config.model, num_classes=len(manifest.classes), offline=True)
    remember_features(model, config.model, run.parent / "features")
    folder = RunFolder(run)
    training, validation = manifest.select("train"), manifest.select("val")
    config = with_enough_epochs(config, images=len(training), processes=1)
    count = len(manifest.classes)
    trainer = Trainer(model, config, folder, num_classes=count, training=training, validation=validation, device="cpu")
    facts = run_facts(model, classes=manifest.classes, data=data)
    folder.create(config, facts)
    with contextlib.redirect_stderr(io.StringIO()):
        trainer.fit(after_guide=folder.add_facts)
    return list(facts["parameters"])


def predict(run: Path, data: Path) -> dict[str, Any]:
    """Do what `guidino predict` does, and score the guide alone on the same images."""
    from guidino_cli.data.cases import read_label_map
    from guidino_cli.data.image_writing import write_label_map
    from guidino_cli.data.manifest import load_manifest
    from guidino_cli.engine.prediction.predictor import Predictor
    from guidino_cli.engine.runs.loading import load_run

    model, config, _ = load_run(run, offline=True)
    remember_features(model, config.model, run.parent / "features")
    predictor = Predictor.from_config(model, config)
    guides, truths = [], []
    for case in load_manifest(data).select("test"):
        result = predictor.segment_file(case.image)
        write_label_map(run / "masks" / f"{case.id}.png", result.labels)
        if result.guide is not None and case.mask is not None:
            guides.append(_thinned(result.guide[0].numpy()))
            truths.append(_thinned(read_label_map(case.mask) > 0))
    if not guides:
        return {"guide_auroc": None, "guide_dice": None, "guide_range": None}
    values = np.concatenate([guide.ravel() for guide in guides])
    dices = [_dice(guide > 0.5, truth) for guide, truth in zip(guides, truths, strict=True)]
    return {
        "guide_auroc": round(auroc(values, np.concatenate([truth.ravel() for truth in truths])), 4),
        "guide_dice": round(mean(dices), 4),
        "guide_range": [round(float(value), 3) for value in np.quantile(values, (0.01, 0.5, 0.99))],
    }


def remember_features(model: Any, settings: Any, folder: Path) -> None:
    """Cache the features of a frozen backbone for all runs.

    Exact: what a batch holds after augmentation depends on the data, the seed, the epoch and the case only, so runs
    with the same seed show a frozen backbone the same pixels, and the key is a hash of these.
    """
    import torch

    backbone = model.backbone
    if backbone is None or settings.lora is not None:
        return
    look = backbone.forward
    options = hashlib.sha256(repr(settings.backbone).encode()).hexdigest()
    place = folder / f"{settings.backbone.name}-{backbone.identity['sha256'][:12]}-{options[:12]}"

    def forward(image: Any) -> list[Any]:
        path = place / f"{hashlib.sha256(image.contiguous().numpy()).hexdigest()}.pt"
        if not path.is_file():
            (dense,) = look(image)
            # Strides are kept: with others, sums would be rounded in another order.
            write_atomically(path, lambda part: torch.save(dense, part))
        return [torch.load(path)]

    backbone.forward = forward


def _thinned(pixels: np.ndarray) -> np.ndarray:
    """Every k-th pixel, so that every image counts with about 100 x 100 of them."""
    step = max(1, min(pixels.shape) // 100)
    return pixels[step // 2 :: step, step // 2 :: step]


def _dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    both = int(prediction.sum()) + int(truth.sum())
    return 2 * int((prediction & truth).sum()) / both if both else 1.0


def auroc(values: np.ndarray, truth: np.ndarray) -> float:
    """AUROC: probability that a foreground pixel has a larger value than a background pixel; ties count half."""
    from scipy.stats import rankdata

    ranks = rankdata(values)
    count = int(truth.sum())
    return float((ranks[truth].sum() - count * (count + 1) / 2) / (count * (truth.size - count)))


def evaluate(masks: Path, data: Path) -> dict[str, Any]:
    """`guidino evaluate MASKS DATA --json`, the means and every case's Dice."""
    from guidino_cli.commands import evaluate as command
    from guidino_cli.options.evaluation import EvaluateOptions

    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(io.StringIO()):
        command.run(masks, data, EvaluateOptions(as_json=True, workers=1))
    report = json.loads(text.getvalue())
    score = {item["metric"]: item["mean"] for item in report["summary"]}
    return {**{name: round(score[name], 4) for name in METRICS}, "cases": _case_dices(report)}


def _case_dices(report: dict[str, Any]) -> dict[str, float]:
    return {case["case"]: round(case["scores"][0]["dice"], 4) for case in report["cases"]}


def rows_of(out: Path) -> list[dict[str, Any]]:
    """All finished runs."""
    path = out / "rows.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


HEADS: dict[str, tuple[list[str], list[str]]] = {
    "mean (faithful)": (_EMBEDDED, []),
    "mean, learned alpha": (_EMBEDDED, _ALPHA),
    "softmax, 32 prototypes": (_EMBEDDED, _SOFTMAX),
    "log-sum-exp, 32 prototypes": (_EMBEDDED, _LSE),
    "random backbone, mean": (_RANDOM, []),
    "random backbone, log-sum-exp": (_RANDOM, _LSE),
}


def heads(data: Path, out: Path, seeds: Iterable[int]) -> None:
    """Train TokenBooks alone, by the guide's loss on the unaugmented images, and score them on the test images."""
    path = out / "heads.jsonl"
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    known = {(line["data"], line["head"]) for line in done}
    for name, (backbone, own) in HEADS.items():
        if (data.name, name) in known:
            continue
        maps = {split: _maps_and_masks(data, split, backbone, out) for split in ("train", "test")}
        for seed in seeds:
            line = {"data": data.name, "head": name, "seed": seed, **_head(own, seed, maps["train"], maps["test"])}
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)


def _maps_and_masks(data: Path, split: str, backbone: list[str], out: Path) -> tuple[Any, Any]:
    """Dense maps (N, D, h, w) and masks (N, H, W) of a split, kept in `out`."""
    import torch

    from guidino_cli.config import load_preset
    from guidino_cli.data.cases import read_label_map
    from guidino_cli.data.images import read_image
    from guidino_cli.data.manifest import load_manifest
    from guidino_cli.data.preprocess import resize_image, resize_labels, to_tensor
    from guidino_cli.models import build_backbone

    path = out / "maps" / f"{data.name}-{split}-{hashlib.sha256(repr(backbone).encode()).hexdigest()[:12]}.pt"
    if not path.is_file():
        part = load_preset("kvasir-unet", [*COMMON, *backbone]).model.backbone
        assert part is not None
        dino = build_backbone(part.name, part.options, offline=True)
        size = (112, 112)
        cases = load_manifest(data).select(split)
        images = [to_tensor(resize_image(read_image(case.image)[0], size)) for case in cases]
        masks = [resize_labels(read_label_map(case.mask), size) > 0 for case in cases if case.mask is not None]
        with torch.inference_mode():
            maps = torch.cat([dino(torch.stack(images[i : i + 8]))[-1] for i in range(0, len(images), 8)])
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save((maps, torch.from_numpy(np.stack(masks)).long()), path)
    maps, masks = torch.load(path)
    return maps, masks


def _head(own: list[str], seed: int, train: tuple[Any, Any], test: tuple[Any, Any], epochs: int = 10) -> dict[str, Any]:
    """AUROC, Dice at 0.5 and cross-entropy of one TokenBook on the test images."""
    import torch
    import torch.nn.functional as F

    from guidino_cli.config import load_preset
    from guidino_cli.data.dataset import random_generator
    from guidino_cli.engine.training.loss import guide_target
    from guidino_cli.engine.training.optim import make_optimizer, make_scheduler
    from guidino_cli.losses import guide_cross_entropy
    from guidino_cli.models.guides import TokenBook

    settings = load_preset("kvasir-unet", [*COMMON, *own]).model.guide
    assert settings is not None
    torch.manual_seed(seed)
    guide = TokenBook(channels=train[0].shape[1], **settings.options)
    optimizer = make_optimizer(guide, name="adamw", lr=2e-3, weight_decay=1e-4)
    steps = len(train[0]) // 8
    schedule = make_scheduler(optimizer, name="poly", steps=epochs * steps, warmup_steps=steps)
    for epoch in range(epochs):
        order = torch.from_numpy(random_generator(seed, epoch).permutation(len(train[0])))
        for step in range(steps):
            chosen = order[8 * step : 8 * step + 8]
            prediction = guide(train[0][chosen])
            loss = guide_cross_entropy(prediction, guide_target(train[1][chosen], prediction))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        prediction = guide(test[0])
        entropy = float(guide_cross_entropy(prediction, guide_target(test[1], prediction)))
        pixels = F.interpolate(prediction, size=test[1].shape[-2:], mode="bilinear", align_corners=False)[:, 0].numpy()
    truth = test[1].numpy() > 0
    return {
        "auroc": round(auroc(pixels.ravel(), truth.ravel()), 4),
        "dice": round(mean(_dice(p > 0.5, t) for p, t in zip(pixels, truth, strict=True)), 4),
        "cross_entropy": round(entropy, 4),
    }


def tables(out: Path) -> str:
    """The table of every question, for every data set with at least three of its rows, or all."""
    runs: dict[tuple[str, str], dict[int, dict[str, Any]]] = defaultdict(dict)
    for run in rows_of(out):
        runs[run["data"], run["row"]][run["seed"]] = run
    texts = []
    for question, names in QUESTIONS.items():
        for data in dict.fromkeys(data for data, _ in runs):
            found = [name for name in names if (data, name) in runs]
            if len(found) > min(2, len(names) - 1):
                lines = [_line(name, runs[data, name], runs[data, found[0]]) for name in found]
                texts.append(f"**{question}: {data}**\n\n{_markdown(lines)}")
    return "\n\n".join([*texts, *_head_tables(out)])


def _head_tables(out: Path) -> Iterable[str]:
    """TokenBooks alone, one table per data set."""
    path = out / "heads.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    for data in dict.fromkeys(line["data"] for line in lines):
        rows = []
        for head in dict.fromkeys(line["head"] for line in lines):
            same = [line for line in lines if (line["data"], line["head"]) == (data, head)]
            scores = {name: _spread_of([line[name] for line in same]) for name in ("auroc", "dice", "cross_entropy")}
            rows.append({"head": head, "seeds": str(len(same)), **scores})
        yield f"**The guide alone: {data}**\n\n{_markdown(rows)}"


def _line(name: str, seeds: dict[int, dict[str, Any]], reference: dict[int, dict[str, Any]]) -> dict[str, str]:
    """One row of a table, means over seeds."""
    runs = [seeds[seed] for seed in sorted(seeds)]
    guided = runs[0]["guide_auroc"] is not None
    return {
        "row": name,
        "seeds": str(len(runs)),
        "Dice": _spread_of([run["dice"] for run in runs]),
        "each seed": " ".join(f"{run['dice']:.3f}" for run in runs),
        "IoU": f"{mean(run['iou'] for run in runs):.3f}",
        "HD95 px": f"{mean(run['hd95'] for run in runs):.0f}",
        "guide AUROC": f"{mean(run['guide_auroc'] for run in runs):.3f}" if guided else "-",
        "guide Dice": f"{mean(run['guide_dice'] for run in runs):.3f}" if guided else "-",
        "Dice minus the first row's": "-" if seeds is reference else _paired(seeds, reference),
    }


def _spread_of(values: list[float]) -> str:
    return f"{mean(values):.3f}" + (f" +- {stdev(values):.3f}" if len(values) > 1 else "")


def _paired(seeds: dict[int, dict[str, Any]], reference: dict[int, dict[str, Any]]) -> str:
    """Mean difference over cases, 95 % bootstrap over cases, of the seeds that both have."""
    common = sorted(seeds.keys() & reference.keys())
    if not common:
        return "no common seed"
    cases = sorted(seeds[common[0]]["cases"])
    table = np.array([[seeds[s]["cases"][c] - reference[s]["cases"][c] for c in cases] for s in common])
    difference = table.mean(axis=0)
    draws = np.random.default_rng(0).integers(len(cases), size=(10_000, len(cases)))
    low, high = np.quantile(difference[draws].mean(axis=1), (0.025, 0.975))
    each = " ".join(f"{value:+.3f}" for value in table.mean(axis=1)) if len(common) > 1 else ""
    return f"{difference.mean():+.3f} ({low:+.3f} .. {high:+.3f})" + (f" [{each}]" if each else "")


def _markdown(rows: list[dict[str, str]]) -> str:
    names = list(rows[0])
    lines = [names, ["---"] * len(names), *([row[name] for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    part = verbs.add_parser("subset")
    part.add_argument("data", type=Path)
    part.add_argument("small", type=Path)
    for split, count in (("train", 240), ("val", 20), ("test", 100)):
        part.add_argument(f"--{split}", type=int, default=count)
    job = verbs.add_parser("run")
    job.add_argument("queue", type=Path)
    job.add_argument("out", type=Path)
    shown = verbs.add_parser("show")
    shown.add_argument("row")
    alone = verbs.add_parser("heads")
    alone.add_argument("data", type=Path)
    alone.add_argument("out", type=Path)
    verbs.add_parser("table").add_argument("out", type=Path)
    options = parser.parse_args()
    if options.verb == "subset":
        subset(options.data, options.small, {name: getattr(options, name) for name in ("train", "val", "test")})
    elif options.verb == "run":
        work(options.queue, options.out, measure, ("dice", "guide_auroc", "cpu_seconds"))
    elif options.verb == "heads":
        heads(options.data, options.out, range(3))
    elif options.verb == "table":
        print(tables(options.out))
    else:
        print(command(options.row, "SMALL", "RUN", 0))


if __name__ == "__main__":
    main()
