"""Speed-up of prediction by each optimization: configurations alternating in one run, as ratios in JSON.

    python benchmarks/predict.py [--rounds 3] [--threads 2] [--windows 4] [--forms straightforward ours once]
    python benchmarks/predict.py --threads 1 --forms ours "openvino f32" "openvino int8"

GuiDINO-W (`kvasir-nnwnet`) with the `embedded` backbone, windows of 256 px that overlap by half, four flips: every
configuration predicts the same windows of one image, and its probabilities are compared with those of the first, the
straightforward one: fp32, one window and one flip at a time, every block of the backbone, weights as trained.

Each configuration reports CPU and wall seconds per window (the median over rounds), their ratio to the first, and the
largest difference of a probability. Configurations that keep freed memory run in a separate process, because this
setting of the C library cannot be undone; `peak_mb` is the peak of each of the two processes.
"""

import argparse
import json
import os
import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from guidino_cli.config import load_preset
from guidino_cli.engine.cpu_features import has_amx, has_vnni
from guidino_cli.engine.openvino.conversion import convert_model
from guidino_cli.engine.openvino.network import OpenVinoNetwork
from guidino_cli.engine.openvino.quantization import quantize_network
from guidino_cli.engine.prediction.inference import segment_image
from guidino_cli.engine.prediction.network import Network
from guidino_cli.engine.prediction.sliding import Window, window_corners
from guidino_cli.engine.prediction.speedups import fold_normalisation, use_onednn_kernels
from guidino_cli.models import build_model
from guidino_cli.models.composed import Model
from guidino_cli.processes import keep_all_freed_memory

_WINDOW = Window(256, overlap=0.5, mirror=True, batch_size=1)
_EMBEDDED = ["model.backbone.name=embedded"]
_SIZES = {1: (256, 256), 2: (256, 384), 4: (384, 384), 16: (529, 622)}


@dataclass(frozen=True)
class Form:
    """The optimizations of a configuration."""

    all_blocks: bool = False
    folded: bool = True
    channels_last: bool = True
    kernels: bool = True
    keeps_memory: bool = True
    backbone_once: bool = False
    batch_size: int = 4
    engine: str = ""
    """Precision of OpenVINO, "f32" or "int8"; "" for torch."""


_STRAIGHT = Form(all_blocks=True, folded=False, channels_last=False, kernels=False, keeps_memory=False, batch_size=1)
FORMS = {
    "straightforward": _STRAIGHT,
    "blocks not needed dropped": replace(_STRAIGHT, all_blocks=False),
    "and normalisation folded": replace(_STRAIGHT, all_blocks=False, folded=True),
    "and channels last": Form(kernels=False, keeps_memory=False, batch_size=1),
    "and batches of 4": Form(kernels=False, keeps_memory=False),
    "and oneDNN for GELU and 1x1": Form(keeps_memory=False),
    "ours": Form(),
    "ours, batches of 1": Form(batch_size=1),
    "once": Form(backbone_once=True),
    "openvino f32": Form(engine="f32"),
    "openvino int8": Form(engine="int8"),
}
"""Each includes those above it, up to "ours"; "once" is not the same computation, see `Window.mirror_backbone`."""
TORCH_FORMS = [name for name, form in FORMS.items() if not form.engine]


class Answer(NamedTuple):
    """The result of one prediction in one process; peak in MB, probabilities (2, H, W)."""

    cpu_s: float
    wall_s: float
    peak_mb: int
    probabilities: np.ndarray


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--windows", type=int, default=4, choices=list(_SIZES), help="16 is an image of 529x622 px")
    parser.add_argument("--forms", nargs="+", choices=list(FORMS), default=TORCH_FORMS, help="first: the reference")
    options = parser.parse_args()
    print(json.dumps(measure(options.forms, options.windows, rounds=options.rounds, threads=options.threads), indent=2))


def measure(forms: list[str], windows: int, *, rounds: int, threads: int) -> dict[str, object]:
    """Alternate the configurations in every round, so that a slow minute of the machine affects all of them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        processes = {
            keeps: stack.enter_context(
                ProcessPoolExecutor(1, get_context("spawn"), initializer=_begin, initargs=(threads, keeps))
            )
            for keeps in sorted({FORMS[name].keeps_memory for name in forms})
        }
        answers: dict[str, list[Answer]] = {name: [] for name in forms}
        for engine in sorted({FORMS[name].engine for name in forms} - {""}):
            processes[True].submit(_write_network, folder, engine).result()
        # One extra round: the first warms up.
        for _ in range(rounds + 1):
            for name in forms:
                answers[name].append(
                    processes[FORMS[name].keeps_memory].submit(_predict, name, windows, folder).result()
                )
    count = len(window_corners(_SIZES[windows], _WINDOW))
    return {
        "torch": torch.__version__,
        "threads": threads,
        "cpu": {"vnni": has_vnni(), "amx": has_amx(), "ONEDNN_MAX_CPU_ISA": os.environ.get("ONEDNN_MAX_CPU_ISA")},
        "load": os.getloadavg()[0],
        "image": _SIZES[windows],
        "windows": count,
        "passes": count * _WINDOW.flips,
        "configurations": {name: _line(answers[name], answers[forms[0]], count) for name in forms},
    }


def _begin(threads: int, keeps_memory: bool) -> None:
    torch.set_num_threads(threads)
    if keeps_memory:
        keep_all_freed_memory()


def _write_network(folder: Path, engine: str) -> None:
    """Write the network for OpenVINO; its speed depends neither on the weights nor on the images of the calibration."""
    place = folder / engine / "model.xml"
    if place.exists():
        return
    place.parent.mkdir()
    if engine == "f32":
        convert_model(_model(False, False, False, False), place, side=_WINDOW.size)
        return
    _write_network(folder, "f32")
    noise = np.random.default_rng(0)
    windows = [noise.random((1, 3, _WINDOW.size, _WINDOW.size), dtype=np.float32) for _ in range(4)]
    quantize_network(folder / "f32" / "model.xml", place, windows)


@cache
def _network(path: Path) -> Network:
    return OpenVinoNetwork(path, has_guide=True)


def _predict(name: str, windows: int, folder: Path) -> Answer:
    """Predict the image once with the configuration of this name."""
    form = FORMS[name]
    image = torch.rand(3, *_SIZES[windows], generator=torch.Generator().manual_seed(0))
    torch_model = (form.all_blocks, form.folded, form.channels_last, form.kernels)
    model = _network(folder / form.engine / "model.xml") if form.engine else _model(*torch_model)
    window = replace(_WINDOW, batch_size=form.batch_size, mirror_backbone="once" if form.backbone_once else "each")
    cpu, wall = time.process_time(), time.perf_counter()
    probabilities, _ = segment_image(model, image, window)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Answer(cpu, wall, round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024), probabilities.numpy())


@cache
def _model(all_blocks: bool, folded: bool, channels_last: bool, kernels: bool) -> Model:
    """Build the same weights every time, with normalisation statistics as after training."""
    config = load_preset("kvasir-nnwnet", _EMBEDDED)
    torch.manual_seed(0)
    model = build_model(config.model, num_classes=2, offline=True).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    # The steps of `prepare_for_prediction`.
    if folded:
        fold_normalisation(model.segmenter)
    if kernels:
        use_onednn_kernels(model.segmenter)
    if channels_last:
        model.segmenter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _with_all_blocks(model) if all_blocks else model


def _with_all_blocks(model: Model) -> Model:
    """Also compute the blocks after the one that is read, as an unmodified network does."""
    from guidino_cli.models.backbones.embedded import load_embedded

    whole = load_embedded(layers=[8, 12])

    class Whole(nn.Module):
        def forward(self, image: Tensor) -> list[Tensor]:
            return whole(image)[:1]

    model.backbone = Whole()  # type: ignore[assignment]
    return model


def _line(answers: list[Answer], first: list[Answer], windows: int) -> dict[str, object]:
    cpu, wall = (statistics.median(answer[i] for answer in answers[1:]) for i in (0, 1))
    difference = np.abs(answers[0].probabilities - first[0].probabilities).max()
    return {
        "cpu_seconds_a_window": round(cpu / windows, 3),
        "wall_seconds_a_window": round(wall / windows, 3),
        "times_as_fast_cpu": round(statistics.median(answer.cpu_s for answer in first[1:]) / cpu, 2),
        "times_as_fast_wall": round(statistics.median(answer.wall_s for answer in first[1:]) / wall, 2),
        "largest_difference": float(f"{difference:.1e}"),
        "peak_mb": answers[-1].peak_mb,
    }


if __name__ == "__main__":
    main()
