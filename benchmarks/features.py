"""Speed-up of training a head when the features of a frozen backbone are cached: ratios in JSON per network.

    python benchmarks/features.py [--networks light2d segdino] [--size 224] [--batch 4] [--rounds 3] [--device cpu]

A step is forward pass, loss, backward pass, clipping and AdamW, on a batch that was shown before. The variants are: the
backbone in every step, its features cached in memory and in files (`train.dense_cache`), and the head alone. They
alternate; seconds are medians over rounds, CPU time (`time.process_time`) on a CPU and wall time on a GPU. The backbone
is a ViT-S/16 with random weights, because the values do not affect the time. `difference` is the effect of half
precision: relative for the loss, and the length of the difference over the length for all gradients.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from guidino_cli.config import ComponentSettings, GuideSettings, ModelSettings
from guidino_cli.engine.feature_cache.cache import MemoryCache
from guidino_cli.engine.feature_cache.disk import cached_bytes, open_disk_cache
from guidino_cli.engine.training.loss import SegmentationLoss
from guidino_cli.engine.training.optim import make_optimizer
from guidino_cli.models import build_model
from guidino_cli.models.composed import GetOrCompute, Model

NETWORKS = ["light2d", "segdino", "seg-guidino", "dino-unet"]
WEIGHTS = {"dice": 1.0, "cross_entropy": 1.0}
EVERY_STEP, MEMORY, DISK, HEAD = "backbone in every step", "kept in memory", "kept in files", "head alone"

Step = Callable[[], None]


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    for name in arguments.networks:
        with tempfile.TemporaryDirectory() as folder:
            row = measure(name, Path(folder), arguments, device)
        print(json.dumps({"network": name, "size": arguments.size, "batch": arguments.batch, **row}), flush=True)


def measure(name: str, folder: Path, arguments: argparse.Namespace, device: torch.device) -> dict[str, object]:
    """Measure one network."""
    torch.manual_seed(0)
    model = _model(name).to(device)
    image = torch.rand(arguments.batch, 3, arguments.size, arguments.size)
    mask = (image.mean(dim=1) > 0.5).long().to(device)
    recalls = _recalls(model, image, folder, device)
    difference = _difference(model, image.to(device), mask, recalls[DISK])
    steps = {form: _step(model, image, mask, recall) for form, recall in recalls.items()}
    seconds: dict[str, list[float]] = {form: [] for form in steps}
    for number in range(arguments.rounds + 1):
        for form, step in steps.items():
            began = _now(device)
            step()
            # The first round warms up.
            if number:
                seconds[form].append(_now(device) - began)
    medians = {form: statistics.median(values) for form, values in seconds.items()}
    return {
        "seconds": {form: round(value, 4) for form, value in medians.items()},
        "quicker": {form: round(medians[EVERY_STEP] / value, 2) for form, value in medians.items()},
        "over_head_alone": {form: round(value / medians[HEAD], 2) for form, value in medians.items()},
        "bytes_an_image": cached_bytes(folder) // arguments.batch,
        "difference": difference,
    }


def _model(name: str) -> Model:
    layers = [3, 6, 9, 12] if name in {"segdino", "dino-unet"} else [12]
    guide = GuideSettings(at="bottleneck") if name == "seg-guidino" else None
    return build_model(
        ModelSettings(ComponentSettings(name), ComponentSettings("random", {"layers": layers}), guide=guide),
        num_classes=2,
    )


def _recalls(model: Model, image: Tensor, folder: Path, device: torch.device) -> dict[str, GetOrCompute | None]:
    """The feature source of each variant, with its cache already filled."""
    backbone, keys = model.backbone, list(range(len(image)))
    memory, disk = MemoryCache(8), open_disk_cache(backbone, root=folder, gigabytes=8, device=device)
    if backbone is None or disk is None:
        raise ValueError("the model has no frozen backbone")
    with torch.no_grad():
        ready = backbone(image.to(device))
        for cache in (memory, disk):
            cache.get_or_compute(keys, lambda: ready, pixels=image)
    return {
        EVERY_STEP: None,
        MEMORY: lambda compute: memory.get_or_compute(keys, compute, pixels=image),
        DISK: lambda compute: disk.get_or_compute(keys, compute, pixels=image),
        HEAD: lambda compute: ready,
    }


def _step(model: Model, image: Tensor, mask: Tensor, recall: GetOrCompute | None) -> Step:
    optimizer = make_optimizer(model, name="adamw", lr=1e-4, weight_decay=1e-4)
    objective = SegmentationLoss(WEIGHTS, has_guide=model.guide is not None)

    def step() -> None:
        model.train()
        loss = objective(model(image.to(mask.device), get_or_compute=recall), mask)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 12)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _difference(model: Model, image: Tensor, mask: Tensor, recall: GetOrCompute | None) -> dict[str, float]:
    """Differences of loss and gradients between cached and newly computed features; without random parts."""
    objective, losses, gradients = SegmentationLoss(WEIGHTS, has_guide=model.guide is not None), [], []
    model.eval()
    for way in (None, recall):
        loss = objective(model(image, get_or_compute=way), mask)["loss"]
        loss.backward()
        losses.append(loss.item())
        gradients.append(torch.cat([item.grad.flatten() for item in model.parameters() if item.grad is not None]))
        model.zero_grad()
    fresh, kept = gradients
    apart = ((kept - fresh).norm() / fresh.norm()).item()
    return {"loss": float(f"{abs(losses[1] / losses[0] - 1):.1e}"), "gradients": float(f"{apart:.1e}")}


def _now(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    main()
