"""Speed-up of training by each optimization: configurations alternating in one run, as ratios in JSON.

    python benchmarks/train.py [--networks unet nnwnet guidino-w] [--size 256] [--batch 4] [--rounds 3] [--threads 1]

A step is loading, augmentation (nnU-Net's set), forward pass, backward pass, clipping and AdamW. "straightforward"
decodes and resizes every image every time, augments one image at a time with numpy and SciPy, runs all blocks of a
ViT-S/16 (random weights) under `no_grad`, compares every token with every prototype, makes the targets of every level
once per loss term, and updates weights one by one, in float32. The others are guidino's, with and without each part.

`difference` compares each form with the first, for the same weights and the same batch without augmentation: relative
for the loss, and the length of the difference over the length for all gradients. It also warms up, and fills the image
cache as a first epoch does. Seconds are medians over rounds. `peak_mb` is the additional memory of a step.
"""

import argparse
import ctypes
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import ndimage
from torch import Tensor
from torch.optim import AdamW

from guidino_cli.config import ComponentSettings, GuideSettings, ModelSettings
from guidino_cli.data.augment import AugmentationParams, augment_batch, draw_augmentation
from guidino_cli.data.dataset import SegmentationDataset, random_generator
from guidino_cli.engine.training.loss import SegmentationLoss, guide_target
from guidino_cli.engine.training.optim import make_optimizer
from guidino_cli.engine.training.step import to_channels_last
from guidino_cli.models import build_model
from guidino_cli.models.composed import Model
from guidino_cli.models.guides import TokenBook
from guidino_cli.types import Case, Prediction, Sample

_PHOTO_HW = (529, 622)
_WEIGHTS = {"dice": 1.0, "cross_entropy": 1.0}


@dataclass(frozen=True)
class Form:
    """The optimizations of a configuration."""

    cached_images: bool = True
    batched_augmentation: bool = True
    one_vector_tokenbook: bool = True
    targets_once: bool = True
    fused_adamw: bool = True
    channels_last: bool = False
    bf16: bool = False


STRAIGHT = Form(False, False, False, False, False)
FORMS = {
    "straightforward": STRAIGHT,
    "ours": Form(),
    "ours, images decoded each time": replace(Form(), cached_images=False),
    "ours, augmented one by one": replace(Form(), batched_augmentation=False),
    "ours, tokens against all prototypes": replace(Form(), one_vector_tokenbook=False),
    "ours, targets for each term": replace(Form(), targets_once=False),
    "ours, AdamW one by one": replace(Form(), fused_adamw=False),
    "ours, channels_last": replace(Form(), channels_last=True),
    "ours, channels_last and bf16": replace(Form(), channels_last=True, bf16=True),
}


def main() -> None:
    """Measure and print one JSON object per network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["unet", "nnwnet", "guidino-w"])
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=list(FORMS))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    facts = {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability(), **vars(options)}
    with tempfile.TemporaryDirectory() as folder:
        cases = make_cases(Path(folder), 2 * options.batch)
        for network in options.networks:
            forms = {name: form for name, form in FORMS.items() if name in options.forms}
            if network != "guidino-w":
                forms.pop("ours, tokens against all prototypes", None)
            runs = {name: Run(network, form, cases, options.size) for name, form in forms.items()}
            results = measure(runs, batch=options.batch, rounds=options.rounds)
            print(json.dumps({**facts, "networks": network, "forms": results}, indent=1), flush=True)


def measure(runs: dict[str, "Run"], *, batch: int, rounds: int) -> dict[str, dict[str, float]]:
    """Alternate the configurations in every round, so that a slow minute of the machine affects all of them."""
    differences = compare(runs, list(range(batch)))
    times: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
    for number in range(rounds):
        # Each pair of rounds is an epoch of two batches.
        turns = [(number // 2, index + batch * (number % 2)) for index in range(batch)]
        for name, run in runs.items():
            times[name].append(timed(lambda run=run, turns=turns: run.step(turns)))
    medians = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in times.items()
    }
    first = next(iter(medians.values()))
    return {
        name: {
            **{key: round(value, 3) for key, value in row.items()},
            "images_per_cpu_s": round(batch / row["cpu_s"], 3),
            "times_as_fast": round(first["cpu_s"] / row["cpu_s"], 2),
            **differences[name],
        }
        for name, row in medians.items()
    }


def timed(step: Callable[[], dict[str, float]]) -> dict[str, float]:
    """CPU and wall seconds of a step, `data_cpu_s` of them before the network, and its memory in 10^6 bytes."""
    before = reset_peak()
    cpu, wall = time.process_time(), time.perf_counter()
    row = step()
    return {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        **row,
        "peak_mb": peak() - before,
    }


def reset_peak() -> float:
    """Reset the peak memory (Linux with glibc); return the current memory in 10^6 bytes."""
    # Otherwise memory freed by one form would serve the next, which would seem to need none.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> float:
    """Peak memory since `reset_peak`, in 10^6 bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def compare(runs: dict[str, "Run"], indices: Sequence[int]) -> dict[str, dict[str, float]]:
    """Loss and gradients of one batch without augmentation, against those of the first run."""
    expected: tuple[float, Tensor] | None = None
    result = {}
    for name, run in runs.items():
        batch = run.load([(0, index) for index in indices])
        loss = run.backward(batch.image, batch.mask)
        gradient = torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None])
        run.optimizer.zero_grad()
        # Fills the image cache, as the first epoch does.
        run.load([(0, index + len(indices)) for index in indices])
        expected = expected or (loss, gradient)
        result[name] = {
            "loss_difference": abs(loss - expected[0]) / expected[0],
            "gradient_difference": float((gradient - expected[1]).norm() / expected[1].norm()),
        }
    return result


class Run:
    """Train one network in one form, from the same weights as all others."""

    def __init__(self, network: str, form: Form, cases: Sequence[Case], size: int) -> None:
        self.form = form
        torch.manual_seed(0)
        self.model = build(network)
        if not form.one_vector_tokenbook and self.model.guide is not None:
            self.model.guide.__class__ = AllPrototypes
        if form.channels_last:
            to_channels_last(self.model.segmenter)
        self.model.train()
        is_guided = self.model.guide is not None
        self.weights = {**_WEIGHTS, **({"guide": 0.1} if is_guided else {})}
        self.objective = SegmentationLoss(self.weights, has_guide=is_guided)
        self.optimizer = make_optimizer(self.model, name="adamw", lr=1e-4, weight_decay=1e-4)
        if not form.fused_adamw:
            groups = [{k: g[k] for k in ("params", "weight_decay")} for g in self.optimizer.param_groups]
            self.optimizer = AdamW(groups, lr=1e-4, foreach=False, fused=False)
        self.dataset = SegmentationDataset(
            cases,
            num_classes=2,
            image_size=size,
            resize="stretch",
            foreground_crops=0.33,
            cache_gb=2.0 if form.cached_images else 0.0,
            seed=0,
        )

    def load(self, turns: Sequence[tuple[int, int]]) -> Sample:
        """Load a batch from the data set."""
        return Sample(*map(torch.stack, zip(*(self.dataset[turn] for turn in turns), strict=True)))

    def step(self, turns: Sequence[tuple[int, int]]) -> dict[str, float]:
        """Load and augment a batch, and take one training step."""
        began = time.process_time()
        batch = self.load(turns)
        draws = [draw_augmentation("nnunet", random_generator(0, epoch, index, 1)) for epoch, index in turns]
        change = augment_batch if self.form.batched_augmentation else apply_one_by_one
        image, mask = change(batch.image, batch.mask, draws)
        seconds = time.process_time() - began
        self.backward(image, mask)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 12.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"data_cpu_s": seconds}

    def backward(self, image: Tensor, mask: Tensor) -> float:
        """Compute the gradients of a batch and return its loss."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.form.bf16):
            prediction = self.model(image)
        prediction = prediction._replace(logits=[logits.float() for logits in prediction.logits])
        objective = self._objective if self.form.targets_once else self._term_by_term
        loss = objective(prediction, mask)
        loss.backward()
        return loss.item()

    def _objective(self, prediction: Prediction, mask: Tensor) -> Tensor:
        return self.objective(prediction, mask)["loss"]

    def _term_by_term(self, prediction: Prediction, mask: Tensor) -> Tensor:
        total = torch.zeros(())
        shares = [0.5**level for level in range(len(prediction.logits))]
        for term in (one_hot_dice, F.cross_entropy):
            for share, logits in zip(shares, prediction.logits, strict=True):
                small = F.interpolate(mask[:, None].float(), size=logits.shape[-2:], mode="nearest-exact")[:, 0].long()
                total = total + share / sum(shares) * term(logits, small)
        for weight, term in self.objective.guide_terms.values():
            if prediction.guide is not None:
                total = total + weight * term(prediction.guide, guide_target(mask, prediction.guide))
        return total


def build(network: str) -> Model:
    """Build a network by its name in this script."""
    if network != "guidino-w":
        return build_model(ModelSettings(ComponentSettings(network)), num_classes=2)
    guide = GuideSettings(at="input", options={"prototypes": 256, "aggregate": "mean"})
    return build_model(
        ModelSettings(ComponentSettings("nnwnet"), ComponentSettings("random"), guide=guide), num_classes=2
    )


class AllPrototypes(TokenBook):
    """The TokenBook as in its equation: every token compared with every prototype, then the mean."""

    def _mean(self, tokens: Tensor, book: Tensor, scale: float) -> Tensor:
        similarity = torch.einsum("bdhw,gnd->bgnhw", tokens, book) * scale
        return (0.5 + 0.5 * (similarity * self.weights.softmax(dim=1)[None, :, :, None, None]).sum(dim=2)).clamp(0, 1)


def one_hot_dice(logits: Tensor, mask: Tensor) -> Tensor:
    """Soft Dice with one-hot truths."""
    probabilities = logits.softmax(dim=1)[:, 1:]
    truth = F.one_hot(mask, logits.shape[1]).movedim(-1, 1)[:, 1:].float()
    overlap, total = (probabilities * truth).sum((0, 2, 3)), (probabilities.sum((0, 2, 3)) + truth.sum((0, 2, 3)))
    return 1 - ((2 * overlap + 1e-5) / (total + 1e-5)).mean()


def apply_one_by_one(image: Tensor, mask: Tensor, draws: Sequence[AugmentationParams]) -> tuple[Tensor, Tensor]:
    """nnU-Net's augmentation with SciPy, image by image."""
    pairs = [augmented(*pair) for pair in zip(image.numpy(), mask.numpy(), draws, strict=True)]
    images, masks = zip(*pairs, strict=True)
    return torch.from_numpy(np.stack(images)).float(), torch.from_numpy(np.stack(masks))


def augmented(image: np.ndarray, mask: np.ndarray, a: AugmentationParams) -> tuple[np.ndarray, np.ndarray]:
    """Augment one image (C, H, W) and its mask (H, W)."""
    if a.rotation or a.scale != 1:
        cos, sin = np.cos(a.rotation) / a.scale, np.sin(a.rotation) / a.scale
        matrix, centre = np.array([[cos, sin], [-sin, cos]]), (np.array(mask.shape) - 1) / 2
        offset = centre - matrix @ centre
        image = np.stack([ndimage.affine_transform(channel, matrix, offset, order=1) for channel in image])
        mask = ndimage.affine_transform(mask, matrix, offset, order=0)
    image, mask = image[:, :: -1 if a.flip_y else 1, :: -1 if a.flip_x else 1], mask[:: -1 if a.flip_y else 1]
    mask = mask[:, :: -1 if a.flip_x else 1]
    if a.noise:
        image = image + a.noise * np.random.default_rng(a.seed).standard_normal(image.shape)
    if a.blur:
        image = ndimage.gaussian_filter(image, (0, a.blur, a.blur), truncate=3)
    image = image * a.brightness
    if a.contrast != 1:
        mean = image.mean(axis=(1, 2), keepdims=True)
        image = mean + (image - mean) * a.contrast
    if a.low_resolution != 1:
        small = ndimage.zoom(image, (1, a.low_resolution, a.low_resolution), order=0)
        image = ndimage.zoom(small, np.array(image.shape) / small.shape, order=3)
    if abs(a.gamma) != 1 or a.gamma < 0:
        image = np.clip(image, 0, 1)
        image = image**a.gamma if a.gamma > 0 else 1 - (1 - image) ** -a.gamma
    return np.ascontiguousarray(np.clip(image, 0, 1)), np.ascontiguousarray(mask)


def make_cases(folder: Path, count: int) -> list[Case]:
    """Smooth random photographs of 529 x 622 px as JPEG, each with an ellipse as mask."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[: _PHOTO_HW[0], : _PHOTO_HW[1]]
    cases = []
    for i in range(count):
        coarse = generator.integers(0, 256, (30, 36, 3), dtype=np.uint8)
        mask = ((y - 260) / generator.integers(60, 200)) ** 2 + ((x - 310) / generator.integers(60, 250)) ** 2 < 1
        image_path, mask_path = folder / f"{i}.jpg", folder / f"{i}.png"
        Image.fromarray(coarse).resize(_PHOTO_HW[::-1], Image.Resampling.BICUBIC).save(image_path, quality=92)
        Image.fromarray(mask.astype(np.uint8)).save(mask_path)
        cases.append(Case(str(i), image_path, mask_path, "train", None, str(i), _PHOTO_HW, float(mask.mean())))
    return cases


if __name__ == "__main__":
    main()
